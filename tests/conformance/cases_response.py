"""Answers that must reach the client as the provider sent them, byte by byte."""

import gzip
import sys
from dataclasses import dataclass
from typing import Final

import brotli  # type: ignore[import-untyped]  # it ships no types

from tests.conformance.scripts import Then, answer_bytes, ok
from tests.conformance.wire import chunked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SMALL_BYTES: Final = 2_000
"""What is also sent in pieces of one byte."""


@dataclass(frozen=True)
class ResponseCase:
    """What the provider sends for a request, and what it does then."""

    name: str
    answer: bytes
    method: str = "GET"
    then: Then = "keep"
    reframed: bool = False
    """The body ends by closing, so the gateway may frame it on its hop."""

    def __str__(self) -> str:
        return self.name


STATUS: Final = b"HTTP/1.1 200 OK"
CHUNKED: Final = b"Transfer-Encoding: chunked"
SSE: Final = b"Content-Type: text/event-stream"
JSON: Final = b"Content-Type: application/json"
COMPLETION: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"h\xc3\xa9llo"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,'
    b'"completion_tokens":2,"total_tokens":11}}'
)
_DELTA: Final = (
    b'data: {"object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"%b"}}]}'
)
EVENTS: Final = (_DELTA % b"one", _DELTA % b"two", _DELTA % b"three", b"data: [DONE]")


def events(line_end: bytes) -> tuple[bytes, ...]:
    return tuple(event + line_end * 2 for event in EVENTS)


def _coded(coding: bytes, body: bytes) -> bytes:
    return ok(body, JSON, b"Content-Encoding: " + coding)


def _statuses() -> list[ResponseCase]:
    starts = {
        "reason empty": b"HTTP/1.1 200 ",
        "reason and its space missing": b"HTTP/1.1 200",
        "reason in UTF-8": "HTTP/1.1 200 Tout va très bien ✓".encode(),
        "reason in latin-1": b"HTTP/1.1 200 tr\xe8s bien",
        "reason with spaces": b"HTTP/1.1 200  two   three    ",
        "reason with tabs and colons": b"HTTP/1.1 200 a\tb: c",
        "reason of another status": b"HTTP/1.1 200 Not Found",
        "status 299": b"HTTP/1.1 299 Odd",
        "status 599": b"HTTP/1.1 599 Odd",
        "status 999": b"HTTP/1.1 999 Odd",
    }
    cases = [
        ResponseCase(name, answer_bytes(start, b"Content-Length: 2", body=b"ok")) for name, start in starts.items()
    ]
    for status in (400, 401, 403, 404, 409, 418, 422, 429, 500, 503, 529):
        body = b'{"error":{"message":"no","type":"t","code":"c"}}'
        start = b"HTTP/1.1 %d Refused" % status
        answer = answer_bytes(start, JSON, b"Retry-After: 1", b"Content-Length: %d" % len(body), body=body)
        cases.append(ResponseCase(f"status {status}", answer))
    return cases


def _heads() -> list[ResponseCase]:
    heads: dict[str, tuple[bytes, ...]] = {
        "duplicate Set-Cookie": (b"Set-Cookie: a=1; Path=/", b"X-Between: 1", b"Set-Cookie: b=2", b"Set-Cookie: a=1"),
        "Vary three times": (b"Vary: Origin", b"vary: Accept", b"VARY: Origin"),
        "names in any case": (b"x-lower: 1", b"X-UPPER: 2", b"X-MiXeD: 3", b"DATE: 4", b"sErVeR: 5"),
        "no Date, no Server, no type": (),
        "value without space after the colon": (b"X-Tight:1", b"Server:nginx"),
        "value with white space around it": (b"X-Wide:   1  ", b"X-Tab:\t1\t", b"X-Inside: a   b\tc"),
        "values empty": (b"X-Empty:", b"X-Space: ", b"X-Spaces:   "),
        "values in latin-1 and UTF-8": (b"X-Latin: \xe9\xff", "X-Utf: ✓".encode()),
        "odd names": (b"!#$%&'*+-.^_`|~: 1", b"_: 2", b"7: 3"),
        "200 fields": tuple(b"X-Field-%d: %d" % (at, at * at) for at in range(200)),
        "a value of 10,000 bytes": (b"X-Long: " + b"v" * 10_000,),
        "a head of 15,000 bytes": tuple(b"X-Ratelimit-%d: %b" % (at, b"r" * 130) for at in range(100)),
        "Via, Date, Age and Alt-Svc of the provider": (b"Via: 1.1 edge", b"Date: x", b"Age: 7", b"Alt-Svc: h3=x"),
        "X-Lectr fields of the provider": (b"X-Lectr-Odd: 1",),
        "a field like ours": (b"Connection-Id: 7", b"X-Connection: close", b"Keep-Alive-Odd: 1"),
    }
    return [ResponseCase(name, ok(b"{}", *lines)) for name, lines in heads.items()] + [
        ResponseCase("length before the others", answer_bytes(STATUS, b"content-length:2", JSON, b"Z: 1", body=b"{}")),
        ResponseCase("length with zeros", answer_bytes(STATUS, b"Content-Length: 002", body=b"{}")),
        ResponseCase("hop-by-hop fields", ok(b"{}", b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"X-Kept: 1")),
        ResponseCase(
            "fields named by Connection",
            ok(b"{}", b"X-Hop: 1", b"Connection: x-hop, Keep-Alive", b"X-Kept: 1", b"Keep-Alive: max=9"),
        ),
        ResponseCase("Connection: close", ok(b"{}", b"Connection: close", b"X-Kept: 1"), then="close"),
        ResponseCase("Upgrade offered", ok(b"{}", b"Upgrade: h2c", b"Connection: Upgrade", b"X-Kept: 1")),
        ResponseCase("TE and Trailer", ok(b"{}", b"TE: gzip", b"Trailer: X-End")),
    ]


def _bodies() -> list[ResponseCase]:
    gz = gzip.compress(COMPLETION, mtime=0)
    lf, crlf = events(b"\n"), events(b"\r\n")
    zipped_events = gzip.compress(b"".join(lf), mtime=0)
    third = len(zipped_events) // 3
    html = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>\r\n"
    return [
        ResponseCase("JSON", ok(COMPLETION, JSON)),
        ResponseCase("JSON in gzip", _coded(b"gzip", gz)),
        ResponseCase("JSON in br", _coded(b"br", brotli.compress(COMPLETION))),
        ResponseCase("JSON in zstd", _coded(b"zstd", zstd.compress(COMPLETION))),
        ResponseCase("JSON that says gzip and is none", _coded(b"gzip", COMPLETION)),
        ResponseCase("JSON in an unknown coding", _coded(b"odd", COMPLETION)),
        ResponseCase("bytes of every value", ok(bytes(range(256)) * 4, b"Content-Type: application/octet-stream")),
        ResponseCase("Content-Length: 0", ok(b"")),
        ResponseCase("SSE with LF", answer_bytes(STATUS, SSE, CHUNKED, body=chunked(*lf))),
        ResponseCase("SSE with CRLF", answer_bytes(STATUS, SSE, CHUNKED, body=chunked(*crlf))),
        ResponseCase("SSE with a length", ok(b"".join(lf), SSE)),
        ResponseCase(
            "SSE in gzip",
            answer_bytes(
                STATUS,
                SSE,
                b"Content-Encoding: gzip",
                CHUNKED,
                body=chunked(zipped_events[:third], zipped_events[third:]),
            ),
        ),
        ResponseCase(
            "HTML 502",
            answer_bytes(
                b"HTTP/1.1 502 Bad Gateway",
                b"Server: cloudflare",
                b"Content-Type: text/html",
                b"Content-Length: %d" % len(html),
                body=html,
            ),
        ),
        ResponseCase("redirect", answer_bytes(b"HTTP/1.1 307 There", b"Location: /v1/other", b"Content-Length: 0")),
    ]


def _chunks() -> list[ResponseCase]:
    bodies = {
        "one chunk": chunked(b"hello"),
        "chunks of one byte": chunked(*(b"%c" % byte for byte in b"hello world")),
        "no chunk": chunked(),
        "a chunk of 300,000 bytes": chunked(b"a" * 300_000, b"b"),
        "chunk extensions": b'5;name="value";x\r\nhello\r\n6 ; y = z\r\n world\r\n0;end\r\n\r\n',
        "chunk sizes in any case and with zeros": b"00A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n",
        "trailers": b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum:2\r\n\r\n",
        "chunks that look like chunks": chunked(b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    }
    cases = [
        ResponseCase(f"chunked: {name}", answer_bytes(STATUS, CHUNKED, body=body)) for name, body in bodies.items()
    ]
    for name, line in {
        "name in lower case": b"transfer-encoding: chunked",
        "value in capitals": b"Transfer-Encoding:Chunked",
    }.items():
        answer = answer_bytes(STATUS, line, b"X-Behind: 1", body=chunked(b"hello"))
        cases.append(ResponseCase(f"chunked: {name}", answer))
    return cases


def _bodiless() -> list[ResponseCase]:
    return [
        ResponseCase("204", answer_bytes(b"HTTP/1.1 204 No Content", b"X-Kept: 1")),
        ResponseCase(
            "304 with a length", answer_bytes(b"HTTP/1.1 304 Not Modified", b'ETag: "x"', b"Content-Length: 99")
        ),
        ResponseCase("304 without", answer_bytes(b"HTTP/1.1 304 Not Modified", b'ETag: "x"')),
        ResponseCase("HEAD with a length", answer_bytes(STATUS, JSON, b"Content-Length: 1234"), method="HEAD"),
        ResponseCase("HEAD of chunks", answer_bytes(STATUS, JSON, CHUNKED, b"X-Behind: 1"), method="HEAD"),
        ResponseCase("HEAD with neither", answer_bytes(STATUS, JSON), method="HEAD"),
        ResponseCase("HEAD 404", answer_bytes(b"HTTP/1.1 404 Not Found", b"Content-Length: 30"), method="HEAD"),
    ]


def _interim() -> list[ResponseCase]:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = b"HTTP/1.1 103 Early  Hints\r\nLink: </a>; rel=preload\r\nlink:</b>\r\n\r\n"
    processing = b"HTTP/1.1 102 Processing\r\n\r\n"
    final = ok(b"{}", JSON)
    return [
        ResponseCase("100 first", go_on + final),
        ResponseCase("103 first", hints + final),
        ResponseCase("102 and 103 twice", processing + hints + hints + final),
        ResponseCase("100 between 103s", hints + go_on + hints + final),
        ResponseCase("103 before chunks", hints + answer_bytes(STATUS, CHUNKED, body=chunked(b"hello"))),
    ]


def _closing() -> list[ResponseCase]:
    old = b"HTTP/1.0 200 OK"
    body = b"to the end\r\n0\r\n\r\n"
    return [
        ResponseCase("HTTP/1.0 to the end", answer_bytes(old, JSON, body=body), then="close", reframed=True),
        ResponseCase("HTTP/1.0 with a length", ok(b"{}").replace(STATUS, old), then="close"),
        ResponseCase("HTTP/1.0 without a body", answer_bytes(old), then="close", reframed=True),
        ResponseCase(
            "HTTP/1.1 to the end",
            answer_bytes(STATUS, b"Connection: close", SSE, body=b"".join(events(b"\n"))),
            then="close",
            reframed=True,
        ),
        ResponseCase("HTTP/1.1 to the end, unsaid", answer_bytes(STATUS, body=body), then="close", reframed=True),
    ]


RESPONSES: Final = (
    *_statuses(),
    *_heads(),
    *_bodies(),
    *_chunks(),
    *_bodiless(),
    *_interim(),
    *_closing(),
)
