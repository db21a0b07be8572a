"""Requests that try to be two, or to be somebody else's: refused with an error that says so, and nobody is asked."""

import itertools
from collections.abc import Iterable

import pytest

from tests.conformance.cases_smuggling import (
    BODY,
    CHUNKED,
    EITHER,
    LENGTH,
    PIECE_BYTES,
    REFUSED,
    REFUSED_BODIES,
    Abuse,
    endless,
)
from tests.conformance.client import Answer
from tests.conformance.kernel import memory_stays_below
from tests.conformance.provider import Connection, Request, Script
from tests.conformance.scripts import answers, ok, pieces_of
from tests.conformance.site import Site, fault_of
from tests.conformance.wire import Broken

JSON = b"Content-Type: application/json"
BINARY = b"Content-Type: application/octet-stream"
ENDLESS_BOUND_BYTES = 4_000_000
MEMORY_BOUND_BYTES = 30_000_000
TAIL = b"GET /v1/smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def bytes_of(site: Site, case: Abuse, *usual: bytes) -> bytes:
    whole = site.request(case.start, *usual, *case.lines)
    return whole.removesuffix(b"\r\n\r\n") + case.line_end * (1 if case.line_end == b"\n\n" else 2) + case.body


def ask(site: Site, pieces: Iterable[bytes]) -> tuple[Answer, bytes]:
    """The answer to what may never be read to its end, and what follows it until the connection ends, if it says so."""
    with site.client() as client:
        client.send_until_answered(pieces)
        answer = client.answer()
        return answer, client.rest()[0] if answer.closes else b""


def assert_refused(answer: Answer, statuses: tuple[int, ...]) -> None:
    assert not answer.broken, answer
    assert answer.status in statuses, answer
    if answer.status in {400, 413, 431}:
        assert fault_of(answer) in {"invalid_request", "request_too_large"}
    else:
        assert fault_of(answer)


def uploads_noted(ends: list[str]) -> Script:
    """Note whether a request's body comes to its end."""

    def play(connection: Connection, request: Request) -> None:
        try:
            connection.read_body(request)
        except Broken:
            ends.append("broken")
            raise
        ends.append("whole")
        connection.send(ok(b"{}"))

    return play


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_malformed_head(site: Site, case: Abuse) -> None:
    """A malformed or ambiguous head is refused as JSON, what follows it is not read as a request, nobody is asked."""
    site.provider.script = answers(ok(b"{}"))
    answer, rest = ask(site, [bytes_of(site, case) + TAIL])
    assert_refused(answer, case.statuses)
    if answer.status == 400:
        assert answer.closes, "what follows a malformed request is not known to be one"
    assert rest == b""
    assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize("case", REFUSED_BODIES, ids=str)
def test_malformed_chunks(site: Site, case: Abuse) -> None:
    """A held body whose chunks are malformed is refused as JSON, and nobody is asked."""
    site.provider.script = answers(ok(b"{}"))
    answer, rest = ask(site, [bytes_of(site, case, JSON).replace(b"/v1/files", b"/v1/chat/completions") + TAIL])
    assert_refused(answer, case.statuses)
    assert answer.closes
    assert rest == b""
    assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize("case", REFUSED_BODIES, ids=str)
def test_malformed_chunks_of_a_streamed_upload(site: Site, case: Abuse) -> None:
    """Of a streamed body whose chunks are malformed the provider never sees an end, and the client never a success."""
    ends: list[str] = []
    site.provider.script = uploads_noted(ends)
    answer, rest = ask(site, [bytes_of(site, case, BINARY) + TAIL])
    assert answer.broken or (answer.status == 400 and answer.closes), answer
    assert rest == b""
    site.assert_free()
    site.provider.wait_idle()
    assert ends in ([], ["broken"])
    assert b"smuggled" not in b"".join(request.target for request in site.provider.asked)


@pytest.mark.parametrize("size", [b"7fffffffffffffff", b"8000000000000000", b"ffffffffffffffff", b"ffffffff"])
@pytest.mark.parametrize("kind", [JSON, BINARY], ids=["held", "streamed"])
def test_chunk_of_a_huge_size(site: Site, kind: bytes, size: bytes) -> None:
    """A chunk said to be as large as numbers get is refused or waited for, and never ends early."""
    ends: list[str] = []
    site.provider.script = uploads_noted(ends)
    with site.client() as client:
        request = site.request("POST /v1/files HTTP/1.1", kind, CHUNKED)
        client.send_pieces([request, size + b"\r\nhello\r\n0\r\n\r\n" + TAIL])
    site.assert_free()
    site.provider.wait_idle()
    assert ends in ([], ["broken"])
    assert len(site.provider.asked) <= 1


@pytest.mark.parametrize("case", EITHER, ids=str)
def test_odd_but_clear(site: Site, case: Abuse) -> None:
    """What has one meaning in spite of its form is refused, or reaches the provider once in the usual form."""
    site.provider.script = answers(ok(b"{}"))
    with site.client() as client:
        client.send(bytes_of(site, case, JSON))
        answer = client.answer()
    if answer.status == 200:
        request = site.provider.request
        assert request.body == BODY
        assert request.head.values(b"content-length") + request.head.values(b"transfer-encoding") in (
            [b"5"],
            [b"0000005"],
            [b"chunked"],
            [b"CHUNKED"],
        )
    else:
        assert_refused(answer, (400,))
        assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize(
    "pieces",
    [
        (b"X-A: ", b"a"),
        (b"", b"X-A: 1\r\n"),
        (b"Content-Length: 5\r\nX", b"-"),
    ],
    ids=["value", "fields", "name"],
)
def test_endless_head(site: Site, pieces: tuple[bytes, bytes]) -> None:
    """A head without an end is refused after a bounded number of bytes, which are not kept."""
    first, repeated = pieces
    start = site.request().removesuffix(b"\r\n") + first
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES):
        assert_stopped(site, endless(start, repeated))


@pytest.mark.parametrize(
    "pieces",
    [
        (b"5;", b"x"),
        (b"0", b"0"),
        (b"5\r\nhello\r\n0\r\nX-A: ", b"a"),
        (b"5\r\nhello\r\n0\r\n", b"X-A: 1\r\n"),
    ],
    ids=["extension", "size", "trailer", "trailers"],
)
def test_endless_framing(site: Site, pieces: tuple[bytes, bytes]) -> None:
    """Framing of a body that never becomes a body is refused after a bounded number of bytes, which are not kept."""
    first, repeated = pieces
    start = site.request("POST /v1/chat/completions HTTP/1.1", JSON, CHUNKED) + first
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES):
        assert_stopped(site, endless(start, repeated))


def test_endless_extensions(site: Site) -> None:
    """Chunks that consist mostly of extensions are refused after a bounded number of bytes."""
    start = site.request("POST /v1/chat/completions HTTP/1.1", JSON, CHUNKED)
    assert_stopped(site, endless(start, b"1;" + b"x" * 4_000 + b"\r\nh\r\n"))


@pytest.mark.parametrize("piece_bytes", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("end", "stays"),
    [
        (b"0\r\n\r\n", True),
        (b"0\r\nX-Lectr-Feature: stolen\r\n\r\n", False),
        (b"0\r\nX-A: 1\r\nAuthorization: 0\r\n\r\n", False),
        (b"00\r\nX-A: 0\r\n\r\n", False),
    ],
    ids=["no trailer", "trailer", "trailers", "zeros"],
)
def test_trailers_are_of_no_other_request(site: Site, end: bytes, piece_bytes: int, *, stays: bool) -> None:
    """A connection whose request had trailers ends with its answer: aiohttp's parser adds them to the next head."""
    site.provider.script = uploads_noted([])
    request = site.request("POST /v1/chat/completions HTTP/1.1", JSON, CHUNKED, body=b"2\r\n{}\r\n" + end)
    with site.client() as client:
        client.send_pieces(pieces_of(request, piece_bytes) if piece_bytes else [request])
        answer = client.answer("POST")
        assert answer.closes is not stays
        if stays:
            site.assert_free(client)
        else:
            assert client.rest() == (b"", "closed")


BEHIND = {
    "no body": (b"", b""),
    "chunks": (CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "a body like the end of chunks": (b"Content-Length: 9", b"{}\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("end", [b"0\r\nX-Lectr-Task: a\r\n\r\n", b"0\r\n\r\n"], ids=["trailer", "no trailer"])
def test_nothing_is_served_behind_chunks(site: Site, end: bytes, behind: tuple[bytes, bytes]) -> None:
    """A request that was sent along with a chunked one is not served: trailers of that one may be in its head."""
    site.provider.script = uploads_noted([])
    first = site.request("POST /v1/chat/completions HTTP/1.1", JSON, CHUNKED, body=b"2\r\n{}\r\n" + end)
    framing, body = behind
    with site.client() as client:
        client.send(first + site.request("POST /v1/files HTTP/1.1", *filter(None, [framing]), body=body))
        assert client.answer("POST").closes
        assert client.rest() == (b"", "closed")
    assert len(site.provider.asked) == 1


def test_refused_before_its_chunks_end(site: Site) -> None:
    """A chunked request that is refused early ends its connection, and says so: trailers may still come."""
    request = site.request("POST /v1/chat/completions HTTP/1.1", JSON, CHUNKED, body=b"2\r\n{}\r\n")
    with site.client() as client:
        client.send(request.replace(site.key, b"lc_key_wrong"))
        answer = client.answer("POST")
        assert (answer.status, answer.closes) == (401, True)
        client.send(b"0\r\nX-Lectr-Feature: stolen\r\n\r\n" + site.request("GET /v1/models HTTP/1.1"))
        assert client.rest()[0] == b""
    assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize("asked_for", [b"h2c", b"TLS/1.0", b"websocket, h2c"])
def test_nothing_is_served_behind_an_upgrade(site: Site, asked_for: bytes) -> None:
    """An upgrade that is not taken ends its connection: aiohttp's parser drops what came with it."""
    site.provider.script = uploads_noted([])
    lines = (JSON, b"Connection: Upgrade", b"Upgrade: " + asked_for)
    first = site.request("POST /v1/chat/completions HTTP/1.1", *lines, b"Content-Length: 2", body=b"{}")
    smuggled = site.request("GET /v1/smuggled HTTP/1.1")
    second = site.request("POST /v1/files HTTP/1.1", b"Content-Length: %d" % len(smuggled), body=smuggled)
    with site.client() as client:
        client.send_pieces([first + second.removesuffix(smuggled), smuggled])
        assert client.answer("POST").closes
        assert client.rest()[0] == b""
    assert [asked.target for asked in site.provider.asked] == [b"/v1/chat/completions"]


def assert_stopped(site: Site, pieces: Iterable[bytes]) -> None:
    """Sent until the gateway refuses or resets."""
    with site.client() as client:
        sent_bytes = client.send_until_answered(itertools.islice(pieces, 2 * ENDLESS_BOUND_BYTES // PIECE_BYTES))
        assert sent_bytes < ENDLESS_BOUND_BYTES
        answer = client.answer()
    # A reset may overtake the refusal while bytes are still on their way.
    if not answer.broken:
        assert_refused(answer, (400, 413, 431))
        assert answer.closes
    assert site.provider.asked == []
    site.assert_free()


@pytest.mark.parametrize("piece_bytes", [1_000_000, 1], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    "request_body",
    [((LENGTH,), BODY), ((b"Content-Length: 0",), b""), ((), b"")],
    ids=["length", "length of none", "no body"],
)
def test_tail_is_a_request_of_its_own(
    site: Site, request_body: tuple[tuple[bytes, ...], bytes], piece_bytes: int
) -> None:
    """What follows a request's end is another request, which needs its own key: 401, and the provider is asked once."""
    site.provider.script = answers(ok(b"{}"))
    lines, body = request_body
    both = site.request("POST /v1/chat/completions HTTP/1.1", JSON, *lines, body=body) + TAIL
    with site.client() as client:
        client.send_pieces(pieces_of(both, piece_bytes))
        assert client.answer().body == b"{}"
        smuggled = client.answer()
        site.assert_free(client)
    assert (smuggled.status, fault_of(smuggled)) == (401, "missing_lectr_key")
    assert len(site.provider.asked) == 1


def test_tail_of_a_refused_upload(site: Site) -> None:
    """A refused request's body is never read as a request, whether or not the client was told to go on."""
    site.provider.script = answers(ok(b"{}"))
    tail = site.request("GET /v1/smuggled HTTP/1.1")
    request = site.request("POST /v1/files HTTP/1.1", b"Content-Length: %d" % len(tail), body=tail)
    with site.client() as client:
        client.send(request.replace(site.key, b"lc_key_wrong", 1))
        assert client.answer().status == 401
    site.assert_free()
    assert site.provider.asked == []
