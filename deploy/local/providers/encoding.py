"""Content codings: gzip, deflate (zlib), br, zstd, one flush per piece, and back again for request bodies.

In: pieces of a body. Out: encoded pieces, each decodable at once by a reader that has the earlier ones.
"""

import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # the wheel ships no stubs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_WINDOW: Final = 31
ZLIB_WINDOW: Final = 15


class UndecodableBodyError(Exception):
    """A request body is not in the coding its header names."""


class _Encoder(Protocol):
    def encode(self, piece: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class _Zlib:
    def __init__(self, window: int) -> None:
        self._compressor = zlib.compressobj(wbits=window)

    def encode(self, piece: bytes) -> bytes:
        return self._compressor.compress(piece) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._compressor.flush()


class _Brotli:
    def __init__(self) -> None:
        self._compressor = brotli.Compressor(quality=4)

    def encode(self, piece: bytes) -> bytes:
        return bytes(self._compressor.process(piece) + self._compressor.flush())

    def finish(self) -> bytes:
        return bytes(self._compressor.finish())


class _Zstd:
    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor()

    def encode(self, piece: bytes) -> bytes:
        return self._compressor.compress(piece, mode=zstd.ZstdCompressor.FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._compressor.flush()


def accepts(accept_encoding: str, coding: str) -> bool:
    """Tell whether the header names the coding (or `*`) without ruling it out by q=0."""
    for offer in accept_encoding.split(","):
        name, _, weight = offer.partition(";")
        if name.strip().lower() in {coding, "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0"}
    return False


def encode(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Yield the pieces encoded, and the coding's end as one more piece."""
    encoder = _encoder(coding)
    for piece in pieces:
        yield encoder.encode(piece)
    end = encoder.finish()
    if end:
        yield end


def decode(body: bytes, coding: str) -> bytes:
    """Return a request body decoded; an empty or unknown coding leaves it as it is.

    Raises UndecodableBodyError.
    """
    try:
        match coding.strip().lower():
            case "gzip" | "x-gzip":
                return zlib.decompress(body, wbits=GZIP_WINDOW)
            case "deflate":
                return zlib.decompress(body, wbits=ZLIB_WINDOW)
            case "br":
                return bytes(brotli.decompress(body))
            case "zstd":
                return zstd.decompress(body)
            case _:
                return body
    except (zlib.error, brotli.error, zstd.ZstdError) as error:
        raise UndecodableBodyError(f"body is not valid {coding}") from error


def _encoder(coding: str) -> _Encoder:
    match coding:
        case "gzip":
            return _Zlib(GZIP_WINDOW)
        case "deflate":
            return _Zlib(ZLIB_WINDOW)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
        case _:
            raise ValueError(f"no such coding: {coding}")
