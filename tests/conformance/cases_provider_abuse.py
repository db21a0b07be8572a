"""Answers that are malformed or ambiguous: what a broken or hostile provider could send."""

from dataclasses import dataclass
from typing import Final

from tests.conformance.cases_response import CHUNKED, STATUS
from tests.conformance.scripts import answer_bytes, ok
from tests.conformance.wire import chunked

BODY: Final = b"poison"
LENGTH: Final = b"Content-Length: 6"


@dataclass(frozen=True)
class BadAnswer:
    """The bytes of an answer that must not pass for one."""

    name: str
    answer: bytes
    in_body: bool = False
    """The fault comes after a good head, so the client may already have the head and a part."""

    def __str__(self) -> str:
        return self.name


def _framings() -> list[BadAnswer]:
    framings: dict[str, tuple[bytes, ...]] = {
        "length and chunks": (LENGTH, CHUNKED),
        "chunks and length": (CHUNKED, LENGTH),
        "different lengths": (LENGTH, b"Content-Length: 3"),
        "different lengths as a list": (b"Content-Length: 6, 3",),
        "a negative length": (b"Content-Length: -6",),
        "a length with a sign": (b"Content-Length: +6",),
        "a hexadecimal length": (b"Content-Length: 0x6",),
        "an empty length": (b"Content-Length:",),
        "a length in words": (b"Content-Length: six",),
        "a length with an underscore": (b"Content-Length: 0_6",),
        "a length in Arabic digits": (b"Content-Length: \xd9\xa6",),
        "a huge length": (b"Content-Length: " + b"9" * 40,),
        "a coding like chunked": (b"Transfer-Encoding: xchunked",),
        "chunks twice": (b"Transfer-Encoding: chunked, chunked",),
        "chunks, then gzip": (b"Transfer-Encoding: chunked, gzip",),
        "chunked with a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
        "coding folded": (b"Transfer-Encoding:\r\n chunked",),
        "coding behind a bare CR": (LENGTH, b"X-A: 1\rTransfer-Encoding: chunked"),
        "coding behind a bare LF": (LENGTH, b"X-A: 1\nTransfer-Encoding: chunked"),
    }
    return [
        BadAnswer(
            f"framing: {name}",
            answer_bytes(STATUS, *lines, body=BODY if b"chunked" not in lines[-1] else chunked(BODY)),
        )
        for name, lines in framings.items()
    ]


def _heads() -> list[BadAnswer]:
    lines: dict[str, bytes] = {
        "a bare LF": b"X-A: 1\nX-B: 2",
        "a bare CR": b"X-A: 1\rX-B: 2",
        "a folded field": b"X-A: 1\r\n 2",
        "a field folded with a tab": b"X-A: 1\r\n\t2",
        "NUL in a value": b"X-A: 1\x002",
        "NUL in a name": b"X-\x00A: 1",
        "no colon": b"X-A",
        "an empty name": b": 1",
        "space inside a name": b"X A: 1",
    }
    cases = [BadAnswer(f"head: {name}", ok(BODY, line)) for name, line in lines.items()]
    ends = answer_bytes(STATUS, LENGTH).replace(b"\r\n", b"\n") + BODY
    return [
        *cases,
        BadAnswer("head: all lines end with LF", ends),
        BadAnswer("head: the first is folded", answer_bytes(STATUS, b" X-A: 1", LENGTH, body=BODY)),
        BadAnswer("head: a value of 1 MB", ok(BODY, b"X-A: " + b"a" * 1_000_000)),
        BadAnswer("head: 100,000 fields", ok(BODY, *(b"X-%d: 1" % at for at in range(100_000)))),
        BadAnswer("head: a reason of 1 MB", ok(BODY).replace(b"OK", b"O" * 1_000_000)),
        BadAnswer(
            "head: 1,000 times 103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1_000 + ok(BODY), in_body=True
        ),
        BadAnswer(
            "head: 101 that nobody asked for",
            answer_bytes(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: x", b"Connection: Upgrade") + ok(BODY),
        ),
    ]


def _statuses() -> list[BadAnswer]:
    starts = {
        "letters for digits": b"HTTP/1.1 2OO OK",
        "two digits": b"HTTP/1.1 20 OK",
        "four digits": b"HTTP/1.1 2000 OK",
        "negative": b"HTTP/1.1 -20 OK",
        "zero": b"HTTP/1.1 000 OK",
        "a sign": b"HTTP/1.1 +20 OK",
        "no status": b"HTTP/1.1",
        "no space": b"HTTP/1.1200 OK",
        "a tab": b"HTTP/1.1\t200 OK",
        "two spaces": b"HTTP/1.1  200 OK",
        "HTTP/2": b"HTTP/2 200",
        "HTTP/2.0": b"HTTP/2.0 200 OK",
        "HTTP/9.9": b"HTTP/9.9 200 OK",
        "HTTP/1": b"HTTP/1 200 OK",
        "HTTP/1.10": b"HTTP/1.10 200 OK",
        "lower case": b"http/1.1 200 OK",
        "another protocol": b"ICY 200 OK",
        "a space in front": b" HTTP/1.1 200 OK",
        "NUL in the reason": b"HTTP/1.1 200 O\x00K",
        "CR in the reason": b"HTTP/1.1 200 O\rK",
        "a request": b"GET / HTTP/1.1",
        "text": b"hello",
        "ssh": b"SSH-2.0-OpenSSH_9.9",
        "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
        "HTTP/2 frames": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    }
    return [BadAnswer(f"status line: {name}", ok(BODY).replace(STATUS, start)) for name, start in starts.items()]


def _chunks() -> list[BadAnswer]:
    end = b"0\r\n\r\n"
    bodies: dict[str, bytes] = {
        "negative size": b"-6\r\npoison\r\n" + end,
        "size with a sign": b"+6\r\npoison\r\n" + end,
        "size with 0x": b"0x6\r\npoison\r\n" + end,
        "size empty": b"\r\npoison\r\n" + end,
        "size in words": b"six\r\npoison\r\n" + end,
        "size with an underscore": b"0_6\r\npoison\r\n" + end,
        "space before the size": b" 6\r\npoison\r\n" + end,
        "space inside the size": b"0 6\r\npoison\r\n" + end,
        "size beyond 64 bits": b"10000000000000006\r\npoison\r\n" + end,
        "size beyond any limit": b"f" * 200 + b"\r\npoison\r\n" + end,
        "no CRLF behind a chunk": b"6\r\npoison" + end,
        "other bytes behind a chunk": b"6\r\npoisonXX" + end,
        "LF behind a chunk": b"6\r\npoison\n" + end,
        "LF behind a size": b"6\npoison\r\n" + end,
        "CR behind a size": b"6\rpoison\r\n" + end,
        "LF inside an extension": b"6;a\nb\r\npoison\r\n" + end,
        "CR inside an extension": b"6;a\rb\r\npoison\r\n" + end,
        "an extension of 1 MB": b"6;" + b"a" * 1_000_000 + b"\r\npoison\r\n" + end,
        "the end with LF": b"6\r\npoison\r\n0\n\n",
        "a trailer without a colon": b"6\r\npoison\r\n0\r\nX-A\r\n\r\n",
        "a trailer with a bare LF": b"6\r\npoison\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n",
        "a trailer of 1 MB": b"6\r\npoison\r\n0\r\nX-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    }
    return [
        BadAnswer(f"chunk: {name}", answer_bytes(STATUS, CHUNKED, body=body), in_body=True)
        for name, body in bodies.items()
    ]


BAD_ANSWERS: Final = (*_framings(), *_heads(), *_statuses(), *_chunks())

ENDLESS: Final = {
    "value": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n"),
    "reason": (b"HTTP/1.1 200 ", b"O"),
    "garbage": (b"", b"x"),
    "empty lines": (b"", b"\r\n"),
    "103s": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;", b"x"),
    "chunk extensions": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 8_000 + b"\r\nh\r\n"),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ", b"a"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: 1\r\n"),
}
"""Answers that never come to a body's byte or to an end: how they begin, and what is repeated."""
