"""Clients that are slow on purpose: what they hold of the gateway is given back."""

import itertools
import select
from collections.abc import Iterator

import pytest

from tests.conformance.client import RawClient
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import answer_bytes, answers, ok
from tests.conformance.site import Site, Sites, fault_of
from tests.parts import wait_until

LARGE_BYTES = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def hasty_site(sites: Sites) -> Iterator[Site]:
    """A gateway that gives clients a second for a request head or between two pieces of a body."""
    with sites.start("hasty", LECTR_CLIENT_TIMEOUT_S="1") as started:
        yield started


def dribble(client: RawClient, start: bytes) -> int:
    """Send a head without end, a few bytes at a time, until something comes back; how many bytes went out."""
    return client.send_until_answered(itertools.chain([start], itertools.repeat(b"X-Slow: 1\r\n", 200_000)))


def test_a_head_that_takes_too_long(hasty_site: Site) -> None:
    """A client that never ends its request head gets a 408, although it keeps sending."""
    with hasty_site.client() as client:
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Unfinished")
        answer = client.answer()
    assert answer.status == 408
    assert fault_of(answer) == "request_timeout"
    assert answer.closes
    hasty_site.assert_free()


def test_a_head_of_many_lines(site: Site) -> None:
    """A head is refused before it can hold much memory, however short its lines are."""
    with site.client() as client:
        assert dribble(client, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n") < 4_000_000
    assert not site.provider.asked
    site.assert_free()


def test_a_second_head_that_takes_too_long(hasty_site: Site) -> None:
    """The clock runs for the next request on a kept connection too; the one before is answered."""
    hasty_site.provider.script = answers(ok(b"first"))
    with hasty_site.client() as client:
        client.send(hasty_site.request())
        assert client.answer().body == b"first"
        client.send(b"GET /v1/mod")
        late = client.answer()
    assert late.status == 408


def test_an_answer_that_is_not_taken(impatient_site: Site) -> None:
    """A client that takes nothing for the idle timeout is cut off, its provider too, and the event says whose doing."""
    left: list[str] = []
    large = answer_bytes(b"HTTP/1.1 200 OK", b"Content-Length: %d" % LARGE_BYTES, body=bytes(LARGE_BYTES))

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        try:
            connection.send(large)
        except OSError:
            left.append("cut")

    impatient_site.provider.script = play
    with impatient_site.client(receive_buffer_bytes=4096) as client:
        client.send(impatient_site.request(feature="not-taken"))
        event = impatient_site.event("not-taken")
        wait_until(lambda: left)
    assert (event.error_category, event.error_source, event.status) == ("timeout", "client", 200)
    assert event.client_stall_us > 0
    impatient_site.assert_free()


def test_a_body_behind_its_head_is_no_head(hasty_site: Site) -> None:
    """A request whose body comes in a segment of its own is over with its answer: no clock runs on for it."""
    hasty_site.provider.script = answers(ok(b"done"))
    with hasty_site.client() as client, hasty_site.client() as clock:
        start = hasty_site.request("POST /v1/chat/completions HTTP/1.1", b"Content-Length: 2")
        client.send_pieces([start, b"{}"])
        assert client.answer("POST").body == b"done"
        clock.send(b"GET /v1/mod")
        assert clock.answer().status == 408
        hasty_site.assert_free(client)


def test_refusals_that_are_not_taken(site: Site) -> None:
    """A client that asks and asks and never reads its refusals is not listened to for ever."""
    wanted = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000
    sent_bytes = 0
    with site.client(receive_buffer_bytes=4096) as client:
        client.sock.settimeout(0)
        while sent_bytes < LARGE_BYTES and select.select([], [client.sock], [], 1.0)[1]:
            sent_bytes += client.sock.send(wanted)
    assert sent_bytes < LARGE_BYTES
