"""Which answers are stripped, and the framing of those that are."""

import pytest

from gateway.exchange import Exchange
from gateway.transport.framing import Chunked
from gateway.transport.head import parse_head
from gateway.usage_relay import StrippedUsage, strips_usage
from tests.test_usage_strip import DONE, USAGE_CHUNK

NULL = b'data: {"choices":[1],"usage":null}\n\n'
PLAIN = b'data: {"choices":[1]}\n\n'
STREAM = "Content-Type: text/event-stream"


class Taken:
    """What a client and a meter would get."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.payload = b""
        self.ends = 0

    def take(self, wire: bytes, payload: bytes, *, last: bool) -> None:
        self.pieces.append(wire)
        self.payload += payload
        self.ends += last


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(started_ns=1, started_unix_ms=1, method="POST", endpoint="/v1/chat/completions", provider="openai")


def chunked(*payloads: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%X;x=1\r\n%b\r\n" % (len(payload), payload) for payload in payloads) + end


@pytest.mark.parametrize(
    ("status", "lines", "strips", "marks"),
    [
        (200, [STREAM], True, ()),
        (200, ["content-type: Text/Event-Stream ; charset=utf-8", "Content-Encoding: identity"], True, ()),
        (201, [STREAM, "Content-Length: 9"], True, ()),
        # Something may have been added, and stays.
        (200, [STREAM, "Content-Encoding: gzip"], False, ("usage_not_stripped",)),
        (200, ["Content-Type: text/plain"], False, ("usage_not_stripped",)),
        (200, [], False, ("usage_not_stripped",)),
        # Nothing was added.
        (200, ["Content-Type: application/json; charset=utf-8"], False, ()),
        (400, ["Content-Type: application/json"], False, ()),
        (502, ["Content-Type: text/html"], False, ()),
        (429, [STREAM], False, ()),
        (302, [], False, ()),
        (204, [STREAM], False, ()),
        (200, [STREAM, "Content-Length: 0"], False, ()),
    ],
)
def test_which_answers_are_stripped(
    exchange: Exchange, status: int, lines: list[str], marks: tuple[str, ...], *, strips: bool
) -> None:
    """Streams of events in no encoding; one that cannot be read, and may have more than it would, is marked."""
    head = parse_head("\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode(), "POST")
    assert (strips_usage(exchange, head), exchange.marks) == (strips, marks)


@pytest.mark.parametrize(
    ("end", "sent"),
    [
        (b"0\r\n\r\n", b"0\r\n\r\n"),
        (b"000;last\r\n\r\n", b"0\r\n\r\n"),
        (b"0\r\nX-A: 1\r\nX-B:\r\n\r\n", b"0\r\nX-A: 1\r\nX-B:\r\n\r\n"),
        (b"0 ;a:b\r\n0: 0\r\n\r\n", b"0\r\n0: 0\r\n\r\n"),
    ],
)
def test_a_chunked_answer(exchange: Exchange, end: bytes, sent: bytes) -> None:
    """In whatever pieces it comes: what is left in chunks of ours, trailers as they came; the meter sees all of it."""
    payloads = (NULL + NULL[:9], NULL[9:], b"\n0\r\nX: y\r\n\r\n"[:1], USAGE_CHUNK + DONE, b": \n0:0\n\n", DONE)
    answer = chunked(*payloads, end=end)
    for size in (*range(1, 12), len(answer)):
        exchange.response_bytes = 0
        taken, framing = Taken(), Chunked()
        stripped = StrippedUsage(taken, exchange, chunked=True)
        for at in range(0, len(answer), size):
            wire, payload, rest = framing.take(answer[at : at + size])
            assert rest == b""
            if wire:
                stripped.take(wire, payload, last=framing.ended)
        stripped.end()
        client = Chunked()
        wire, payload, rest = client.take(b"".join(taken.pieces))
        assert payload == PLAIN + PLAIN + b"\n" + DONE + b": \n0:0\n\n" + DONE
        assert (client.ended, rest, taken.ends) == (True, b"", 1)
        assert wire.endswith(b"\n\r\n" + sent)
        assert taken.payload == b"".join(payloads)
        # The relay adds what it shows the meter.
        assert exchange.response_bytes + len(taken.payload) == len(payload)
    assert exchange.marks == ()


def test_the_end_of_an_event_is_not_awaited_twice(exchange: Exchange) -> None:
    """A piece that completes an event brings it at once; one that completes none brings nothing."""
    taken = Taken()
    stripped = StrippedUsage(taken, exchange, chunked=True)
    for piece in (NULL[:-1], b"\n", USAGE_CHUNK):
        stripped.take(piece, piece, last=False)
    assert taken.pieces == [b"", b"%x\r\n%b\r\n" % (len(PLAIN), PLAIN), b""]


def test_an_answer_that_ends_with_its_connection(exchange: Exchange) -> None:
    """No chunks; what was held back comes with the end, and waits for the journal as every last piece does."""
    taken = Taken()
    stripped = StrippedUsage(taken, exchange, chunked=False)
    stripped.take(NULL + DONE[:-1], NULL + DONE[:-1], last=False)
    assert (taken.pieces, taken.ends) == ([PLAIN], 0)
    stripped.end()
    assert (taken.pieces, taken.ends) == ([PLAIN, DONE[:-1]], 1)
    assert taken.payload == NULL + DONE[:-1]
    stripped.end()
    assert taken.ends == 1


def test_what_is_unsure_is_marked_once(exchange: Exchange) -> None:
    """However often a usage stood beside choices, the row has one mark."""
    stripped = StrippedUsage(Taken(), exchange, chunked=True)
    for _ in range(3):
        event = b'data: {"choices":[1],"usage":{"a":1}}\n\n'
        stripped.take(event, event, last=False)
    assert exchange.marks == ("usage_not_stripped",)
