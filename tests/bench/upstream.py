"""The provider of the measurements, as cheap as Python allows: `python -m tests.bench.upstream`, a process of its own.

Any POST is answered with the completion; `"stream": true` in its body with server-sent events, one chunk each, paced by
one timer for all streams. Orders stand in the body's `user` field: `pace-MS-EVENTS` for a stream, `status-CODE` for a
refusal, `cut-MS-EVENTS` for a stream that breaks off in its middle.
"""

import asyncio
import gc
import re
import time
from email.utils import formatdate
from functools import cache
from typing import Final, cast

import uvloop

from tests.bench.payloads import COMPLETION, DONE, REFUSAL, events

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STREAM: Final = re.compile(rb'"stream": ?true')
_ORDER: Final = re.compile(rb'"user": ?"(pace|cut|status)-(\d+)(?:-(\d+))?"')
_TICK_S: Final = 0.001
_LAST_CHUNK: Final = b"0\r\n\r\n"


def _head(status: str, *fields: str) -> bytes:
    """An answer's head with the fields that OpenAI sends."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Date: {formatdate(usegmt=True)}",
        *fields,
        "Connection: keep-alive",
        "access-control-expose-headers: X-Request-ID",
        "openai-organization: shop-7f3kq1",
        "openai-processing-ms: 412",
        "openai-project: proj_Zt81sXcW0q4LrN2v",
        "openai-version: 2020-10-01",
        "x-envoy-upstream-service-time: 431",
        "x-ratelimit-limit-requests: 10000",
        "x-ratelimit-limit-tokens: 10000000",
        "x-ratelimit-remaining-requests: 9999",
        "x-ratelimit-remaining-tokens: 9999968",
        "x-ratelimit-reset-requests: 6ms",
        "x-ratelimit-reset-tokens: 0s",
        "x-request-id: req_5d1be3c0a94e4f7f8d2b6c7a1e0f9834",
        "strict-transport-security: max-age=31536000; includeSubDomains; preload",
        "cf-cache-status: DYNAMIC",
        "X-Content-Type-Options: nosniff",
        "Server: cloudflare",
        "CF-RAY: 98a1c3d5e7f90b2d-FRA",
        'alt-svc: h3=":443"; ma=86400',
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


_JSON_TYPE: Final = "Content-Type: application/json"
_PLAIN: Final = _head("200 OK", _JSON_TYPE, f"Content-Length: {len(COMPLETION)}") + COMPLETION
_STREAM_HEAD: Final = _head("200 OK", "Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def _writes(count: int) -> tuple[bytes, ...]:
    """What goes out at each due time: one event as one chunk; the last together with [DONE] and the end."""
    chunks = [_framed(event) for event in events(count)]
    chunks[-1] += _framed(DONE) + _LAST_CHUNK
    return tuple(chunks)


class Pacer:
    """All open streams in one wheel of 1 ms slots, so that a thousand of them cost one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Stream]] = {}
        self._done_ms = 0
        self._open = 0

    def add(self, stream: "Stream") -> None:
        now_ms = time.monotonic_ns() // 1_000_000
        if not self._open:
            self._done_ms = now_ms
            self._loop.call_later(_TICK_S, self._turn)
        self._open += 1
        stream.due_ms = now_ms + stream.interval_ms
        self._slots.setdefault(stream.due_ms, []).append(stream)

    def _turn(self) -> None:
        now_ms = time.monotonic_ns() // 1_000_000
        for slot_ms in range(self._done_ms + 1, now_ms + 1):
            for stream in self._slots.pop(slot_ms, ()):
                if not stream.step():
                    self._open -= 1
                    continue
                # From the time it was due, so that a late turn does not shift the stream for good.
                stream.due_ms = max(stream.due_ms + stream.interval_ms, now_ms + 1)
                self._slots.setdefault(stream.due_ms, []).append(stream)
        self._done_ms = now_ms
        if self._open:
            self._loop.call_later(_TICK_S, self._turn)


class Stream:
    """One answer of server-sent events on its way."""

    __slots__ = ("_connection", "_next", "_stop", "_writes", "due_ms", "interval_ms")

    def __init__(self, connection: "Connection", interval_ms: int, count: int, *, cut: bool) -> None:
        self._connection = connection
        self._writes = _writes(count)
        self._stop = count // 2 if cut else count
        self._next = 1
        self.interval_ms = max(interval_ms, 1)
        self.due_ms = 0

    def step(self) -> bool:
        """Send the next event; whether there is more to send."""
        transport = self._connection.transport
        if transport is None:
            return False
        if self._next == self._stop:
            transport.abort()
            return False
        transport.write(self._writes[self._next])
        self._next += 1
        if self._next < len(self._writes):
            return True
        self._connection.streaming = False
        return False


class Connection(asyncio.Protocol):
    """A gateway's connection: one request at a time."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._received = b""
        self.transport: asyncio.Transport | None = None
        self.streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            self._received = received
            return
        length = _LENGTH.search(received, 0, end)
        if length:
            whole = len(received) >= end + 4 + int(length[1])
        else:
            whole = not _CHUNKED.search(received, 0, end) or received.endswith(_LAST_CHUNK)
        if not whole:
            self._received = received
            return
        self._received = b""
        self._answer(received)

    def _answer(self, request: bytes) -> None:
        transport = self.transport
        assert transport is not None
        if self.streaming:
            transport.abort()  # a request in the middle of an answer: no gateway may do that
            return
        order = _ORDER.search(request)
        if _STREAM.search(request):
            kind, interval_ms, count = order.groups() if order else (b"pace", b"5", b"201")
            stream = Stream(self, int(interval_ms), int(count), cut=kind == b"cut")
            self.streaming = True
            transport.write(_STREAM_HEAD + _writes(int(count))[0])
            self._pacer.add(stream)
        elif order and order[1] == b"status":
            status = order[2].decode()
            transport.write(_head(f"{status} Refused", _JSON_TYPE, f"Content-Length: {len(REFUSAL)}") + REFUSAL)
        else:
            transport.write(_PLAIN)


async def serve() -> None:
    """Serve on a free port until killed."""
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    gc.freeze()  # what the imports made need not be looked through between two events
    server = await loop.create_server(lambda: Connection(pacer), "127.0.0.1", 0, backlog=4096)
    print(f"upstream listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
