"""Requests that must reach the provider as the client sent them."""

from dataclasses import dataclass
from typing import Final

from tests.conformance.cases_response import CHUNKED, JSON
from tests.conformance.wire import chunked

CHAT: Final = b'{"model":"gpt-4o-mini", "messages":[{"role":"user","content":"h\xc3\xa9"}] , "x":1e2}\r\n'


@dataclass(frozen=True)
class RequestCase:
    """A request line, header lines behind the usual ones, and a body; its length is added if `length` says so."""

    name: str
    start: str = "GET /v1/models HTTP/1.1"
    lines: tuple[bytes, ...] = ()
    body: bytes = b""
    limit: str = ""
    """Why the gateway refuses it, if it does: a known limit, which the test expects until it is gone."""

    def __str__(self) -> str:
        return self.name

    @property
    def method(self) -> str:
        return self.start.partition(" ")[0]


def _lines() -> list[RequestCase]:
    lines: dict[str, tuple[bytes, ...]] = {
        "no field but ours": (),
        "names in any case": (b"x-lower: 1", b"X-UPPER: 2", b"X-MiXeD: 3", b"ACCEPT: */*", b"user-AGENT: odd/1"),
        "duplicates": (
            b"X-Twice: 1",
            b"Accept: a/b",
            b"x-twice: 2",
            b"X-Twice: 1",
            b"Accept: c/d",
            b"Cookie: a",
            b"Cookie: b",
        ),
        "values empty": (b"X-Empty:", b"X-Space:  "),
        "values with inner and outer space": (b"X-Wide:   a   b  ", b"X-Tab:\ta\tb\t", b"X-Tight:1"),
        "a value in UTF-8": ("X-Utf: ✓ é".encode(),),
        "a value in latin-1": (b"X-Latin: tr\xe8s \xff",),
        "a value of control bytes that are allowed": (b"X-High: \x80\x81", b"X-Tab: a\tb"),
        "odd names": (b"!#$%&'*+-.^_`|~: 1", b"_: 2", b"7: 3"),
        "a long value": (b"X-Long: " + b"v" * 20_000,),
        "100 fields": tuple(b"X-Field-%d: %d" % (at, at) for at in range(100)),
        "a User-Agent and codings of the client": (b"User-Agent: curl/8", b"Accept-Encoding: br;q=1.0, zstd, *;q=0"),
        "conditions and ranges": (b'If-None-Match: "x"', b"Range: bytes=0-1", b"Cache-Control: no-cache"),
        "forwarding fields of the client": (b"Via: 1.1 edge", b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=_x"),
        "hop-by-hop fields": (
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"X-Kept: 1",
            b"TE: trailers",
            b"Proxy-Authorization: Basic eA==",
        ),
        "fields named by Connection": (b"X-Hop: 1", b"Connection: X-HOP , te,", b"TE: gzip", b"X-Kept: 1"),
        "an upgrade that nobody takes": (b"Upgrade: h2c", b"HTTP2-Settings: x", b"Connection: Upgrade, HTTP2-Settings"),
        "X-Lectr fields": (b"x-lectr-task: extraction", b"X-LECTR-UNKNOWN: 1", b"X-Lectr: no, that is another name"),
        "provider keys of all kinds": (b"x-goog-api-key: a", b"OpenAI-Organization: o", b"anthropic-beta: b"),
    }
    return [RequestCase(name, lines=given) for name, given in lines.items()]


def _targets() -> list[RequestCase]:
    targets = {
        "encoded slash": "/v1/files/a%2Fb%2f%2e%00%ZZ%",
        "query as it is": "/v1/models?b=2&a=1&a=%20+&&=&c",
        "empty query": "/v1/models?",
        "question marks": "/v1/models??a=?b?",
        "odd characters": "/v1/models/a;b=c,d:e@f!$&'()*+~-._?g=/[]{}|\\^`\"<>",
        "double slashes": "/v1//models///x//",
        "dots that lead nowhere": "/v1/models/./x/...",
        "encoded letters": "/v1/m%6Fdels",
        "dots and encoded slashes": "/v1/files/..%2f..%2Fadmin",
        "long": "/v1/files/" + "p" * 6_000 + "?" + "q" * 6_000,
        "only the root": "/v1",
        "the root and a slash": "/v1/",
        "a query with a URL": "/v1/models?u=http://evil.test/v1/x%23",
    }
    raw = {"raw UTF-8": "/v1/files/caf\xc3\xa9?q=\xe2\x9c\x93", "raw latin-1": "/v1/files/caf\xe9"}
    limit = "llhttp, which reads the client's requests, takes no bytes above 0x7f in a target: 400"
    return [
        *(RequestCase(f"target: {name}", f"GET {target} HTTP/1.1") for name, target in targets.items()),
        *(RequestCase(f"target: {name}", f"GET {target} HTTP/1.1", limit=limit) for name, target in raw.items()),
    ]


def _methods() -> list[RequestCase]:
    plain = [
        RequestCase(f"method {method}", f"{method} /v1/models HTTP/1.1")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PURGE")
    ]
    unknown = RequestCase(
        "method X-LIST",
        "X-LIST /v1/models HTTP/1.1",
        limit="llhttp, which reads the client's requests, knows a fixed list of methods: 400",
    )
    with_body = [
        RequestCase(
            f"body on {method}", f"{method} /v1/things HTTP/1.1", (JSON, b"Content-Length: %d" % len(CHAT)), CHAT
        )
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "POST")
    ]
    return [*plain, unknown, *with_body]


def _post(name: str, body: bytes, *lines: bytes, path: str = "/v1/chat/completions") -> RequestCase:
    return RequestCase(name, f"POST {path} HTTP/1.1", lines, body)


def _bodies() -> list[RequestCase]:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\xff.bin"\r\n\r\n'
        + bytes(range(256))
        + b"\r\n--b--\r\nend"
    )
    form_type = b"Content-Type: multipart/form-data; boundary=b"
    binary = b"Content-Type: application/octet-stream"
    length = b"Content-Length: %d"
    every = bytes(range(256)) * 40
    return [
        _post("JSON", CHAT, JSON, length % len(CHAT)),
        _post("length in front and in lower case", CHAT, b"content-length:%d" % len(CHAT), JSON, b"Z: 1"),
        _post("JSON without a type", CHAT, length % len(CHAT)),
        _post("no JSON under its type", b'{"model": broken', JSON, b"Content-Length: 16"),
        _post("JSON said to be gzip", every, JSON, b"Content-Encoding: gzip", length % len(every)),
        _post("empty, said", b"", JSON, b"Content-Length: 0"),
        _post("empty, unsaid", b"", JSON),
        _post("one byte", b"{", JSON, b"Content-Length: 1"),
        _post("JSON in chunks", chunked(CHAT[:10], CHAT[10:]), JSON, CHUNKED),
        _post("JSON in chunks with extensions and trailers", b"2;x=y\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n", JSON, CHUNKED),
        _post("no chunk", chunked(), JSON, CHUNKED),
        _post("a form", form, form_type, length % len(form), path="/v1/audio/transcriptions"),
        _post("a form in chunks", chunked(form[:99], form[99:]), form_type, CHUNKED, path="/v1/audio/transcriptions"),
        _post("bytes of every value", every, binary, length % len(every), path="/v1/files"),
        _post("bytes of every value in chunks", chunked(every, every), binary, CHUNKED, path="/v1/files"),
    ]


REQUESTS: Final = (*_lines(), *_targets(), *_methods(), *_bodies())
