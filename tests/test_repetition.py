"""Requests that repeat the last one's head go past the parser, and nobody can tell but by the clock.

The same bytes are given to two connections: one as it is, and one that hands everything to aiohttp's parser.
"""

import asyncio
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import ClientRequest
from gateway.repetition import Repetition, Wire
from gateway.server import GatewayServer
from gateway.trailers import Trailers

Found = tuple[Repetition, bytes, int]
Seen = tuple[Any, ...]


class CountingWire(Wire):
    """A wire that counts what it recognised, or recognises nothing."""

    __slots__ = ("found", "sees")

    def __init__(self, *, sees: bool) -> None:
        super().__init__()
        self.found = 0
        self.sees = sees

    def repeated(self, data: bytes) -> Found | None:
        found = super().repeated(data) if self.sees else None
        self.found += found is not None
        return found


@dataclass
class Transport(asyncio.Transport):
    """Takes what is written."""

    written: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default


async def seen_of(request: ClientRequest) -> Seen:
    """All that a step of the proxy could see of a request."""
    body = request.whole_body()
    if body is None:
        body = b""
        while not request.content.at_eof():
            body += await request.content.readany()
    raw = [(name, b"" if name.lower() == b"content-length" else value) for name, value in request.head.fields.raw]
    flags = (request.chunked, request.upgrade, request.v1_1, request.keep_alive, request.body_exists)
    return request.method, request.target, raw, request.length, flags, body


async def serve(pieces: list[tuple[bytes, bool]], *, sees: bool) -> tuple[list[Seen], bytes, bool, int]:
    """Give these pieces to a connection, waiting where that is said.

    Returns what it served and wrote, whether it closed, and how many requests went past the parser.
    """
    served: list[Seen] = []

    async def handle(request: ClientRequest) -> bool:
        served.append(await seen_of(request))
        request.write(b"answer %d;" % len(served))
        return request.keep_alive

    server = GatewayServer(handle, head_timeout_s=60, idle_timeout_s=60)
    connection = server()
    wire = connection._wire = CountingWire(sees=sees)
    connection.trailers = Trailers(wire)
    transport = Transport()
    connection.connection_made(transport)
    for piece, waits in pieces:
        if not transport.closed:
            connection.data_received(piece)
        if waits:
            await settle()
    await settle()
    written = re.sub(rb"Date: [^\r]+", b"Date: now", transport.written)
    outcome = served, written, transport.closed, wire.found
    connection.connection_lost(None)
    await settle()
    return outcome


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(20):
        await asyncio.sleep(0)


LINES = (b"Host: a\r\n", b"X-Lectr-Key: k\r\n", b"X-Odd:  two \r\n", b"x-tight:1\r\n", b"Connection: keep-alive\r\n")
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Lectr-Key: k\r\n\r\n"
CHUNKED = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
BODIES = (b"", b"{}", b'{"model":"m"}', HEAD % 2 + b"{}", b"x" * 300, b"y" * 99_999, b"z" * 100_001)


def spelled(body: bytes, *, start: bytes = b"POST /v1/x HTTP/1.1", lines: bytes = b"Host: a\r\n") -> bytes:
    return b"%b\r\n%bContent-Length: %d\r\n\r\n%b" % (start, lines, len(body), body)


requests = st.one_of(
    st.builds(lambda body: HEAD % len(body) + body, st.sampled_from(BODIES)),
    st.builds(
        lambda body, lines: spelled(body, lines=b"".join(lines)),
        st.sampled_from(BODIES[:4]),
        st.lists(st.sampled_from(LINES), min_size=1, max_size=3, unique=True),
    ),
    st.sampled_from(
        [
            b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\r\n" + HEAD % 2 + b"{}",
            HEAD.replace(b"%d", b"002") + b"{}",
            HEAD.replace(b"%d", b"+2") + b"{}",
            HEAD.replace(b"%d", b" 2 ") + b"{}",
            CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
            CHUNKED + b"2\r\n{}\r\n0\r\nX-Leak: 1\r\n\r\n",
            CHUNKED + b"0\r\nX-Leak: 0\r\n\r\n",
            HEAD % 9 + b"{}\r\n0\r\n\r\n",
            HEAD.replace(b"X-Lectr-Key: k", b"Connection: Upgrade\r\nUpgrade: h2c") % 2 + b"{}",
            HEAD.replace(b"X-Lectr-Key: k", b"Expect: 100-continue") % 2 + b"{}",
            HEAD.replace(b"X-Lectr-Key: k", b"Connection: close") % 2 + b"{}",
            HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") % 2 + b"{}",
            HEAD.replace(b"X-Lectr-Key: k", b"X-Half") % 2,
            HEAD % 2 + b"{",
            HEAD[:40],
        ]
    ),
)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Requests, many of them like the one before, cut anywhere; and where the client waits before it sends more."""
    sent = draw(st.lists(requests, min_size=1, max_size=4))
    data = b"".join(request * draw(st.integers(1, 3)) for request in sent)
    ends = {0, len(data)}
    at = 0
    for request in sent:
        while data.startswith(request, at):
            at += len(request)
            ends.add(at)
    cuts = draw(st.sets(st.one_of(st.sampled_from(sorted(ends)), st.integers(0, len(data))), max_size=12))
    edges = sorted(cuts | ({0, len(data)} if draw(st.booleans()) else ends))
    pieces = [data[start:end] for start, end in pairwise(edges) if end > start]
    return [(piece, draw(st.booleans()) or draw(st.booleans())) for piece in pieces]


@given(deliveries())
def test_the_same_requests_are_served(pieces: list[tuple[bytes, bool]]) -> None:
    """Whatever is sent, however it is cut: the same requests, the same answers, the same end."""
    by_both = asyncio.run(serve(pieces, sees=True))
    by_parser = asyncio.run(serve(pieces, sees=False))
    assert by_both[:3] == by_parser[:3]
    assert not [seen for seen in by_both[0] if b"X-Leak" in dict(seen[2])], "a trailer of another request"


@pytest.mark.parametrize("body", BODIES[:6], ids=len)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "body apart"])
def test_repeats_go_past_the_parser(body: bytes, split: bool) -> None:
    """From the second on, whole or with the body apart, and again after a request of another kind."""
    head = HEAD % len(body)
    request = [(head, True), (body, True)] if split else [(head + body, True)]
    other = [(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", True)]
    served, _, closed, found = asyncio.run(serve(request * 4 + other * 2 + request * 2, sees=True))
    assert [seen[-1] for seen in served] == [body] * 4 + [b""] * 2 + [body] * 2
    assert (closed, found) == (False, 3 + 1 + 1)


@pytest.mark.parametrize(
    "other",
    [
        HEAD.replace(b"POST", b"PUT") % 2,
        HEAD.replace(b"/chat", b"/Chat") % 2,
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") % 2,
        HEAD.replace(b"Host: a", b"Host: b") % 2,
        HEAD.replace(b"X-Lectr-Key: k", b"X-Lectr-Key: K") % 2,
        HEAD.replace(b"X-Lectr-Key: k", b"X-Lectr-Key: k\r\nX-More: 1") % 2,
        HEAD.replace(b"X-Lectr-Key: k", b"Connection: close") % 2,
        HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked"),
        HEAD.replace(b"%d", b"2 "),
        HEAD.replace(b"%d", b"+2"),
        HEAD.replace(b"%d", b"0x2"),
        HEAD.replace(b"%d", b""),
        HEAD.replace(b"%d", b"\xb2"),
        HEAD.replace(b"%d", b"100000"),
        HEAD[:-2] % 2,
        (HEAD % 2).replace(b"\r\n", b"\n"),
        b"\r\n" + HEAD % 2,
        b"",
    ],
    ids=repr,
)
def test_what_differs_is_parsed(other: bytes) -> None:
    """Anything but another length of a few digits."""
    served, _, _, found = asyncio.run(serve([(HEAD % 2 + b"{}", True), (other + b"{}", True)], sees=True))
    assert served[0][-1] == b"{}"
    assert found == 0


def test_half_a_head_is_not_a_boundary() -> None:
    """Bytes that repeat a head, where the parser is in the middle of another one, are that one's."""
    request = HEAD % 2 + b"{}"
    half = b"POST /v1/other HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-Rest: "
    pieces = [(request, True), (request + half, True), (request, True)]
    served, _, _, found = asyncio.run(serve(pieces, sees=True))
    assert [seen[1] for seen in served] == ["/v1/chat/completions"] * 2 + ["/v1/other"][: len(served) - 2]
    assert found == 0


COMPLETION = b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}'
ASKED = 10


async def test_the_official_sdk_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests of one OpenAI client but its first: it sends a body apart from its head."""
    wires: list[CountingWire] = []

    def counting() -> CountingWire:
        wires.append(CountingWire(sees=True))
        return wires[-1]

    async def handle(request: ClientRequest) -> bool:
        await seen_of(request)
        request.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        request.write(b"Content-Length: %d\r\n\r\n%b" % (len(COMPLETION), COMPLETION))
        return True

    def ask(port: int) -> None:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0) as client:
            for length in range(ASKED):
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "h" * length}])

    monkeypatch.setattr("gateway.client_connection.Wire", counting)
    server = GatewayServer(handle, head_timeout_s=60, idle_timeout_s=60)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    async with listening:
        await asyncio.to_thread(ask, listening.sockets[0].getsockname()[1])
    assert [wire.found for wire in wires] == [ASKED - 1]
