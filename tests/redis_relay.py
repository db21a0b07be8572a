"""A TCP relay before Redis, for the outage that Redis cannot make itself: a network that drops every SYN.

In: the URL of a Redis. Out: a URL that leads there, until `drop_syns`: open connections are cut and new ones get no
answer at all, not even a refusal. Or until `deafen`: nothing more comes through connections that subscribed, and nobody
tells them. The kernel does that for a listening socket whose queue of connections is full, so
neither root nor a packet filter is needed. The relay lives in a thread of its own.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

_BACKLOG = 512
_READ_BYTES = 1 << 20
_MOST_FILLERS = 8
"""Linux queues one connection more than the backlog says; a kernel that queued more would show here."""
_CONNECTED_WITHIN_S = 0.3
"""On the loopback a SYN that is not dropped is answered in microseconds, and a dropped one repeated after a second."""
_ANSWER_S = 20.0


class RedisRelay:
    """A running relay; made by `redis_relay`."""

    def __init__(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        self._redis = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listening.settimeout(0)
        self.url = parts._replace(netloc=f"127.0.0.1:{self._listening.getsockname()[1]}").geturl()
        self.answered_bytes = 0
        """What Redis has answered through the relay so far: while this stands, nobody got anything from it."""
        self._subscribed: set[asyncio.Task[None]] = set()
        self._deaf: set[asyncio.Task[None]] = set()
        self._fillers: list[socket.socket] = []
        self._open: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = threading.Event()

    def drop_syns(self) -> None:
        """Cut what is open and let every new connection run into nothing."""
        self._order(self._close_the_way())

    def take_syns(self) -> None:
        """Be there again."""
        self._order(self._open_the_way())

    def deafen(self) -> None:
        """Swallow what Redis sends through the connections that have subscribed so far."""
        self._deaf |= self._subscribed

    def _order(self, order: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result(_ANSWER_S)

    async def run(self) -> None:
        """Relay until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self._open_the_way()
        self._started.set()
        await self._stop.wait()
        await self._accept_nobody()
        await _ended(self._open)
        self._drop_fillers()
        self._listening.close()

    def wait_started(self) -> None:
        assert self._started.wait(_ANSWER_S), "the relay did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _open_the_way(self) -> None:
        await self._accept_nobody()
        self._drop_fillers()
        self._listening.listen(_BACKLOG)
        self._accepting = asyncio.create_task(self._accept(), name="relay accept")

    async def _close_the_way(self) -> None:
        await self._accept_nobody()
        self._listening.listen(0)
        while await self._queue_takes_one():
            assert len(self._fillers) < _MOST_FILLERS, "this kernel does not drop SYNs when the queue is full"
        # Last: who is cut comes back at once, and must not find a place in the queue.
        await _ended(self._open)

    async def _queue_takes_one(self) -> bool:
        filler = socket.socket()
        filler.settimeout(0)
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN_S):
                await asyncio.get_running_loop().sock_connect(filler, self._listening.getsockname())
        except TimeoutError:
            filler.close()
            return False
        self._fillers.append(filler)
        return True

    async def _accept_nobody(self) -> None:
        if self._accepting is not None:
            await _ended({self._accepting})

    def _drop_fillers(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    async def _accept(self) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            relaying = asyncio.create_task(self._relay(client), name="relay")
            self._open.add(relaying)
            relaying.add_done_callback(self._open.discard)

    async def _relay(self, client: socket.socket) -> None:
        # Either side may be gone at any moment: for a relay that is no error.
        with contextlib.suppress(OSError), contextlib.closing(client):
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                redis_reader, redis_writer = await asyncio.open_connection(*self._redis)
                try:
                    await self._both_ways(reader, writer, redis_reader, redis_writer)
                finally:
                    redis_writer.transport.abort()
            finally:
                writer.transport.abort()

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        redis_reader: asyncio.StreamReader,
        redis_writer: asyncio.StreamWriter,
    ) -> None:
        connection = asyncio.current_task()
        assert connection is not None

        async def forth() -> None:
            while data := await reader.read(_READ_BYTES):
                if b"SUBSCRIBE" in data:
                    self._subscribed.add(connection)
                redis_writer.write(data)
                await redis_writer.drain()

        async def back() -> None:
            while data := await redis_reader.read(_READ_BYTES):
                self.answered_bytes += len(data)
                if connection not in self._deaf:
                    writer.write(data)
                await writer.drain()

        ways = {asyncio.create_task(forth()), asyncio.create_task(back())}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(ways)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them and wait until they are over."""
    stopping = list(tasks)
    for task in stopping:
        task.cancel()
    await asyncio.gather(*stopping, return_exceptions=True)


@contextlib.contextmanager
def redis_relay(redis_url: str) -> Iterator[RedisRelay]:
    """A relay before that Redis, stopped with the block."""
    relay = RedisRelay(redis_url)
    thread = threading.Thread(target=lambda: asyncio.run(relay.run()), name="redis relay")
    thread.start()
    relay.wait_started()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(_ANSWER_S)
