"""Ready-made scripts of the provider; tests with a plot of their own write theirs in place."""

from collections.abc import Iterable, Iterator
from typing import Literal

from tests.conformance.provider import Connection, Request, Script

Then = Literal["keep", "close", "reset"]


def pieces_of(data: bytes, size_bytes: int) -> Iterator[bytes]:
    """The data in pieces of one size."""
    return (data[at : at + size_bytes] for at in range(0, len(data), size_bytes))


def answers(data: bytes, *, then: Then = "keep", piece_bytes: int = 0) -> Script:
    """Read the request whole, send these bytes (in pieces that the peer reads one by one), and keep or end."""
    return answers_pieces([data] if not piece_bytes else list(pieces_of(data, piece_bytes)), then=then)


def answers_pieces(pieces: Iterable[bytes], *, then: Then = "keep") -> Script:
    """As `answers`, with pieces of the test's own."""
    cut = list(pieces)

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        if len(cut) == 1:
            connection.send(cut[0])
        else:
            connection.send_pieces(cut)
        end(connection, then)

    return play


def end(connection: Connection, then: Then) -> None:
    """Leave the connection open, or end it."""
    if then == "close":
        connection.close()
    elif then == "reset":
        connection.reset()


def ok(body: bytes, *lines: bytes) -> bytes:
    """A plain 200 with a length."""
    return answer_bytes(b"HTTP/1.1 200 OK", *lines, b"Content-Length: %d" % len(body), body=body)


def answer_bytes(start: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    """An answer of a status line, header lines and whatever follows."""
    return b"\r\n".join((start, *lines)) + b"\r\n\r\n" + body
