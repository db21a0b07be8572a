"""Exchanges through the door to the providers that no client can be made to cause at will."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.upstream import Answer, Upstream, origin_of

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Collecting:
    """A sink that can stop taking, as a client does whose buffer is full."""

    def __init__(self) -> None:
        self.taken = b""
        self.pauses: Answer | None = None

    def take(self, wire: bytes, payload: bytes, *, last: bool) -> None:  # noqa: ARG002 - a sink's signature
        self.taken += wire
        if self.pauses is not None:
            self.pauses.pause()


@asynccontextmanager
async def upstream_to(*answers: bytes) -> AsyncIterator[tuple[Upstream, str, list[int]]]:
    """An upstream, the URL of a provider that gives these answers on each connection, and its connections' requests."""
    asked: list[int] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        number = len(asked)
        asked.append(0)
        try:
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                asked[number] += 1
                writer.write(answer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = Upstream(
        connect_timeout_s=5,
        first_byte_timeout_s=5,
        idle_timeout_s=5,
        idle_connection_s=15,
        connection_lifetime_s=60,
        dns_refresh_s=30,
        ca_file="",
        environ={},
    )
    async with listening, upstream:
        yield upstream, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", asked
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def exchange(upstream: Upstream, url: str, *, pause: bool = False) -> bytes:
    """One GET; the body."""
    origin, target = origin_of(url)
    sink = Collecting()
    answer = await upstream.open("GET", origin, target, b"\r\nHost: x", None)
    sink.pauses = answer if pause else None
    if not answer.start(sink):
        await answer.finished()
    answer.close()
    return sink.taken


async def test_a_connection_serves_one_after_the_other() -> None:
    """An exchange that ended well leaves its connection to the next one."""
    async with upstream_to(ANSWER, ANSWER) as (upstream, url, asked):
        assert [await exchange(upstream, url), await exchange(upstream, url)] == [b"body", b"body"]
        assert asked == [2]


async def test_a_paused_connection_is_not_handed_on() -> None:
    """A client that stopped taking with the last bytes, and left, leaves a connection that nobody reads: it is cut."""
    async with upstream_to(ANSWER, ANSWER) as (upstream, url, asked):
        assert await exchange(upstream, url, pause=True) == b"body"
        assert await exchange(upstream, url) == b"body"
        assert asked == [1, 1]


async def test_a_pause_outlasts_what_was_held() -> None:
    """Bytes that came before anybody took them do not start the reading again for a client that takes none."""
    large = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000_000
    async with upstream_to(large) as (upstream, url, _):
        origin, target = origin_of(url)
        sink = Collecting()
        answer = await upstream.open("GET", origin, target, b"\r\nHost: x", None)
        connection = answer._open
        async with asyncio.timeout(10):
            while not connection._held or connection._transport is None or connection._transport.is_reading():
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        answer.pause()
        answer.start(sink)
        assert not connection._transport.is_reading()
        answer.resume()
        assert connection._transport.is_reading()
        answer.close()
