"""Just enough of HTTP/1 to know where a message ends; every byte is kept as it came.

In: a socket. Out: heads and bodies as on the wire, chunk-size lines and trailers included. Deliberately naive: it
never corrects what it reads, so that two runs can be compared byte by byte.
"""

import socket
from dataclasses import dataclass
from typing import Literal

DEADLINE_S = 30.0
HEAD_END = b"\r\n\r\n"
Framing = int | Literal["chunked", "close"]


class Broken(Exception):
    """The peer ended the connection inside a message; `how` is closed or reset."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Wire:
    """A socket's incoming bytes; `taken` are those since the last `mark`, whatever became of the message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = bytearray()
        self.taken = bytearray()

    def mark(self) -> None:
        """Forget what was taken so far."""
        self.taken = bytearray()

    def until(self, marker: bytes) -> bytes:
        """Take everything up to and including the marker. Raises Broken."""
        searched = 0
        while (at := self.waiting.find(marker, searched)) < 0:
            searched = max(0, len(self.waiting) - len(marker) + 1)
            self._receive()
        return self._take(at + len(marker))

    def exactly(self, count: int) -> bytes:
        """Take so many bytes. Raises Broken."""
        self.wait_for(count)
        return self._take(count)

    def wait_for(self, count: int) -> None:
        """Wait until so many bytes are there to be taken. Raises Broken."""
        while len(self.waiting) < count:
            self._receive()

    def to_end(self) -> bytes:
        """Take everything until the peer closes its side cleanly. Raises Broken on a reset."""
        try:
            while True:
                self._receive()
        except Broken as end:
            if end.how != "closed":
                raise
        return self._take(len(self.waiting))

    def body(self, framing: Framing) -> None:
        """Take a body as it is framed; it is found in `taken`. Raises Broken."""
        if framing == "close":
            self.to_end()
        elif framing == "chunked":
            while size := int(self.until(b"\r\n").partition(b";")[0], 16):
                self.exactly(size + 2)
            while self.until(b"\r\n") != b"\r\n":
                pass
        else:
            self.exactly(framing)

    def _take(self, count: int) -> bytes:
        piece = bytes(self.waiting[:count])
        del self.waiting[:count]
        self.taken += piece
        return piece

    def _receive(self) -> None:
        try:
            piece = self.sock.recv(1 << 20)
        except ConnectionError:
            piece, how = b"", "reset"
        else:
            how = "closed"
        if not piece:
            # What came of a message that will never be whole counts as taken.
            if how == "reset":
                self._take(len(self.waiting))
            raise Broken(how)
        self.waiting += piece


@dataclass(frozen=True)
class Head:
    """A start line and the header lines below it, without line ends; the bytes as they were."""

    start: bytes
    lines: tuple[bytes, ...]

    @classmethod
    def of(cls, raw: bytes) -> "Head":
        """Cut a whole head into its lines."""
        start, *lines = raw.removesuffix(HEAD_END).split(b"\r\n")
        return cls(start, tuple(lines))

    def values(self, name: bytes) -> list[bytes]:
        """Values of a field, in order, without the white space around them."""
        return [value_of(line) for line in self.lines if name_of(line) == name]

    @property
    def status(self) -> int:
        """The status code of an answer's head."""
        return int(self.start.split(b" ")[1])


def name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def value_of(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t")


def request_framing(head: Head) -> Framing:
    """How a request's body ends."""
    if head.values(b"transfer-encoding"):
        return "chunked"
    lengths = head.values(b"content-length")
    return int(lengths[0]) if lengths else 0


def answer_framing(head: Head, method: str) -> Framing:
    """How an answer's body ends (RFC 9112 6.3)."""
    if method == "HEAD" or head.status in {204, 304}:
        return 0
    if head.values(b"transfer-encoding"):
        return "chunked"
    lengths = head.values(b"content-length")
    return int(lengths[0]) if lengths else "close"


def unframed(body: bytes, framing: Framing) -> bytes:
    """A whole body without its framing."""
    if framing != "chunked":
        return body
    parts: list[bytes] = []
    at = 0
    while True:
        line_end = body.index(b"\r\n", at)
        size = int(body[at:line_end].partition(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
