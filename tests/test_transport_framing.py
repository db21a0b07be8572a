"""Where bodies end: any cut gives the same bytes, and nothing ambiguous is read one way or the other."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.framing import Chunked, Framing, Length, MalformedAnswer, UntilClose

CHUNKED = b"5\r\nhello\r\n1a;name=value\r\n" + b"abcdefghijklmnopqrstuvwxyz" + b"\r\n0\r\nDigest: x\r\nB:\r\n\r\n"
PAYLOAD = b"helloabcdefghijklmnopqrstuvwxyz"


def fed(framing: Framing, pieces: list[bytes]) -> tuple[bytes, bytes, bytes]:
    """Wire, payload and rest after all pieces."""
    wires, payloads, rest = [], [], b""
    for piece in pieces:
        assert not framing.ended
        wire, payload, rest = framing.take(piece)
        wires.append(wire)
        payloads.append(payload)
    return b"".join(wires), b"".join(payloads), rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_chunks_may_be_cut_anywhere(places: list[int]) -> None:
    """However a chunked body arrives, its bytes go on unchanged and the payload is the same."""
    framing = Chunked()
    assert fed(framing, cut(CHUNKED, places)) == (CHUNKED, PAYLOAD, b"")
    assert framing.ended


def test_chunks_byte_by_byte() -> None:
    """Single bytes are no exception; an unfinished line is held back until it can be checked."""
    framing = Chunked()
    held = framing.take(b"5;na")
    assert held == (b"", b"", b"")
    assert framing.take(b"me=value\r\nhe") == (b"5;name=value\r\nhe", b"he", b"")
    whole = Chunked()
    assert fed(whole, [CHUNKED[i : i + 1] for i in range(len(CHUNKED))]) == (CHUNKED, PAYLOAD, b"")


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.lists(st.integers(0, 4000), max_size=8))
def test_any_payload_survives(chunks: list[bytes], places: list[int]) -> None:
    """Whatever bytes the chunks hold, CRLF and chunk look-alikes included, they are payload."""
    wire = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    framing = Chunked()
    assert fed(framing, cut(wire, places)) == (wire, b"".join(chunks), b"")
    assert framing.ended


@pytest.mark.parametrize(
    "body",
    [
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloo\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\rX",
        b"5;\x00\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5\r\r\nhello\r\n",
        b"ffffffffffffffff\r\n",
        b"G\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nA: 1\n\r\n",
        b"0\r\n\nx",
        b"5;" + b"x" * 5000,
        b"0\r\n" + b"A: b\r\n" * 4000,
        b"0\r\nA: " + b"b" * 20_000,
    ],
)
def test_malformed_chunks_are_refused(body: bytes) -> None:
    """A chunk-size line, a chunk's end or a trailer that another parser could read otherwise ends the answer."""
    with pytest.raises(MalformedAnswer):
        Chunked().take(body)
    with pytest.raises(MalformedAnswer):
        fed(Chunked(), [body[at : at + 1] for at in range(len(body))])


def test_what_follows_the_end_is_not_the_body() -> None:
    """Bytes behind the end come back apart, with a length as with chunks."""
    assert Length(3).take(b"abcHTTP/1.1 200") == (b"abc", b"abc", b"HTTP/1.1 200")
    assert Chunked().take(b"0\r\n\r\nHTTP") == (b"0\r\n\r\n", b"", b"HTTP")


def test_a_length_is_counted_down() -> None:
    """A body of known length ends with its last byte."""
    framing = Length(5)
    assert framing.take(b"ab") == (b"ab", b"ab", b"")
    assert not framing.ended
    assert framing.take(b"cde") == (b"cde", b"cde", b"")
    assert framing.ended


def test_without_framing_everything_is_the_body() -> None:
    """A body that ends with its connection has no end of its own."""
    framing = UntilClose()
    assert framing.take(b"0\r\n\r\n") == (b"0\r\n\r\n", b"0\r\n\r\n", b"")
    assert not framing.ended
