"""Bytes that may be kept whole, and what remains of them when they may not.

In: pieces of a document or of a line. Out: the whole, or an Excerpt of its two ends. Never holds more than
WHOLE_LIMIT_BYTES, or HEAD_BYTES + 2 * TAIL_BYTES once that was exceeded.
"""

from typing import Final, NamedTuple

WHOLE_LIMIT_BYTES: Final = 2 * 1024 * 1024
"""Documents up to here are parsed whole: 128k output tokens are half a MiB of JSON, and parsing 2 MiB holds up the
event loop for 3 to 15 ms. What is larger is vectors, pictures or log probabilities, whose figures stand at the ends."""

HEAD_BYTES: Final = 256 * 1024
"""A response repeats the request's instructions before it names the model."""
TAIL_BYTES: Final = 256 * 1024


class Excerpt(NamedTuple):
    """The two ends of something too long; what stood between is gone."""

    head: bytes
    tail: bytes


class BoundedBytes:
    """Collects pieces; adding is cheap whatever their size."""

    __slots__ = ("_head", "_kept", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self._kept = bytearray()
        self._head = b""

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self.size_bytes += len(piece)
        self._kept += piece
        if not self._head:
            if len(self._kept) > WHOLE_LIMIT_BYTES:
                self._head = bytes(self._kept[:HEAD_BYTES])
                self._kept = self._kept[-TAIL_BYTES:]
        elif len(self._kept) > 2 * TAIL_BYTES:
            self._kept = self._kept[-TAIL_BYTES:]

    def take(self) -> bytes | Excerpt:
        """Return what was collected and start over."""
        taken = Excerpt(self._head, bytes(self._kept[-TAIL_BYTES:])) if self._head else bytes(self._kept)
        self.size_bytes = 0
        self._kept = bytearray()
        self._head = b""
        return taken
