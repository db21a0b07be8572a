"""Connections on both sides: kept, reused, found dead, old, pipelined; no byte of one answer reaches another."""

import threading

import pytest

from tests.conformance.cases_response import CHUNKED, STATUS
from tests.conformance.client import Answer, RawClient
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import Then, answer_bytes, answers, end, ok
from tests.conformance.site import AUTHORIZATION, Site
from tests.conformance.wire import DEADLINE_S, chunked

ROUNDS = 20
POISON = ok(b"poison")


def ask(client: RawClient, request: bytes, method: str = "GET") -> Answer:
    client.send(request)
    answer = client.answer(method)
    assert not answer.broken, answer
    return answer


def echo(connection: Connection, request: Request) -> None:
    """Answer with what was asked for."""
    connection.read_body(request)
    connection.send(ok(request.target + b" " + request.body))


def post(site: Site, body: bytes, *lines: bytes) -> bytes:
    return site.request("POST /v1/files HTTP/1.1", b"Content-Length: %d" % len(body), *lines, body=body)


def used(site: Site) -> list[int]:
    """The provider's connections in the order in which requests came on them."""
    return [request.connection.number for request in site.provider.asked]


@pytest.mark.parametrize(
    "answer",
    [ok(b"{}"), answer_bytes(STATUS, CHUNKED, body=chunked(b"a", b"b")), answer_bytes(b"HTTP/1.1 204 No Content")],
    ids=["length", "chunks", "no body"],
)
def test_one_connection_serves_many(site: Site, answer: bytes) -> None:
    """Requests one after the other on a client's connection share one connection to the provider."""
    site.provider.script = answers(answer)
    with site.client() as client:
        for _ in range(ROUNDS):
            ask(client, site.request())
    assert used(site) == [0] * ROUNDS


def test_each_request_goes_out_as_it_came(site: Site) -> None:
    """Heads that repeat or differ a little, one after the other: each arrives as on a connection of its own."""
    site.provider.script = echo
    series = [
        post(site, b"one"),
        post(site, b"one"),
        post(site, b"and a longer one"),
        post(site, b""),
        post(site, b"one", b"X-Trace: 1"),
        post(site, b"one", b"x-trace: 1"),
        post(site, b"one", b"X-Trace: 2"),
        post(site, b"one").replace(AUTHORIZATION, b"Bearer sk-another"),
        post(site, b"one", b"Connection: X-Trace", b"X-Trace: 3"),
        post(site, b"one").replace(b"/v1/files", b"/v1/files?limit=2"),
        site.request("POST /v1/files HTTP/1.1", b"Transfer-Encoding: chunked", body=chunked(b"one")),
        site.request("GET /v1/files HTTP/1.1"),
        post(site, b"one"),
    ]
    with site.client() as client:
        for request in series:
            ask(client, request)
    together = [(asked.raw_head, asked.body) for asked in site.provider.asked]
    for request in series:
        with site.client() as client:
            ask(client, request)
    apart = [(asked.raw_head, asked.body) for asked in site.provider.asked][len(series) :]
    assert together == apart
    # Three are the same, and a fourth whose only own field is for the hop.
    assert len(set(together)) == len(series) - 3


def test_head_leaves_the_connection_usable(site: Site) -> None:
    """HEAD and 304 with a length, and 1xx, leave the provider's connection in step."""
    site.provider.script = lambda connection, request: connection.send(
        {
            b"/v1/head": answer_bytes(STATUS, b"Content-Length: 999"),
            b"/v1/304": answer_bytes(b"HTTP/1.1 304 Not Modified", b"Content-Length: 999"),
        }.get(request.target, b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(request.target))
    )
    with site.client() as client:
        for at in range(ROUNDS):
            assert ask(client, site.request("HEAD /v1/head HTTP/1.1"), "HEAD").status == 200
            assert ask(client, site.request(f"GET /v1/{at} HTTP/1.1")).body == b"/v1/%d" % at
            assert ask(client, site.request("GET /v1/304 HTTP/1.1")).status == 304
    assert used(site) == [0] * 3 * ROUNDS


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_dead_connection_is_not_used(site: Site, method: str, then: Then) -> None:
    """A provider's idle connection that died is seen before use: the next request goes out on a fresh one, once."""

    def play(connection: Connection, request: Request) -> None:
        echo(connection, request)
        end(connection, then)

    site.provider.script = play
    body = b"once"
    request = post(site, body) if method == "POST" else site.request("GET /v1/files HTTP/1.1")
    with site.client() as client:
        for _ in range(ROUNDS):
            assert ask(client, request).status == 200
            site.provider.wait_idle()
    assert used(site) == list(range(ROUNDS))


def test_announced_close_is_respected(site: Site) -> None:
    """A provider that says Connection: close is not asked again on that connection, even if it stays open."""
    site.provider.script = answers(ok(b"{}", b"Connection: close"))
    with site.client() as client:
        for _ in range(3):
            ask(client, site.request())
    assert used(site) == [0, 1, 2]


def test_old_provider(site: Site) -> None:
    """A provider of HTTP/1.0 that does not offer to keep its connection is not asked again on it."""
    site.provider.script = answers(ok(b"{}").replace(STATUS, b"HTTP/1.0 200 OK"))
    with site.client() as client:
        for _ in range(3):
            ask(client, site.request())
    assert used(site) == [0, 1, 2]


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "behind"])
@pytest.mark.parametrize(
    ("method", "whole"),
    [
        ("GET", ok(b"{}")),
        ("GET", answer_bytes(STATUS, CHUNKED, body=chunked(b"{}"))),
        ("GET", answer_bytes(b"HTTP/1.1 204 No Content")),
        ("HEAD", answer_bytes(STATUS, b"Content-Length: 6")),
    ],
    ids=["length", "chunks", "204", "HEAD"],
)
def test_bytes_after_the_answer(site: Site, method: str, whole: bytes, *, apart: bool) -> None:
    """What a provider sends after the end of its answer reaches nobody, and its connection is not used again."""
    poisoned = threading.Event()

    def play(connection: Connection, request: Request) -> None:
        if apart:
            connection.send_pieces([whole])
            connection.send(POISON)
        else:
            connection.send(whole + POISON)
        poisoned.set()
        connection.wait_left()

    for at in range(5):
        site.provider.script = play
        poisoned.clear()
        with site.client() as client:
            answer = ask(client, site.request(f"{method} /v1/models HTTP/1.1"), method)
            assert b"poison" not in answer.body_wire
            assert poisoned.wait(DEADLINE_S)
            site.provider.script = echo
            assert ask(client, site.request("GET /v1/next HTTP/1.1")).body == b"/v1/next "
            assert not client.wire.waiting
        assert used(site)[-2] != used(site)[-1], f"round {at}"
    site.provider.wait_idle()


def test_answer_before_the_question(site: Site) -> None:
    """An answer that a provider sends on an idle connection is not taken for the answer to the next request."""

    def play(connection: Connection, request: Request) -> None:
        echo(connection, request)
        connection.send(POISON)

    site.provider.script = play
    with site.client() as client:
        for at in range(ROUNDS):
            assert ask(client, site.request(f"GET /v1/{at} HTTP/1.1")).body == b"/v1/%d " % at
            site.provider.wait_idle()


def test_pipelined_requests(site: Site) -> None:
    """Requests that a client sends without waiting are answered in their order, whole."""
    site.provider.script = echo
    requests = [
        site.request("GET /v1/first HTTP/1.1"),
        post(site, b"GET /v1/not-a-request HTTP/1.1\r\n\r\n"),
        site.request("GET /v1/third HTTP/1.1"),
        site.request("POST /v1/files HTTP/1.1", CHUNKED, body=chunked(b"a", b"b")),
    ]
    with site.client() as client:
        client.send(b"".join(requests))
        bodies = [client.answer().body for _ in requests]
        site.assert_free(client)
    assert bodies == [
        b"/v1/first ",
        b"/v1/files GET /v1/not-a-request HTTP/1.1\r\n\r\n",
        b"/v1/third ",
        b"/v1/files ab",
    ]
    assert len(site.provider.asked) == len(requests)


def test_many_pipelined_requests(site: Site) -> None:
    """More than the parser holds at once are all answered, also behind one whose body came apart from its head."""
    site.provider.script = echo
    apart = post(site, b"one", b"X-Apart: 1")
    with site.client() as client:
        client.send_pieces([apart[:-3], apart[-3:]])
        assert client.answer("POST").body == b"/v1/files one"
        client.send(b"".join(site.request(f"GET /v1/{at} HTTP/1.1") for at in range(100)))
        assert [client.answer().body for _ in range(100)] == [b"/v1/%d " % at for at in range(100)]
        site.assert_free(client)


def test_pipelined_requests_in_pieces(site: Site) -> None:
    """Two requests that arrive byte by byte are two requests."""
    site.provider.script = echo
    both = post(site, b"one") + post(site, b"two")
    with site.client() as client:
        client.send_pieces(both[at : at + 1] for at in range(len(both)))
        assert [client.answer().body for _ in range(2)] == [b"/v1/files one", b"/v1/files two"]


@pytest.mark.parametrize(
    ("provider_sends", "body"),
    [
        (answer_bytes(STATUS, CHUNKED, body=b"5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"), b"hello!"),
        (answer_bytes(STATUS, CHUNKED, body=chunked()), b""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer_bytes(STATUS, CHUNKED, body=chunked(b"hi")), b"hi"),
    ],
    ids=["chunks", "no chunk", "103 first"],
)
def test_old_client_gets_no_chunks(site: Site, provider_sends: bytes, body: bytes) -> None:
    """A client of HTTP/1.0 gets the plain body without 1xx before it, ended by Connection: close."""
    site.provider.script = answers(provider_sends)
    with site.client() as client:
        client.send(site.request("GET /v1/models HTTP/1.0"))
        received, how = client.rest()
    head, _, received_body = received.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"200"
    assert b"transfer-encoding" not in head.lower()
    assert b"\r\nconnection: close" in head.lower()
    assert (received_body, how) == (body, "closed")


def test_old_client_gets_a_length(site: Site) -> None:
    """A client of HTTP/1.0 gets a body of known length with its length, and the connection is closed."""
    site.provider.script = answers(ok(b"hello", b"X-A: 1"))
    with site.client() as client:
        client.send(site.request("GET /v1/models HTTP/1.0"))
        received, how = client.rest()
    lines = b"\r\nX-A: 1\r\nContent-Length: 5\r\n"
    assert received.endswith((lines + b"Connection: close\r\n\r\nhello", lines + b"\r\nhello"))
    assert how == "closed"


def test_client_asks_to_close(site: Site) -> None:
    """A client that sends Connection: close gets its answer and then the end; the provider's connection is kept."""
    site.provider.script = echo
    for _ in range(3):
        with site.client() as client:
            answer = ask(client, site.request("GET /v1/models HTTP/1.1", b"Connection: close"))
            assert answer.closes
            assert client.rest() == (b"", "closed")
    assert used(site) == [0, 0, 0]


def test_redirect_is_not_followed(site: Site) -> None:
    """A redirect is the client's to follow: the provider is asked once."""
    location = b"Location: " + site.provider.url.encode() + b"/v1/elsewhere"
    site.provider.script = answers(answer_bytes(b"HTTP/1.1 302 Found", location, b"Content-Length: 0"))
    assert site.relayed(site.request()).status == 302
    assert len(site.provider.asked) == 1


def test_cookies_are_not_kept(site: Site) -> None:
    """A provider's cookie is not sent with the next request of anybody."""
    site.provider.script = answers(ok(b"{}", b"Set-Cookie: session=secret; Path=/"))
    with site.client() as client:
        for _ in range(3):
            ask(client, site.request())
    assert [request.head.values(b"cookie") for request in site.provider.asked] == [[]] * 3


def test_401_is_not_answered(site: Site) -> None:
    """A provider's challenge goes to the client; the gateway asks once, with the client's own credentials."""
    challenge = (b"WWW-Authenticate: Basic realm=x", b"Proxy-Authenticate: Basic realm=y", b"Content-Length: 0")
    site.provider.script = answers(answer_bytes(b"HTTP/1.1 401 Unauthorized", *challenge))
    answer = site.relayed(site.request())
    assert answer.head.values(b"www-authenticate") == [b"Basic realm=x"]
    assert site.provider.request.head.values(b"authorization") == [AUTHORIZATION]
