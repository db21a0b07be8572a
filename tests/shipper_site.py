"""What tests of the shipper share: a Redis to break, a connection that loses answers, and what arrived."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import redis

from gateway.shipper import Shipper, new_source
from shared.environment import SecretUrl
from shared.stream import Frame, decode_frame, encode_event, partition_of
from tests.ingestor_process import event
from tests.parts import start_redis


class Store:
    """A Redis of a test's own, which it may kill and start again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.part, self.url = start_redis(directory)
        self.client = redis.Redis.from_url(self.url)
        self._write_before_answering()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def restart(self) -> None:
        self.part.kill()
        self.part, _ = start_redis(self._directory, self.port)
        self._write_before_answering()

    def _write_before_answering(self) -> None:
        """With everysec Redis answers before it writes whenever the disk is slow; a kill then loses what it took."""
        with redis.Redis.from_url(self.url) as client:
            client.config_set("appendfsync", "always")


def shipper(url: str, *, capacity_bytes: int = 64 << 20, interval_ms: int = 1, partitions: int = 1) -> Shipper:
    return Shipper(
        SecretUrl(url),
        source=new_source(),
        instance="gw-test",
        partitions=partitions,
        interval_ms=interval_ms,
        capacity_bytes=capacity_bytes,
    )


def add(to: Shipper, count: int) -> None:
    """Add events that carry the numbers they must."""
    for _ in range(count):
        to.add(encode_event(event(to.next_seq)))


def frames(url: str, of: Shipper, partitions: int = 1) -> list[Frame]:
    """What Redis holds of a shipper, in the order of the stream; each entry agrees with the frame in it."""
    found = []
    with redis.Redis.from_url(url) as client:
        for _, fields in client.xrange(partition_of(of.source, partitions).stream):
            if fields[b"s"] == str(of.source).encode():
                frame = decode_frame(fields[b"f"])
                bounds = (frame.source, frame.first_seq, len(frame.events))
                assert bounds == (of.source, int(fields[b"a"]), int(fields[b"n"]))
                assert set(fields) == {b"s", b"a", b"n", b"f"}
                assert frame.gateway == "gw-test"
                found.append(frame)
    return found


def seqs(url: str, of: Shipper) -> list[int]:
    return [item.seq for frame in frames(url, of) for item in frame.events]


async def until(look: Callable[[], Any], deadline_s: float = 20.0) -> None:
    """Poll without stopping the loop that the shipper runs on."""
    async with asyncio.timeout(deadline_s):
        while not look():  # noqa: ASYNC110 - the shipper has no event for what is looked at
            await asyncio.sleep(0.005)


async def shipped(ship: Shipper, events: int) -> None:
    """Until so many events were accepted."""
    await until(lambda: ship.next_seq - ship.waiting_events >= events)


def order(store: Store, *command: str) -> None:
    """A Redis command on a connection of its own."""
    with redis.Redis.from_url(store.url) as client:
        client.execute_command(*command)


def count(counter: Any, *labels: str) -> float:
    value: float = (counter.labels(*labels) if labels else counter)._value.get()
    return value


class LossyProxy:
    """A TCP proxy before Redis that can forward a push and then lose its answer, with or without the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.lose = 0
        self.hang = False
        self.lost = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = 0

    async def closed(self) -> None:
        """Wait until all clients are gone."""
        async with asyncio.timeout(10):
            await self._idle.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until either side leaves."""
        self._open += 1
        self._idle.clear()
        try:
            await self._relay(reader, writer)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        losing = False

        async def forth() -> None:
            nonlocal losing
            while data := await reader.read(1 << 20):
                # Decided before the push goes out: its answer can come at once.
                losing = losing or (self.lose > 0 and b"EVALSHA" in data)
                upstream_writer.write(data)
                await upstream_writer.drain()

        async def back() -> None:
            while data := await upstream_reader.read(1 << 20):
                if losing:
                    self.lose -= 1
                    self.lost += 1
                    if self.hang:
                        await asyncio.Event().wait()
                    return
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for closing in (writer, upstream_writer):
                closing.transport.abort()


@contextlib.asynccontextmanager
async def lossy(url: str) -> AsyncIterator[tuple[LossyProxy, str]]:
    proxy = LossyProxy(int(url.rpartition(":")[2].partition("/")[0]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        await proxy.closed()


async def flow(ship: Shipper, stop: asyncio.Event) -> None:
    """Add events without a pause until stopped."""
    while not stop.is_set():
        add(ship, 7)
        await asyncio.sleep(0.001)
