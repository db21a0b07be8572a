"""Where a body ends: by length, by chunks, or with the connection. Incremental, and strict.

In: bytes as they arrive. Out: how many of them may be handed on, and the payload in them. Never buffers a body: what is
held back is at most one unfinished chunk-size line or the trailer section. No I/O.
"""

import re
from typing import Final

_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_SIZE_LINE_START: Final = re.compile(rb"[0-9a-fA-F]{0,15}(?:[ \t]*|[ \t]*;[\t\x20-\x7e\x80-\xff]*)\r?")
_TRAILERS: Final = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_TRAILERS_START: Final = re.compile(rb"[^\x00\n]*(?:(?<=\r)\n[^\x00\n]*)*")
_LONGEST_SIZE_LINE_BYTES: Final = 4096
"""Chunk extensions are legal and unused; endless ones are an attack."""
_LONGEST_TRAILERS_BYTES: Final = 16 * 1024


_LONGEST_KNOWN_DIGITS: Final = 4
_MOST_KNOWN_SIZES: Final = 4096
_known_sizes: dict[bytes, int] = {}
"""Size lines that were checked before, without their CRLF; of a few thousand sizes most streams are made."""


class MalformedAnswer(Exception):
    """An answer that two parsers could read in two ways, or none."""


class Length:
    """A body of a known number of bytes."""

    __slots__ = ("ended", "left_bytes")

    def __init__(self, length_bytes: int) -> None:
        self.left_bytes = length_bytes
        self.ended = False

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """What goes on, the payload in it, and what follows the end."""
        size = len(data)
        if size < self.left_bytes:
            self.left_bytes -= size
            return data, data, b""
        wire = data if size == self.left_bytes else data[: self.left_bytes]
        rest = data[self.left_bytes :]
        self.left_bytes = 0
        self.ended = True
        return wire, wire, rest


class UntilClose:
    """A body that ends with its connection."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """All of it, each time."""
        return data, data, b""


class Chunked:
    """A chunked body with its size lines, extensions and trailers (RFC 9112 7.1)."""

    __slots__ = ("_held", "_in_trailers", "_left_bytes", "_line_end_due", "ended")

    def __init__(self) -> None:
        self._held = b""
        self._left_bytes = 0
        self._line_end_due = False
        self._in_trailers = False
        self.ended = False

    def take(self, data: bytes) -> tuple[bytes, bytes, bytes]:  # noqa: C901, PLR0912 - runs for every event of a stream
        """What goes on (framing included), the payload in it, and what follows the end. Raises MalformedAnswer.

        An unfinished line is held back until it can be checked.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        elif not (self._left_bytes or self._line_end_due or self._in_trailers):
            # One whole chunk per piece is how most streams come.
            digits = data[: data.find(b"\r\n", 0, _LONGEST_KNOWN_DIGITS + 2)]
            size = _known_sizes.get(digits, 0)
            if size and len(data) == len(digits) + size + 4 and data.endswith(b"\r\n"):
                return data, data[len(digits) + 2 : -2], b""
        size, at = len(data), 0
        pieces: list[bytes] = []
        while at < size:
            if self._left_bytes:
                piece = data[at : at + self._left_bytes]
                pieces.append(piece)
                at += len(piece)
                self._left_bytes -= len(piece)
                self._line_end_due = not self._left_bytes
            elif self._line_end_due:
                if data.startswith(b"\r\n", at):
                    at += 2
                    self._line_end_due = False
                elif data[at:] == b"\r":
                    break
                else:
                    raise MalformedAnswer("a chunk is longer than its size")
            elif self._in_trailers:
                end = self._end_of_trailers(data, at)
                if end < 0:
                    break
                at = end
                self.ended = True
                break
            else:
                line = _SIZE_LINE.match(data, at)
                if line is None:
                    self._check_start_of_line(data, at)
                    break
                if line.end() - at > _LONGEST_SIZE_LINE_BYTES:
                    raise MalformedAnswer("a chunk-size line without end")
                at = line.end()
                self._left_bytes = int(line[1], 16)
                if len(line[0]) <= _LONGEST_KNOWN_DIGITS + 2 and len(_known_sizes) < _MOST_KNOWN_SIZES:
                    _known_sizes[line[0][:-2]] = self._left_bytes
                self._in_trailers = not self._left_bytes
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.ended:
            return (data if at == size else data[:at]), payload, data[at:]
        if at < size:
            self._held = data[at:]
            return data[:at], payload, b""
        return data, payload, b""

    @staticmethod
    def _check_start_of_line(data: bytes, at: int) -> None:
        if len(data) - at > _LONGEST_SIZE_LINE_BYTES or not _SIZE_LINE_START.fullmatch(data, at):
            raise MalformedAnswer("not a chunk-size line")

    @staticmethod
    def _end_of_trailers(data: bytes, at: int) -> int:
        """Where the trailer section ends, -1 when it is not all here."""
        found = _TRAILERS.match(data, at)
        if found is not None and found.end() - at <= _LONGEST_TRAILERS_BYTES:
            return found.end()
        if len(data) - at > _LONGEST_TRAILERS_BYTES:
            raise MalformedAnswer("trailers without end")
        if b"\r\n\r\n" in data[at:] or data.startswith(b"\r\n", at) or not _TRAILERS_START.fullmatch(data, at):
            raise MalformedAnswer("a trailer line that is no field")
        return -1


Framing = Length | Chunked | UntilClose
