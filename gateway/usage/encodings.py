"""Content-encodings, undone on a copy of the answer, in steps.

In: encoded bytes, split anywhere, and the header's value. Out: decoded pieces of about STEP_BYTES at most. Knows gzip
(with several members), deflate (with and without its zlib frame), br, zstd, and several of them in a row. Raises
EncodingFault for names it does not know, for corrupt data and for bombs; never decodes a bomb to its end.
"""

import sys
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # it ships no types

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 64 * 1024
FREE_BYTES: Final = 8 * 1024 * 1024
MAX_RATIO: Final = 256
"""An answer may grow to FREE_BYTES, and beyond that to MAX_RATIO times what was received: repetitive event streams
reach about 75, bombs 1,000 (gzip) to 100,000 (zstd, br). So the work stays proportional to the traffic."""
_MAX_CODINGS: Final = 3
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_GZIP_FIRST_BYTE: Final = 0x1F
_ZLIB_HEADER_BYTES: Final = 2
_ZLIB_METHOD: Final = 8
_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB, what RFC 9659 allows for the content-coding; a frame may ask for gigabytes."""


class EncodingFault(Exception):
    """The copy cannot be decoded (any further)."""


class Decoder(Protocol):
    """Undoes one encoding."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to; raises EncodingFault."""


class _Inflate:
    """One zlib object, emptied in steps; `rest` is what followed its end, None before the end."""

    __slots__ = ("_inflater", "rest")

    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits)
        self.rest: bytes | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        # A full step may leave output behind although all input was taken.
        while data or len(piece) == STEP_BYTES:
            try:
                piece = self._inflater.decompress(data, STEP_BYTES)
            except zlib.error as fault:
                raise EncodingFault("corrupt gzip or deflate") from fault
            if piece:
                yield piece
            if self._inflater.eof:
                self.rest = self._inflater.unused_data
                return
            data = self._inflater.unconsumed_tail


class _Gzip:
    __slots__ = ("_ended", "_member")

    def __init__(self) -> None:
        self._member = _Inflate(_GZIP_WBITS)
        self._ended = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ended:
            if self._member.rest is not None:
                # Whatever follows a member and does not start like another one is padding.
                self._ended = data[0] != _GZIP_FIRST_BYTE
                if self._ended:
                    return
                self._member = _Inflate(_GZIP_WBITS)
            yield from self._member.decode(data)
            data = self._member.rest or b""


class _Deflate:
    """RFC 9110 means zlib's frame, some servers send the bare stream; the first two bytes tell."""

    __slots__ = ("_start", "_stream")

    def __init__(self) -> None:
        self._start = b""
        self._stream: _Inflate | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._start = self._start + data
            if len(data) < _ZLIB_HEADER_BYTES:
                return
            framed = data[0] & 0x0F == _ZLIB_METHOD and int.from_bytes(data[:_ZLIB_HEADER_BYTES], "big") % 31 == 0
            self._stream = _Inflate(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
            self._start = b""
        if self._stream.rest is None:
            yield from self._stream.decode(data)


class _Brotli:
    __slots__ = ("_stream",)

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._stream.is_finished():
            return
        while True:
            try:
                piece = self._stream.process(data, output_buffer_limit=STEP_BYTES)
            except brotli.error as fault:
                raise EncodingFault("corrupt br") from fault
            if piece:
                yield piece
            # It also says that it accepts more while a full step's output is still inside.
            emptied = len(piece) < STEP_BYTES and self._stream.can_accept_more_data()
            if emptied or self._stream.is_finished():
                return
            data = b""


class _Zstd:
    __slots__ = ("_frame",)

    def __init__(self) -> None:
        self._frame = _new_zstd_frame()

    def decode(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._frame.eof:
                data = self._frame.unused_data or data
                if not data:
                    return
                self._frame = _new_zstd_frame()
            try:
                piece = self._frame.decompress(data, STEP_BYTES)
            except zstd.ZstdError as fault:
                raise EncodingFault("corrupt zstd") from fault
            if piece:
                yield piece
            data = b""
            if self._frame.needs_input or (self._frame.eof and not self._frame.unused_data):
                return


def _new_zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


class _Chain:
    """The outer encoding's output is the inner one's input."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer = outer
        self._inner = inner

    def decode(self, data: bytes) -> Iterator[bytes]:
        for piece in self._outer.decode(data):
            yield from self._inner.decode(piece)


class _Guarded:
    """Stops a bomb."""

    __slots__ = ("_decoder", "_in_bytes", "_out_bytes")

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._in_bytes = 0
        self._out_bytes = 0

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._in_bytes += len(data)
        for piece in self._decoder.decode(data):
            self._out_bytes += len(piece)
            if self._out_bytes > FREE_BYTES + MAX_RATIO * self._in_bytes:
                raise EncodingFault("decodes to implausibly much")
            yield piece


_DECODERS: Final[dict[str, type[_Gzip] | type[_Deflate] | type[_Brotli] | type[_Zstd]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


def open_decoder(content_encoding: str) -> Decoder | None:
    """Return the decoder for the header's value, None if the bytes are plain; raises EncodingFault if unknown."""
    if not content_encoding:
        return None
    names = [name.strip().lower() for name in content_encoding.split(",")]
    codings = [name for name in names if name not in {"", "identity"}]
    if len(codings) > _MAX_CODINGS or not _DECODERS.keys() >= set(codings):
        raise EncodingFault("unknown content-encoding")
    decoder: Decoder | None = None
    # The header lists them in the order in which they were applied, so the last one is the outermost.
    for name in reversed(codings):
        decoder = _DECODERS[name]() if decoder is None else _Chain(decoder, _DECODERS[name]())
    return None if decoder is None else _Guarded(decoder)
