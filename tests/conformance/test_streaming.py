"""Nothing is held back: each piece arrives before the next one is sent, in both directions."""

import threading

import pytest

from tests.conformance.cases_response import CHUNKED, EVENTS, SSE, STATUS
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import answer_bytes, ok
from tests.conformance.site import Site
from tests.conformance.wire import DEADLINE_S, chunked

ROUNDS = 50


class Turns:
    """Two threads that go on in turns."""

    def __init__(self) -> None:
        self._seen = threading.Semaphore(0)

    def seen(self) -> None:
        """The other side may send its next piece."""
        self._seen.release()

    def wait(self) -> None:
        """Until the other side has seen the last piece."""
        assert self._seen.acquire(timeout=DEADLINE_S), "a piece was held back"


def piece(at: int) -> bytes:
    return b"data: %d %b\n\n" % (at, EVENTS[0])


@pytest.mark.parametrize("framing", ["chunks", "length", "to the end"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_answer(site: Site, version: str, framing: str) -> None:
    """Each event of a stream, and its head alone, reaches the client before the provider sends the next."""
    turns = Turns()
    pieces = [piece(at) for at in range(ROUNDS)]
    line = {
        "chunks": CHUNKED,
        "length": b"Content-Length: %d" % sum(len(each) for each in pieces),
        "to the end": b"Connection: close",
    }[framing]

    def play(connection: Connection, request: Request) -> None:
        connection.send(answer_bytes(STATUS, SSE, line))
        turns.wait()
        for each in pieces:
            connection.send(chunked(each).removesuffix(b"0\r\n\r\n") if framing == "chunks" else each)
            turns.wait()
        connection.send(chunked() if framing == "chunks" else b"")
        if framing == "to the end":
            connection.close()

    site.provider.script = play
    with site.client() as client:
        client.send(site.request(f"GET /v1/stream HTTP/{version}"))
        client.wire.until(b"\r\n\r\n")
        turns.seen()
        for each in pieces:
            client.wire.until(each)
            turns.seen()
    site.provider.wait_idle()


@pytest.mark.parametrize("framing", ["chunks", "length"])
def test_upload(site: Site, framing: str) -> None:
    """Each piece of a streamed upload reaches the provider before the client sends the next."""
    turns = Turns()
    pieces = [piece(at) for at in range(ROUNDS)]
    line = CHUNKED if framing == "chunks" else b"Content-Length: %d" % sum(len(each) for each in pieces)

    def play(connection: Connection, request: Request) -> None:
        turns.seen()
        for each in pieces:
            connection.wire.until(each)
            turns.seen()
        if framing == "chunks":
            connection.wire.until(b"0\r\n\r\n")
        connection.send(ok(b"{}"))

    site.provider.script = play
    with site.client() as client:
        kind = b"Content-Type: application/octet-stream"
        client.send(site.request("POST /v1/files HTTP/1.1", kind, line))
        turns.wait()
        for each in pieces:
            client.send(chunked(each).removesuffix(b"0\r\n\r\n") if framing == "chunks" else each)
            turns.wait()
        if framing == "chunks":
            client.send(chunked())
        assert client.answer().body == b"{}"
