r"""Server-sent events, cut from a byte stream.

In: decoded bytes, split anywhere. Out: one call per event, with its name and its data (lines joined by `\n`).
Accepts `\n`, `\r\n` and `\r`, comments, a byte order mark, several data lines, and a last event without its blank
line. No byte is scanned twice; a line or an event that is too long arrives as an Excerpt.
Source: WHATWG HTML, server-sent events; the lenient end is what SDKs do.
"""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.usage.bounded import WHOLE_LIMIT_BYTES, BoundedBytes, Excerpt

_LF: Final = 0x0A
_CR: Final = 0x0D
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MAX_NAME_BYTES: Final = 128
_FIELD: Final = b"data: "
_EVENT_END: Final = b"\n\n"

EventSink = Callable[[bytes, bytes | Excerpt], None]


class UsualEvents(Protocol):
    """Takes events that need not be cut out, or not be built, to be read."""

    def read(self, data: bytes) -> bool:
        """Read the data of an event without a name; False, and nothing read, if it is for the sink."""

    def read_run(self, stream: bytes) -> int:
        """Read whole events at the beginning of these bytes, where one begins; how many bytes they take."""


class EventScanner:
    """Feeds events to a sink as soon as their blank line has come."""

    __slots__ = ("_at_start", "_data", "_joined", "_name", "_partial", "_sink", "_skip_lf", "_usual")

    def __init__(self, sink: EventSink, usual: UsualEvents | None = None) -> None:
        """`usual` is asked first, and what it has read does not reach the sink."""
        self._sink = sink
        self._usual = usual
        self._partial = BoundedBytes()
        self._skip_lf = False
        self._at_start = True
        self._name = b""
        self._data: bytes | Excerpt | None = None
        self._joined: BoundedBytes | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if self._skip_lf and chunk:
            # The carriage return that ended the previous chunk may have been half of a \r\n.
            self._skip_lf = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if chunk.startswith(_FIELD) and self._between_events and len(chunk) <= WHOLE_LIMIT_BYTES:
            chunk = self._take_whole(chunk)
        if not chunk:
            return
        lines = chunk.splitlines()  # of bytes: \n, \r and \r\n, nothing else
        last = chunk[-1]
        self._skip_lf = last == _CR
        rest = b"" if last in {_LF, _CR} else lines.pop()
        if lines and self._partial.size_bytes:
            self._partial.add(lines[0])
            self._line(self._partial.take())
            del lines[0]
        for line in lines:
            if line:
                self._line(line)
            else:
                self._dispatch()
        if rest:
            self._partial.add(rest)

    @property
    def _between_events(self) -> bool:
        return self._data is None and not self._name and not self._partial.size_bytes

    def _take_whole(self, chunk: bytes) -> bytes:
        """Take events of one line of data each, if there is nothing else: how most streams come. What is left."""
        self._at_start = False
        usual = self._usual
        if usual is not None and (size := usual.read_run(chunk)):
            chunk = chunk[size:]
        if not (chunk.startswith(_FIELD) and chunk.endswith(_EVENT_END)):
            return chunk
        events = chunk[len(_FIELD) : -len(_EVENT_END)].split(_EVENT_END + _FIELD)
        # No line end but those between the events.
        if chunk.count(b"\n") != 2 * len(events) or b"\r" in chunk:
            return chunk
        for data in events:
            if data and not (usual is not None and usual.read(data)):
                self._sink(b"", data)
        return b""

    def close(self) -> None:
        """Take what has come of an unfinished event as the whole of it."""
        if self._partial.size_bytes:
            self._line(self._partial.take())
        self._dispatch()

    def _line(self, line: bytes | Excerpt) -> None:
        tail = b""
        if isinstance(line, Excerpt):
            line, tail = line
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.startswith(b"data:"):
            data = line[6:] if line.startswith(b"data: ") else line[5:]
            self._add_data(Excerpt(data, tail) if tail else data)
        elif line.startswith(b"event:"):
            self._name = line[6 : 6 + _MAX_NAME_BYTES].strip()

    def _add_data(self, data: bytes | Excerpt) -> None:
        if self._data is None:
            self._data = data
        elif isinstance(self._data, bytes) and isinstance(data, bytes):
            if self._joined is None:
                self._joined = BoundedBytes()
                self._joined.add(self._data)
            self._joined.add(b"\n")
            self._joined.add(data)
        # An Excerpt among several lines: its own ends are all that can be used.
        elif isinstance(data, Excerpt):
            self._data = data

    def _dispatch(self) -> None:
        data, name = self._data, self._name
        if self._joined is not None and isinstance(data, bytes):
            data = self._joined.take()
        self._data, self._joined, self._name = None, None, b""
        if data:
            self._sink(name, data)
