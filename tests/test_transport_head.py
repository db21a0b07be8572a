"""Heads of answers: kept as they are but for the hop's own fields, and refused where parsers could differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.framing import Chunked, Length, MalformedAnswer, UntilClose
from gateway.transport.head import parse_head


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def test_everything_but_the_hops_fields_is_kept() -> None:
    """Names, case, order, duplicates and blanks stay; Connection, what it names, and the like go."""
    block = head(
        "connection: Keep-Alive, X-Hop",
        "X-Request-ID:req_1",
        "Set-Cookie: a=1",
        "set-cookie:   b=2  ",
        "Keep-Alive: timeout=5",
        "x-hop: 1",
        "Upgrade: h2c",
        "X-Empty:",
        "Content-Length: 2",
    )
    found = parse_head(block, "GET")
    assert found.lines == (
        b"\r\nX-Request-ID:req_1\r\nSet-Cookie: a=1\r\nset-cookie:   b=2  \r\nX-Empty:\r\nContent-Length: 2"
    )
    assert found.fields == {b"x-request-id": b"req_1"}
    assert found.status_line == b"HTTP/1.1 200 OK"
    assert isinstance(found.framing, Length)
    assert found.reusable


def test_a_head_of_many_lines_of_the_hop() -> None:
    """Of tens of thousands of the hop's own lines none stays, and all others do."""
    found = parse_head(head(*["a:", "te:"] * 20_000, "Content-Length: 2"), "GET")
    assert found.lines == b"\r\na:" * 20_000 + b"\r\nContent-Length: 2"


@pytest.mark.parametrize("line", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 caf\xe9  au lait"])
def test_the_reason_is_kept(line: str) -> None:
    """A missing, empty or odd reason goes to the client as it came."""
    found = parse_head(head("Content-Length: 0", status=line), "GET")
    sent, keep_alive = found.for_client(v1_1=True, keep_alive=True)
    assert sent == line.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n"
    assert keep_alive


@pytest.mark.parametrize(
    ("method", "status", "lines", "kind"),
    [
        ("GET", 200, ["Content-Length: 5"], Length),
        ("GET", 200, ["Content-Length: 0"], type(None)),
        ("GET", 200, ["Transfer-Encoding: Chunked"], Chunked),
        ("GET", 200, [], UntilClose),
        ("HEAD", 200, ["Content-Length: 5"], type(None)),
        ("HEAD", 200, ["Transfer-Encoding: chunked"], type(None)),
        ("GET", 204, [], type(None)),
        ("GET", 304, ["Content-Length: 5"], type(None)),
        ("GET", 103, ["Link: </x>"], type(None)),
    ],
)
def test_how_the_body_ends(method: str, status: int, lines: list[str], kind: type) -> None:
    """By chunks, by length, with the connection, or there is none (RFC 9112 6.3)."""
    assert type(parse_head(head(*lines, status=f"HTTP/1.1 {status} X"), method).framing) is kind


@pytest.mark.parametrize(
    ("lines", "version", "reusable"),
    [
        ([], "1.1", True),
        (["Connection: close"], "1.1", False),
        (["Connection: X, Close"], "1.1", False),
        ([], "1.0", False),
        (["Connection: keep-alive"], "1.0", True),
    ],
)
def test_whether_the_connection_is_kept(lines: list[str], version: str, *, reusable: bool) -> None:
    """As the provider says, or as its version does."""
    found = parse_head(head("Content-Length: 0", *lines, status=f"HTTP/{version} 200 OK"), "GET")
    assert found.reusable == reusable


@pytest.mark.parametrize(
    "block",
    [
        b"garbage\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5", "content-length: 5"),
        head("Content-Length: 5, 5"),
        head("Content-Length: +5"),
        head("Content-Length: 0x5"),
        head("Content-Length: 9999999999999999999"),
        head("Content-Length: 5", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: gzip, chunked"),
        head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK"),
        head("X-Folded: a", " b"),
        head("No colon"),
        head("Space : before"),
        head(": empty"),
        head("X: a\nB: c"),
        head("X: a\rB: c"),
        head("X: \x00"),
    ],
)
def test_what_parsers_read_differently_is_refused(block: bytes) -> None:
    """Lengths that contradict, folded lines, bare line ends and the like are no answer."""
    with pytest.raises(MalformedAnswer):
        parse_head(block, "GET")


def test_an_old_client_gets_no_chunks() -> None:
    """For HTTP/1.0 the chunking is taken off and the end of the connection ends the body."""
    found = parse_head(head("Transfer-Encoding: chunked", "X: 1"), "GET")
    assert found.for_client(v1_1=False, keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\n",
        False,
    )


@pytest.mark.parametrize(
    ("lines", "sent", "old"),
    [
        (
            ["Content-Length: 9", "X: 1"],
            (b"\r\nX: 1\r\nTransfer-Encoding: chunked", True),
            (b"\r\nX: 1\r\nConnection: close", False),
        ),
        (
            ["Transfer-Encoding: Chunked", "X: 1"],
            (b"\r\nTransfer-Encoding: Chunked\r\nX: 1", True),
            (b"\r\nX: 1\r\nConnection: close", False),
        ),
        (["X: 1"], (b"\r\nX: 1\r\nConnection: close", False), (b"\r\nX: 1\r\nConnection: close", False)),
        (
            ["Content-Length: 0"],
            (b"\r\nContent-Length: 0", True),
            (b"\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        ),
    ],
)
def test_a_body_that_is_edited_has_no_length(
    lines: list[str], sent: tuple[bytes, bool], old: tuple[bytes, bool]
) -> None:
    """Instead of an announced length there are chunks, for HTTP/1.0 the connection's end; other heads stay the same."""
    found = parse_head(head(*lines), "POST").unsized()
    for v1_1, (kept, keep_alive) in ((True, sent), (False, old)):
        assert found.for_client(v1_1=v1_1, keep_alive=True) == (b"HTTP/1.1 200 OK" + kept + b"\r\n\r\n", keep_alive)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Any bytes are either a head or MalformedAnswer."""
    try:
        parse_head(data + b"\r\n\r\n", "GET")
    except MalformedAnswer:
        return
