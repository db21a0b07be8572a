"""Content codings of HTTP bodies: gzip, deflate, br, zstd and lz4 (frame), both ways, in bounded steps.

In: bytes as they come. Out: bytes, at most STEP_BYTES at a time when unpacking, so that a few kilobytes cannot
become gigabytes in memory at once. Knows nothing of HTTP or of limits on the whole.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import brotli  # type: ignore[import-untyped] # ships no type information
import lz4.frame  # type: ignore[import-untyped] # ships no type information

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 1 << 20
CODINGS: Final = ("zstd", "lz4", "br", "gzip", "deflate")
"""In the order of preference among codings that a client likes equally: cheap first."""

_ERRORS: Final = (zlib.error, brotli.error, zstd.ZstdError, RuntimeError, EOFError, ValueError)


class CodingError(ValueError):
    """The bytes are not what the coding's name says, or end too early."""


class Packer(Protocol):
    """Compresses a body piece by piece."""

    def pack(self, data: bytes | memoryview) -> bytes:
        """Compressed bytes, possibly none yet."""

    def finish(self) -> bytes:
        """The last bytes."""


class _ZlibPacker:
    def __init__(self, wbits: int) -> None:
        self._inner = zlib.compressobj(3, zlib.DEFLATED, wbits)
        self.pack = self._inner.compress
        self.finish = self._inner.flush


class _ZstdPacker:
    def __init__(self) -> None:
        self._inner = zstd.ZstdCompressor(level=1)
        self.pack = self._inner.compress
        self.finish = self._inner.flush


class _BrotliPacker:
    def __init__(self) -> None:
        self._inner = brotli.Compressor(quality=3)

    def pack(self, data: bytes | memoryview) -> bytes:
        packed: bytes = self._inner.process(bytes(data))
        return packed

    def finish(self) -> bytes:
        last: bytes = self._inner.finish()
        return last


class _Lz4Packer:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._inner.begin()

    def pack(self, data: bytes | memoryview) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._inner.compress(data))

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._inner.flush())


def packer(coding: str) -> Packer:
    """A compressor for one of CODINGS."""
    match coding:
        case "gzip":
            return _ZlibPacker(31)
        case "deflate":
            return _ZlibPacker(15)
        case "br":
            return _BrotliPacker()
        case "zstd":
            return _ZstdPacker()
        case "lz4":
            return _Lz4Packer()
    raise CodingError(f"unknown coding {coding!r}")


class Unpacker:
    """Decompresses a body piece by piece. Raises CodingError for bytes that are not of the coding."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inner = _unpack_engine(coding)
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpacked pieces of at most STEP_BYTES or so."""
        try:
            yield from self._feed(data)
        except _ERRORS as error:
            raise CodingError(f"the body is not valid {self._coding}: {error}") from None

    def _feed(self, data: bytes) -> Iterator[bytes]:
        if self._coding == "br":
            yield from self._feed_brotli(data)
            return
        while data or not self._needs_input():
            if self._inner.eof:
                # Another gzip member or zstd/lz4 frame follows.
                self._inner = _unpack_engine(self._coding)
            self._fresh = False
            piece = self._inner.decompress(data, STEP_BYTES)
            data = getattr(self._inner, "unconsumed_tail", b"")
            if self._inner.eof:
                data = self._inner.unused_data or b""
            yield piece

    def _feed_brotli(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        self._fresh = False
        yield self._inner.process(data, output_buffer_limit=STEP_BYTES)
        while not self._inner.can_accept_more_data():
            yield self._inner.process(b"", output_buffer_limit=STEP_BYTES)

    def _needs_input(self) -> bool:
        return bool(self._inner.eof or getattr(self._inner, "needs_input", True))

    def finish(self) -> None:
        """Check that the body was complete; an empty body is."""
        ended = self._inner.is_finished() if self._coding == "br" else self._inner.eof
        if not ended and not self._fresh:
            raise CodingError(f"the {self._coding} body ends too early")


def _unpack_engine(coding: str) -> Any:
    match coding:
        case "gzip":
            return zlib.decompressobj(31)
        case "deflate":
            return zlib.decompressobj(15)
        case "br":
            return brotli.Decompressor()
        case "zstd":
            return zstd.ZstdDecompressor()
        case "lz4":
            return lz4.frame.LZ4FrameDecompressor()
    raise CodingError(f"Content-Encoding {coding!r} is not supported; use one of {', '.join(CODINGS)}")


def choose_coding(accept_encoding: str) -> str:
    """The coding to answer with: the client's weights first, then our order; empty for none."""
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.strip().partition(";")
        weight = parameters.replace(" ", "").removeprefix("q=") or "1"
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            weights[name.strip()] = 0.0
    usable = [name for name in CODINGS if weights.get(name, 0.0) > 0]
    return max(usable, key=lambda name: weights[name], default="")
