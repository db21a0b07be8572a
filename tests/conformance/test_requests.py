"""The provider gets the client's request: every byte that the table in `differences` does not name."""

import pytest

from tests.canaries import provider_key
from tests.conformance.cases_request import CHAT, REQUESTS, RequestCase
from tests.conformance.cases_response import JSON
from tests.conformance.client import Answer, RawClient
from tests.conformance.differences import request_as_compared
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import answer_bytes, answers, ok, pieces_of
from tests.conformance.site import AUTHORIZATION, Site

SMALL_BYTES = 1_500
CASES = [
    pytest.param(case, marks=pytest.mark.xfail(strict=True, reason=case.limit) if case.limit else ())
    for case in REQUESTS
]


def taken(connection: Connection, request: Request) -> None:
    """Read the request and answer without a body, which suits every method."""
    connection.read_body(request)
    connection.send(answer_bytes(b"HTTP/1.1 204 No Content"))


def ask(client: RawClient, request: bytes, method: str, piece_bytes: int) -> Answer:
    if piece_bytes:
        client.send_pieces(pieces_of(request, piece_bytes))
    else:
        client.send(request)
    answer = client.answer(method)
    assert (answer.status, answer.broken) == (204, ""), answer
    return answer


def assert_same(site: Site, case: RequestCase, piece_bytes: int) -> None:
    site.provider.script = taken
    request = site.request(case.start, *case.lines, body=case.body)
    with site.direct_client() as client:
        ask(client, request, case.method, 0)
    with site.client() as client:
        if ask(client, request, case.method, piece_bytes).closes:
            assert client.rest() == (b"", "closed")
        else:
            site.assert_free(client)
    direct, relayed = site.provider.asked
    chunked = direct.framing == "chunked"
    expected = request_as_compared(direct, relayed=False, chunked=chunked)
    assert direct.raw_head + direct.body_wire == request, "the case itself is not what it says"
    assert request_as_compared(relayed, relayed=True, chunked=chunked) == expected
    assert relayed.head.values(b"host") == [site.provider.url.removeprefix("http://").encode()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_at_once(site: Site, case: RequestCase) -> None:
    """A request that comes in one piece reaches the provider as it was sent."""
    assert_same(site, case, 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_pieces(site: Site, case: RequestCase) -> None:
    """A request that comes byte by byte (a large one in odd pieces) reaches the provider as it was sent."""
    size = len(site.request(case.start, *case.lines, body=case.body))
    assert_same(site, case, 1 if size <= SMALL_BYTES else 997)


@pytest.mark.parametrize("case", [case for case in REQUESTS if not case.limit], ids=str)
def test_again_on_one_connection(site: Site, case: RequestCase) -> None:
    """A request that repeats the last one's bytes, whole or with its body behind its head, reaches the provider so."""
    site.provider.script = taken
    request = site.request(case.start, *case.lines, body=case.body)
    body_at = len(request) - len(case.body)
    with site.client() as client:
        for sent in ([request], [request], [request[:body_at], request[body_at:]], [request]):
            client.send_pieces([piece for piece in sent if piece])
            answer = client.answer(case.method)
            assert (answer.status, answer.broken) == (204, ""), answer
            if answer.closes:
                break
        else:
            site.assert_free(client)
    first, *others = site.provider.asked
    assert [(asked.raw_head, asked.body_wire) for asked in others] == [(first.raw_head, first.body_wire)] * len(others)


def test_nothing_of_ours_is_sent(site: Site) -> None:
    """The smallest request arrives as its request line, Host and credentials, and nothing else."""
    site.provider.script = taken
    with site.client() as client:
        ask(client, site.request("GET /v1/models HTTP/1.1"), "GET", 0)
    host = site.provider.url.removeprefix("http://").encode()
    expected = b"GET /v1/models HTTP/1.1\r\nHost: %b\r\nAuthorization: %b\r\n\r\n" % (host, AUTHORIZATION)
    assert site.provider.request.raw_head == expected


def test_old_client_without_host(site: Site) -> None:
    """A client of HTTP/1.0 that names no host is served; the provider gets HTTP/1.1 with its own Host, once."""
    site.provider.script = answers(ok(b"{}"))
    with site.client() as client:
        client.send(site.request("GET /v1/models HTTP/1.0").replace(b"Host: gateway.test\r\n", b""))
        assert client.answer().body == b"{}"
    head = site.provider.request.head
    assert head.start == b"GET /v1/models HTTP/1.1"
    assert head.values(b"host") == [site.provider.url.removeprefix("http://").encode()]


@pytest.mark.parametrize(
    ("provider", "sent", "received"),
    [
        ("anthropic", b"Authorization: Bearer KEY", b"x-api-key: KEY"),
        ("anthropic", b"authorization:bearer  KEY", b"x-api-key: KEY"),
        ("anthropic", b"X-Api-Key: KEY", b"X-Api-Key: KEY"),
        ("anthropic", b"Authorization: Bearer sk-ant-oat-KEY", b"Authorization: Bearer sk-ant-oat-KEY"),
        ("azure", b"Authorization: Bearer KEY", b"api-key: KEY"),
        ("azure", b"Api-Key: KEY", b"Api-Key: KEY"),
        ("azure", b"Authorization: Bearer eyJ.KEY.x", b"Authorization: Bearer eyJ.KEY.x"),
        ("openai", b"authorization: Bearer KEY", b"authorization: Bearer KEY"),
        ("groq", b"Authorization: Basic KEY", b"Authorization: Basic KEY"),
        ("gemini", b"x-goog-api-key: KEY", b"x-goog-api-key: KEY"),
    ],
)
def test_credentials(site: Site, provider: str, sent: bytes, received: bytes) -> None:
    """A bearer key stands where Anthropic and Azure read keys, in its place; all other credentials go as sent."""
    site.provider.script = taken
    key = provider_key("credentials").encode()
    lines = (
        b"X-Before: 1",
        sent.replace(b"KEY", key),
        b"X-Lectr-Provider: " + provider.encode(),
        b"X-Behind: 2",
        JSON,
        b"Content-Length: %d" % len(CHAT),
    )
    request = site.request("POST /v1/chat/completions HTTP/1.1", *lines, body=CHAT)
    request = request.replace(b"Authorization: " + AUTHORIZATION + b"\r\n", b"")
    with site.client() as client:
        ask(client, request, "POST", 0)
    head = site.provider.request.head
    assert head.lines[1:] == (b"X-Before: 1", received.replace(b"KEY", key), b"X-Behind: 2", *lines[-2:])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
def test_upload_that_waits_for_100(site: Site, path: str) -> None:
    """A client that expects 100 gets it before it sends a byte, once, and then its answer; 2 MB arrive whole."""
    site.provider.script = taken
    body = b'{"model":"gpt-4o-mini","input":"' + b"x" * 2_000_000 + b'"}'
    lines = (JSON, b"Content-Length: %d" % len(body), b"Expect: 100-continue")
    with site.client() as client:
        client.send(site.request(f"POST {path} HTTP/1.1", *lines))
        client.wait_continue()
        client.send(body)
        answer = client.answer("POST")
        assert (answer.status, answer.interim) == (204, ())
        site.assert_free(client)
    received = site.provider.request
    whole = received.body == body
    assert whole
    assert received.head.values(b"expect") == []
    assert received.head.values(b"content-length") == [b"%d" % len(body)]


def test_upload_that_waits_and_is_refused(site: Site) -> None:
    """A client that expects 100 and has no key gets its 401 instead, and no 100."""
    request = site.request("POST /v1/files HTTP/1.1", b"Content-Length: 5", b"Expect: 100-continue")
    with site.client() as client:
        client.send(request.replace(site.key, b"lc_key_wrong"))
        answer = client.answer("POST")
    assert (answer.status, answer.interim) == (401, ())
    assert site.provider.asked == []


def test_upload_that_does_not_wait(site: Site) -> None:
    """A client that expects 100 but sends its body at once is served."""
    site.provider.script = taken
    lines = (JSON, b"Content-Length: %d" % len(CHAT), b"Expect: 100-continue")
    with site.client() as client:
        client.send(site.request("POST /v1/chat/completions HTTP/1.1", *lines, body=CHAT))
        assert client.answer("POST").status == 204
        site.assert_free(client)
    assert site.provider.request.body == CHAT


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "closes"])
@pytest.mark.parametrize("size_bytes", [100_000, 50_000_000])
def test_answer_before_the_upload_ends(site: Site, size_bytes: int, *, ends: bool) -> None:
    """A provider that refuses an upload before reading it is heard: the client gets the refusal, byte by byte."""
    refusal = answer_bytes(b"HTTP/1.1 413 Too  Large", b"Connection: close", JSON, b"Content-Length: 4", body=b"no!\n")

    def play(connection: Connection, request: Request) -> None:
        connection.send(refusal)
        if ends:
            connection.end_writing()
        connection.wait_left()

    site.provider.script = play
    with site.client() as client:
        head = site.request(
            "POST /v1/files HTTP/1.1", b"Content-Type: application/octet-stream", b"Content-Length: %d" % size_bytes
        )
        with client.sending(head + bytes(size_bytes)):
            answer = client.answer("POST")
    assert answer.head.start == b"HTTP/1.1 413 Too  Large"
    assert (answer.body, answer.broken) == (b"no!\n", "")
    assert len(site.provider.asked) == 1
    site.assert_free()
