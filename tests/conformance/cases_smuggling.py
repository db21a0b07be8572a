"""Requests of which one reader could see another end, another start or another target than the next.

All carry a valid key, so that it is the form that is judged.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.conformance.wire import chunked

BODY: Final = b"hello"
CHUNKED: Final = b"Transfer-Encoding: chunked"
LENGTH: Final = b"Content-Length: 5"
PIECE_BYTES: Final = 16_384
_HUGE: Final = b"9" * 40


@dataclass(frozen=True)
class Abuse:
    """Header lines (or a whole request line) and what follows the head; `statuses` are the acceptable refusals."""

    name: str
    lines: tuple[bytes, ...] = ()
    body: bytes = b""
    start: str = "POST /v1/files HTTP/1.1"
    statuses: tuple[int, ...] = (400,)
    line_end: bytes = b"\r\n"
    """What ends the last of the lines."""

    def __str__(self) -> str:
        return self.name


def _lengths() -> list[Abuse]:
    lines: dict[str, tuple[bytes, ...]] = {
        "different lengths": (b"Content-Length: 5", b"Content-Length: 6"),
        "different lengths as a list": (b"Content-Length: 5, 6",),
        "a length and a sign": (b"Content-Length: +5",),
        "a negative length": (b"Content-Length: -1",),
        "a length of minus zero": (b"Content-Length: -0",),
        "a hexadecimal length": (b"Content-Length: 0x5",),
        "an empty length": (b"Content-Length: ",),
        "a length in words": (b"Content-Length: five",),
        "a length with a fraction": (b"Content-Length: 5.0",),
        "a length with an underscore": (b"Content-Length: 0_5",),
        "a length in Arabic digits": (b"Content-Length: \xd9\xa5",),
        "a length with a vertical tab": (b"Content-Length: \x0b5",),
        "a length with a space inside": (b"Content-Length: 5 5",),
        "a length named with an underscore and chunks": (b"Content_Length: 5", LENGTH, CHUNKED),
    }
    refused = [Abuse(name, given, BODY) for name, given in lines.items()]
    # What is too long for us may be called malformed or too large.
    huge = Abuse("a huge length", (b"Content-Length: " + _HUGE,), BODY, statuses=(400, 413))
    return [*refused, huge]


def _codings() -> list[Abuse]:
    lines: dict[str, tuple[bytes, ...]] = {
        "length, then chunks": (LENGTH, CHUNKED),
        "chunks, then length": (CHUNKED, LENGTH),
        "chunks twice in one field": (b"Transfer-Encoding: chunked, chunked",),
        "chunks twice": (CHUNKED, CHUNKED),
        "identity": (b"Transfer-Encoding: identity",),
        "identity and a length": (b"Transfer-Encoding: identity", LENGTH),
        "gzip": (b"Transfer-Encoding: gzip",),
        "gzip, then chunks": (b"Transfer-Encoding: gzip, chunked",),
        "chunks, then gzip": (b"Transfer-Encoding: chunked, gzip",),
        "a coding like chunked": (b"Transfer-Encoding: xchunked",),
        "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1",),
        "chunked in quotes": (b'Transfer-Encoding: "chunked"',),
        "chunked with a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
        "chunked and a comma": (b"Transfer-Encoding: chunked,",),
        "empty coding": (b"Transfer-Encoding:",),
        "empty coding and a length": (b"Transfer-Encoding:", LENGTH),
        "space before the colon": (b"Transfer-Encoding : chunked",),
        "coding folded": (b"Transfer-Encoding:\r\n chunked",),
        "coding folded behind": (b"Transfer-Encoding: chunked\r\n ,gzip",),
        "coding behind a bare CR": (b"X-A: 1\rTransfer-Encoding: chunked",),
        "coding behind a bare LF": (b"X-A: 1\nTransfer-Encoding: chunked",),
    }
    return [Abuse(f"coding: {name}", given, chunked(BODY)) for name, given in lines.items()]


def _lines() -> list[Abuse]:
    lines: dict[str, bytes] = {
        "a folded field": b"X-A: 1\r\n 2",
        "a field folded with a tab": b"X-A: 1\r\n\t2",
        "a bare LF": b"X-A: 1\nX-B: 2",
        "a bare CR": b"X-A: 1\rX-B: 2",
        "two CRs": b"X-A: 1\r\r\nX-B: 2",
        "NUL in a value": b"X-A: 1\x002",
        "NUL in a name": b"X-\x00A: 1",
        "a control byte in a value": b"X-A: 1\x012",
        "DEL in a value": b"X-A: 1\x7f2",
        "space before the colon": b"X-A : 1",
        "tab before the colon": b"X-A\t: 1",
        "space inside the name": b"X A: 1",
        "no colon": b"X-A",
        "an empty name": b": 1",
        "a name in brackets": b"X(A): 1",
        "a name of high bytes": b"X-\xe9: 1",
        "another Host": b"Host: evil.test",
        "another X-Lectr-Key": b"X-Lectr-Key: lc_key_other",
        "another Authorization": b"Authorization: Bearer other",
        "a name that is our key's with a space": b"X-Lectr-Key : lc_key_other",
    }
    cases = [Abuse(f"line: {name}", (line, b"Content-Length: 5"), BODY) for name, line in lines.items()]
    folded = Abuse("line: the first is folded", (b" X-A: 1",), start="GET /v1/models HTTP/1.1\r\n X-Fold: 1")
    last = Abuse("line: all end with LF", (b"X-A: 1",), start="GET /v1/models HTTP/1.1", line_end=b"\n\n")
    return [*cases, folded, last]


def _starts() -> list[Abuse]:
    starts = {
        "no version": "GET /v1/models",
        "an unknown version": "GET /v1/models HTTP/9.9",
        "version 2": "GET /v1/models HTTP/2.0",
        "version without digits": "GET /v1/models HTTP/a.b",
        "version 1.10": "GET /v1/models HTTP/1.10",
        "version in lower case": "GET /v1/models http/1.1",
        "a tab": "GET\t/v1/models HTTP/1.1",
        "a space in the target": "GET /v1/models /x HTTP/1.1",
        "a space behind": "GET /v1/models HTTP/1.1 ",
        "a space in front": " GET /v1/models HTTP/1.1",
        "no target": "GET HTTP/1.1",
        "an odd method": "GE(T /v1/models HTTP/1.1",
        "NUL in the target": "GET /v1/mod\x00els HTTP/1.1",
        "CR in the target": "GET /v1/mod\rels HTTP/1.1",
        "LF in the target": "GET /v1/models HTTP/1.1\nX-A: 1\r\nGET /v1/x HTTP/1.1",
        "a control byte in the target": "GET /v1/mod\x01els HTTP/1.1",
        "TLS": "\x16\x03\x01\x02\x00\x01",
    }
    # A target that is malformed may also be called unknown.
    return [Abuse(f"start: {name}", start=start, statuses=(400, 404, 505)) for name, start in starts.items()]


def _targets() -> list[Abuse]:
    starts = {
        "absolute, of another host": "GET http://evil.test/v1/models HTTP/1.1",
        "absolute with a user": "GET http://a:b@evil.test/v1/models HTTP/1.1",
        "absolute of another scheme": "GET file:///v1/models HTTP/1.1",
        "authority": "CONNECT evil.test:443 HTTP/1.1",
        "authority by GET": "GET evil.test:443 HTTP/1.1",
        "CONNECT with a path": "CONNECT /v1/models HTTP/1.1",
        "OPTIONS *": "OPTIONS * HTTP/1.1",
        "GET *": "GET * HTTP/1.1",
        "two slashes and a host": "GET //evil.test/v1/models HTTP/1.1",
        "without a slash": "GET v1/models HTTP/1.1",
        "at sign for a host": "GET @evil.test/v1/models HTTP/1.1",
        "outside of v1": "GET /admin HTTP/1.1",
        "like v1": "GET /v1x/models HTTP/1.1",
        "dots to the root": "GET /v1/../../admin HTTP/1.1",
        "dots out of v1": "GET /v1/../admin HTTP/1.1",
        "dots at the end": "GET /v1/.. HTTP/1.1",
        "dots behind a name": "GET /v1/models/../../admin HTTP/1.1",
        "dots in between that come back": "GET /v1/../v1/models HTTP/1.1",
        "encoded dots": "GET /v1/%2e%2e/%2E%2e/admin HTTP/1.1",
        "half encoded dots": "GET /v1/.%2e/admin HTTP/1.1",
        "dots of another surface": "GET /openai/v1/../../admin HTTP/1.1",
        "dots behind a deployment": "GET /openai/deployments/../../admin HTTP/1.1",
        "fragment": "GET /v1/models#/../admin HTTP/1.1",
    }
    return [Abuse(f"target: {name}", start=start, statuses=(400, 404, 405, 501)) for name, start in starts.items()]


def _heads() -> list[Abuse]:
    return [
        Abuse("head: a value of 100 KB", (b"X-A: " + b"a" * 100_000,), statuses=(400, 431)),
        Abuse("head: a name of 100 KB", (b"X-" + b"a" * 100_000 + b": 1",), statuses=(400, 431)),
        Abuse("head: 1,000 fields", tuple(b"X-%d: 1" % at for at in range(1_000)), statuses=(400, 431)),
        Abuse("head: a target of 100 KB", start="GET /v1/" + "a" * 100_000 + " HTTP/1.1", statuses=(400, 414, 431)),
    ]


def _chunks() -> list[Abuse]:
    bodies: dict[str, bytes] = {
        "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
        "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
        "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "size empty": b"\r\nhello\r\n0\r\n\r\n",
        "size in words": b"five\r\nhello\r\n0\r\n\r\n",
        "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
        "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
        "space inside the size": b"0 5\r\nhello\r\n0\r\n\r\n",
        "tab before the size": b"\t5\r\nhello\r\n0\r\n\r\n",
        "size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "size beyond any limit": b"f" * 100 + b"\r\nhello\r\n0\r\n\r\n",
        "no CRLF behind a chunk": b"5\r\nhello0\r\n\r\n",
        "other bytes behind a chunk": b"5\r\nhelloXX0\r\n\r\n",
        "LF behind a chunk": b"5\r\nhello\n0\r\n\r\n",
        "CR behind a chunk": b"5\r\nhello\r0\r\n\r\n",
        "LF behind a size": b"5\nhello\r\n0\r\n\r\n",
        "CR behind a size": b"5\rhello\r\n0\r\n\r\n",
        "LF inside an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "CR inside an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        "NUL inside an extension": b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
        "a size and a word": b"5 x\r\nhello\r\n0\r\n\r\n",
        "the end with LF": b"5\r\nhello\r\n0\n\n",
        "a trailer without a colon": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
        "a trailer with a bare LF": b"5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n",
        "a folded trailer": b"5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n",
    }
    return [Abuse(f"chunk: {name}", (CHUNKED,), body) for name, body in bodies.items()]


REFUSED: Final = (*_lengths(), *_codings(), *_lines(), *_starts(), *_targets(), *_heads())
"""Malformed in the head: nothing of them may reach a provider, whatever their type of body."""
REFUSED_BODIES: Final = tuple(_chunks())
"""Malformed in the body: of a body that is streamed, the provider may see a part, but never an end."""

EITHER: Final = (
    Abuse("equal lengths", (LENGTH, LENGTH), BODY),
    Abuse("equal lengths as a list", (b"Content-Length: 5, 5",), BODY),
    Abuse("a length and a space", (b"Content-Length: 5 ",), BODY),
    Abuse("a length and a tab", (b"Content-Length:\t5\t",), BODY),
    Abuse("a length with zeros", (b"Content-Length: 0000005",), BODY),
    Abuse("coding in capitals", (b"Transfer-Encoding: CHUNKED",), chunked(BODY)),
    Abuse("a size with zeros", (CHUNKED,), b"0000000000000000000005\r\nhello\r\n0\r\n\r\n"),
    Abuse("a space behind a size", (CHUNKED,), b"5 \r\nhello\r\n0\r\n\r\n"),
    Abuse("a space before an extension", (CHUNKED,), b"5 ;a=1\r\nhello\r\n0\r\n\r\n"),
    Abuse("two spaces behind the method", (LENGTH,), BODY, start="POST  /v1/files HTTP/1.1"),
    Abuse("empty lines in front", (LENGTH,), BODY, start="\r\n\r\nPOST /v1/files HTTP/1.1"),
)
"""Odd but of one meaning: refused, or sent on as the one request that it is."""


def endless(first: bytes, repeated: bytes) -> Iterator[bytes]:
    """Bytes without an end."""
    yield first
    yield from itertools.repeat(repeated * (PIECE_BYTES // len(repeated)))
