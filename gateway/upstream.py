"""The door to the providers: a request's head and body out, the answer's own bytes back.

Never follows a redirect, never decodes a body, keeps no cookies, sends nothing twice: a request that was written to a
connection is not written to another one.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Final, Self

from gateway.faults import ClientStalled, ProviderStalled, ProviderTimeout
from gateway.transport.connection import Connection, Sink
from gateway.transport.dial import Dialer, Origin, tls_context
from gateway.transport.head import AnswerHead
from gateway.transport.pool import Pool
from gateway.transport.proxies import Proxies
from shared import counters

RequestBody = bytes | bytearray | AsyncIterator[bytes | bytearray] | None

__all__ = ["Answer", "AnswerHead", "Origin", "RequestBody", "Sink", "Upstream", "origin_of"]

_LONGEST_TICK_S: Final = 1.0
_TICKS_PER_TIMEOUT: Final = 4
"""How precisely timeouts are kept: a timer per request would cost more than looking at all of them now and then."""


_UNSENDABLE: Final = re.compile(r"[\x00-\x20\x7f#]")
"""Would end the request line, or begin another header field."""


@lru_cache(maxsize=4096)
def _origin_of(url_start: str) -> Origin:
    return Origin.of(url_start)


def origin_of(url: str) -> tuple[Origin, bytes]:
    """An absolute URL (ASCII) as origin and request target. Raises ValueError for what is none."""
    path_at = url.find("/", url.find("://") + 3)
    query_at = url.find("?")
    end = min(at for at in (path_at, query_at, len(url)) if at >= 0)
    target = url[end:]
    if _UNSENDABLE.search(target):
        raise ValueError("a request target has no blanks, control characters or fragment")
    return _origin_of(url[:end]), (target if target.startswith("/") else "/" + target).encode("ascii")


class Answer:
    """A provider's answer whose head has arrived."""

    __slots__ = ("_connection", "_origin", "_upstream", "head")

    def __init__(self, upstream: "Upstream", origin: Origin, connection: Connection, head: AnswerHead) -> None:
        self._upstream = upstream
        self._origin = origin
        self._connection: Connection | None = connection
        self.head = head

    def start(self, sink: Sink) -> bool:
        """Push what has arrived, and from now on all that arrives, to the sink; whether that was all already."""
        return self._open.start(sink)

    async def finished(self) -> None:
        """Wait for the end of the body. Raises ProviderTruncated, ProviderStalled, and what the upload raised."""
        await self._open.finished()

    def start_tunnel(self, take: Callable[[bytes], None]) -> None:
        """After a 101: hand over all bytes as they come, and an empty one at the end."""
        self._open.start_tunnel(take)

    def write(self, data: bytes) -> asyncio.Future[None] | None:
        """Send bytes through the tunnel; what to wait for before sending more, if anything. Raises ConnectionError."""
        return self._open.write(data)

    def pause(self) -> None:
        """Take no more from the provider for now."""
        self._open.pause()

    def resume(self) -> None:
        """Take bytes again."""
        self._open.resume()

    def close(self) -> None:
        """Give the connection back if the answer was read to its end; otherwise cut it, so that the provider stops."""
        if self._connection is not None:
            self._upstream.end(self._origin, self._connection)
            self._connection = None

    @property
    def idle_timeout_s(self) -> float:
        """How long either side may be silent."""
        return self._upstream.idle_timeout_s

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the answer was closed")
        return self._connection


class Upstream:
    """Connections to the providers. Use as an async context manager."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        first_byte_timeout_s: float,
        idle_timeout_s: float,
        idle_connection_s: float,
        connection_lifetime_s: float,
        dns_refresh_s: float,
        ca_file: str,
        environ: Mapping[str, str],
    ) -> None:
        self._first_byte_timeout_s = first_byte_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self._dialer = Dialer(
            tls=tls_context(ca_file),
            proxies=Proxies(environ),
            connect_timeout_s=connect_timeout_s,
            dns_refresh_s=dns_refresh_s,
        )
        self._pool = Pool(idle_s=idle_connection_s, lifetime_s=connection_lifetime_s)
        self._busy: set[Connection] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._now_s: Callable[[], float] = time.monotonic

    async def __aenter__(self) -> Self:
        # The loop's clock is as old as its current round, and costs no system call.
        self._now_s = asyncio.get_running_loop().time
        self._sweeping = asyncio.create_task(self._sweep(), name="upstream sweep")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
        self._pool.close()
        for connection in self._busy:
            connection.abort()

    async def open(
        self,
        method: str,
        origin: Origin,
        target: bytes,
        lines: bytes,
        body: RequestBody,
        *,
        chunked: bool = False,
        on_interim: Callable[[bytes], None] | None = None,
        upgrades: bool = False,
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        `lines` are the header lines, each with its CRLF before it: Host is among them and, for a body of known length,
        Content-Length; `chunked` says that a streamed body has none. `on_interim` gets the heads of 1xx answers other
        than 100; with `upgrades` a 101 is an answer. Raises ProviderUnreachable, ProviderTimeout, and whatever reading
        the body raises.
        """
        connection = self._pool.take(origin, self._now_s()) or await self._dialer.dial(origin)
        self._busy.add(connection)
        try:
            start = b"%b %b%b HTTP/1.1" % (method.encode("ascii"), connection.target_prefix, target)
            if body is None or isinstance(body, bytes | bytearray):
                request = b"".join((start, lines, connection.proxy_lines, b"\r\n\r\n", body or b""))
                connection.send(method, request, on_interim=on_interim, upgrades=upgrades)
            else:
                end = b"\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n\r\n"
                connection.send(method, b"".join((start, lines, connection.proxy_lines, end)), on_interim=on_interim)
                connection.upload(body, chunked=chunked)
            return Answer(self, origin, connection, await connection.answer())
        except BaseException:
            self.end(origin, connection)
            raise

    def end(self, origin: Origin, connection: Connection) -> None:
        """An exchange is over: keep its connection if it can serve another, cut it otherwise."""
        self._busy.discard(connection)
        if connection.finish():
            self._pool.give_back(origin, connection, self._now_s())

    async def _sweep(self) -> None:
        """Fail exchanges whose provider has been silent for too long, and close what was idle for too long."""
        loop = asyncio.get_running_loop()
        shortest_s = min(self._first_byte_timeout_s, self.idle_timeout_s)
        while True:
            await asyncio.sleep(min(_LONGEST_TICK_S, shortest_s / _TICKS_PER_TIMEOUT))
            now_s = loop.time()
            for connection in list(self._busy):
                match connection.overdue(now_s, self._first_byte_timeout_s, self.idle_timeout_s):
                    case "first byte":
                        connection.fail(
                            ProviderTimeout(
                                "the provider sent no answer in time; LECTR_FIRST_BYTE_TIMEOUT_S sets the limit"
                            )
                        )
                    case "idle":
                        connection.fail(ProviderStalled("no byte within the idle timeout"))
                    case "client":
                        connection.fail(ClientStalled("nothing was taken within the idle timeout"))
            self._pool.sweep(now_s)
            counters.upstream_idle_connections.set(len(self._pool))
