"""Clients that leave: the provider's connection ends at once, and the event says who left."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.conformance.cases_response import CHUNKED, EVENTS, JSON, SSE, STATUS
from tests.conformance.client import RawClient
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import answer_bytes, answers, ok
from tests.conformance.site import Site
from tests.conformance.wire import DEADLINE_S, Broken, chunked

Leave = Callable[[RawClient], None]
LEAVES = pytest.mark.parametrize(
    "leave", [lambda client: client.sock.close(), lambda client: client.reset()], ids=["close", "reset"]
)
STREAM = (
    b'data: {"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"hello"}}]}',
    b'data: {"model":"gpt-4o-mini","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    b'data: {"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    b"data: [DONE]",
)
CHAT = b'{"model":"gpt-4o-mini","messages":[]}'


class Parting:
    """The moment when a client leaves, and when the provider sees it."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.seen = threading.Event()
        self.left_s = 0.0
        self.seen_s = 0.0

    def wait(self, connection: Connection) -> None:
        """The provider's side: say that the client may leave, wait until the gateway does, and send nothing."""
        self.ready.set()
        connection.wait_left()
        self.note()

    def note(self) -> None:
        self.seen_s = time.monotonic()
        self.seen.set()

    def leave(self, client: RawClient, leave: Leave) -> None:
        """The client's side."""
        assert self.ready.wait(DEADLINE_S)
        self.left_s = time.monotonic()
        leave(client)
        assert self.seen.wait(DEADLINE_S), "the provider's connection outlives its client"
        print(f"the provider saw it {(self.seen_s - self.left_s) * 1000:.1f} ms after the client left")


def chat(site: Site, feature: str, body: bytes = CHAT) -> bytes:
    lines = (JSON, b"Content-Length: %d" % len(body))
    return site.request("POST /v1/chat/completions HTTP/1.1", *lines, body=body, feature=feature)


def assert_event(site: Site, feature: str, status: int) -> None:
    event = site.event(feature)
    assert (event.error_category, event.error_source, event.status) == ("client_disconnect", "client", status)


@LEAVES
def test_before_the_head(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves while the provider thinks: the provider's connection ends, nobody is answered."""
    parting = Parting()

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        parting.wait(connection)

    site.provider.script = play
    with site.client() as client:
        client.send(chat(site, feature))
        parting.leave(client, leave)
    assert_event(site, feature, 499)
    site.assert_free()


def stream_that_goes_on(site: Site, *events: bytes) -> Parting:
    """The provider sends these, and waits for the client to leave before the last chunk."""
    parting = Parting()
    started = answer_bytes(STATUS, SSE, CHUNKED, body=chunked(*events).removesuffix(b"0\r\n\r\n"))

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        connection.send_pieces([started])
        parting.wait(connection)

    site.provider.script = play
    return parting


@LEAVES
def test_inside_a_stream(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves in the middle of a stream ends it at the provider, between two events as well."""
    parting = stream_that_goes_on(site, EVENTS[0] + b"\n\n")
    with site.client() as client:
        client.send(chat(site, feature))
        assert client.wire.until(EVENTS[0] + b"\n\n")
        parting.leave(client, leave)
    assert_event(site, feature, 200)
    site.assert_free()


@LEAVES
def test_behind_the_end_marker(site: Site, feature: str, leave: Leave) -> None:
    """A client that closes at a stream's end marker, as SDKs do, had its answer: no disconnect, usage as reported."""
    parting = stream_that_goes_on(site, *(event + b"\n\n" for event in STREAM))
    with site.client() as client:
        client.send(chat(site, feature))
        assert client.wire.until(b"data: [DONE]\n\n")
        parting.leave(client, leave)
    event = site.event(feature)
    assert (event.status, event.error_category, event.error_source) == (200, "", "")
    assert (event.usage_source, event.finish_reason, event.usage.output_text_tokens) == ("provider", "stop", 2)
    site.assert_free()


@LEAVES
def test_inside_a_body_of_known_length(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves in the middle of a plain body ends it at the provider."""
    parting = Parting()

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        connection.send_pieces([ok(b"0123456789")[:-5]])
        parting.wait(connection)

    site.provider.script = play
    with site.client() as client:
        client.send(chat(site, feature))
        assert client.wire.until(b"01234")
        parting.leave(client, leave)
    assert_event(site, feature, 200)
    site.assert_free()


@LEAVES
def test_while_the_provider_sends(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves a stream that never pauses stops its provider."""
    parting = Parting()

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        connection.send(answer_bytes(STATUS, SSE, CHUNKED))
        parting.ready.set()
        event = chunked(EVENTS[0] + b"\n\n").removesuffix(b"0\r\n\r\n")
        try:
            while True:
                connection.send(event)
        except ConnectionError:
            parting.note()

    site.provider.script = play
    with site.client() as client:
        client.send(chat(site, feature))
        assert client.wire.until(EVENTS[0] + b"\n\n")
        parting.leave(client, leave)
    assert_event(site, feature, 200)
    site.assert_free()


@LEAVES
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_inside_an_upload(site: Site, feature: str, leave: Leave, framing: str) -> None:
    """A client that leaves in the middle of a streamed upload: the provider never sees an end of it."""
    parting = Parting()
    half = b"x" * 100_000

    def play(connection: Connection, request: Request) -> None:
        connection.wire.wait_for(len(half))
        parting.ready.set()
        try:
            connection.read_body(request)
        except Broken:
            parting.note()

    site.provider.script = play
    lines = b"Content-Length: 200000" if framing == "length" else CHUNKED
    body = half if framing == "length" else b"%x\r\n%b" % (2 * len(half), half)
    with site.client() as client:
        kind = b"Content-Type: application/octet-stream"
        client.send(site.request("POST /v1/files HTTP/1.1", kind, lines, body=body, feature=feature))
        parting.leave(client, leave)
    assert_event(site, feature, 499)
    site.assert_free()


@LEAVES
def test_inside_a_held_upload(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves in the middle of a body that is held: no provider is asked, and there is an event."""
    with site.client() as client:
        client.send_pieces([chat(site, feature)[:-5]])
        leave(client)
    assert_event(site, feature, 499)
    assert site.provider.asked == []
    site.assert_free()


@LEAVES
def test_while_others_stay(site: Site, feature: str, leave: Leave) -> None:
    """A client that leaves takes only its own request with it: another one's stream goes on."""
    parting = Parting()
    go_on = threading.Event()

    def play(connection: Connection, request: Request) -> None:
        if request.target == b"/v1/stays":
            connection.send(answer_bytes(STATUS, CHUNKED, body=b"1\r\na\r\n"))
            assert go_on.wait(DEADLINE_S)
            connection.send(b"1\r\nb\r\n0\r\n\r\n")
        else:
            parting.wait(connection)

    site.provider.script = play
    with site.client() as staying, site.client() as leaving:
        staying.send(site.request("GET /v1/stays HTTP/1.1"))
        leaving.send(site.request("GET /v1/leaves HTTP/1.1", feature=feature))
        parting.leave(leaving, leave)
        go_on.set()
        assert staying.answer().body == b"ab"
    assert_event(site, feature, 499)


def test_after_the_answer(site: Site, feature: str) -> None:
    """A client that leaves after it got everything has left nothing: the event says success."""
    site.provider.script = answers(ok(b"{}"))
    with site.client() as client:
        client.send(site.request("GET /v1/models HTTP/1.1", feature=feature))
        assert client.answer().body == b"{}"
        client.reset()
    event = site.event(feature)
    assert (event.status, event.error_category) == (200, "")


def test_one_of_two_pipelined(site: Site, feature: str) -> None:
    """A client that leaves with a second request waiting: the first ends at the provider, the second never starts."""
    parting = Parting()

    def play(connection: Connection, request: Request) -> None:
        parting.wait(connection)

    site.provider.script = play
    with site.client() as client:
        client.send(site.request("GET /v1/first HTTP/1.1", feature=feature) + site.request("GET /v1/second HTTP/1.1"))
        parting.leave(client, lambda client: client.reset())
    assert_event(site, feature, 499)
    assert [request.target for request in site.provider.asked] == [b"/v1/first"]
    site.assert_free()
