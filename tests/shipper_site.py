"""What tests of the shipper share: a gateway's journal with its shipper, a Redis to break, and what arrived there."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import redis

from gateway.journal.rebuilt import UNKNOWN
from gateway.shipper import Shipper
from shared.environment import SecretUrl
from shared.event import Event
from shared.stream import (
    BootEnd,
    Partition,
    decode_boot_end,
    decode_frame,
    partition_of,
)
from tests.journal_site import INSTANCE, add, open_journal
from tests.parts import PATIENCE_S, start_redis


class Store:
    """A Redis of a test's own, which it may kill and start again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.part, self.url = start_redis(directory)
        self.client = redis.Redis.from_url(self.url)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def restart(self) -> None:
        self.part.kill()
        self.part, _ = start_redis(self._directory, self.port)

    def save(self) -> None:
        """Kill it, copy what it has on disk, and start it again."""
        self.part.kill()
        shutil.copytree(self._directory / "appendonlydir", self._directory / "saved")
        self.restart()

    def restore(self) -> None:
        """Kill it, and start it with the copy."""
        self.part.kill()
        shutil.rmtree(self._directory / "appendonlydir")
        (self._directory / "saved").rename(self._directory / "appendonlydir")
        self.restart()

    def confirm(self, source: int, marks: object) -> None:
        """Say that these are in ClickHouse, as an ingestor does."""
        self.client.hset(Partition(0).done, str(source), str(marks))

    def confirm_end(self, source: int) -> None:
        """Say that the end record is in ClickHouse, as an ingestor does: its marks go, and so does its entry."""
        partition = Partition(0)
        found: Any = self.client.xrange(partition.stream)
        for entry_id, fields in found:
            if b"e" in fields and fields[b"s"] == b"%d" % source:
                self.client.xdel(partition.stream, entry_id)
        self.client.hset(partition.ended, str(source), "1")
        for name in (partition.done, partition.accepted, partition.seen):
            self.client.hdel(name, str(source))


class Sender:
    """A journal and its shipper, made and taken down as gateway/app.py does."""

    alive: ClassVar[list["Sender"]] = []
    """Those that were started and neither closed nor dead: a test that fails leaves some."""

    def __init__(
        self,
        url: str,
        state_dir: Path | None = None,
        *,
        interval_ms: int = 1,
        partitions: int = 1,
        capacity_bytes: int = 64 << 20,
        segment_bytes: int = 1 << 20,
    ) -> None:
        self.journal = open_journal(
            state_dir, partitions=partitions, capacity_bytes=capacity_bytes, segment_bytes=segment_bytes
        )
        directory = str(state_dir or "")
        self.ship = Shipper(SecretUrl(url), self.journal, state_dir=directory, interval_ms=interval_ms)

    @property
    def source(self) -> int:
        return self.journal.source

    @property
    def waiting(self) -> int:
        return self.ship.waiting_events

    @property
    def adopted(self) -> int:
        return self.ship.adopted_boots

    def start(self) -> None:
        self.alive.append(self)
        self.journal.start()
        self.ship.start()

    def add(self, count: int) -> None:
        add(self.journal, count)

    async def all_shipped(self) -> None:
        await until(lambda: not self.waiting)

    async def close(self, timeout_s: float = 20.0) -> None:
        await self.ship.close(timeout_s)
        await self.journal.close()
        self.journal.release()
        self._gone()

    async def die(self) -> None:
        """What SIGKILL leaves: no task runs on, nothing is said about an end, and the kernel gives the lock back."""
        tasks = [*self.ship._tasks, *([self.journal._tending] if self.journal._tending else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.ship._stream.close()
        for orphan in self.ship._adopted.values():
            orphan.boot.close()
        self.journal.release()
        self._gone()

    def _gone(self) -> None:
        if self in self.alive:
            self.alive.remove(self)


class Arrived(msgspec.Struct, frozen=True):
    """A stream entry of a source: a frame, or its end."""

    floor: int
    expected_seq: int
    first_seq: int
    events: list[Event]
    end: BootEnd | None

    @property
    def bounds(self) -> tuple[int, int, int]:
        """The fields p, a and the number behind the last event."""
        return self.expected_seq, self.first_seq, self.first_seq + len(self.events)


def entries(url: str, source: int, partitions: int = 1) -> list[Arrived]:
    """What Redis holds of a source, in the order of the stream; each entry agrees with the frame in it."""
    with redis.Redis.from_url(url) as client:
        found: Any = client.xrange(partition_of(source, partitions).stream)
    return [_arrived(source, fields) for _, fields in found if fields[b"s"] == b"%d" % source]


def _arrived(source: int, fields: dict[bytes, bytes]) -> Arrived:
    floor, expected_seq, first_seq, count = (int(fields[name]) for name in (b"o", b"p", b"a", b"n"))
    if b"e" in fields:
        assert set(fields) == {b"s", b"o", b"p", b"a", b"n", b"e"}
        assert count == 0
        return Arrived(floor, expected_seq, first_seq, [], decode_boot_end(fields[b"e"]))
    assert set(fields) == {b"s", b"o", b"p", b"a", b"n", b"f"}
    frame = decode_frame(fields[b"f"])
    assert (frame.source, frame.first_seq, len(frame.events)) == (source, first_seq, count)
    assert frame.gateway in {INSTANCE, UNKNOWN}
    return Arrived(floor, expected_seq, first_seq, frame.events, None)


def frames(url: str, source: int, partitions: int = 1) -> list[Arrived]:
    return [entry for entry in entries(url, source, partitions) if entry.end is None]


def ends(url: str, source: int) -> list[Arrived]:
    return [entry for entry in entries(url, source) if entry.end is not None]


def seqs(url: str, source: int) -> list[int]:
    return [item.seq for entry in entries(url, source) for item in entry.events]


def assert_chain(arrived: list[Arrived]) -> None:
    """Each frame says that it follows the one before: what lies between them is of no event."""
    for before, following in pairwise(arrived):
        assert following.expected_seq == before.bounds[2], (before.bounds, following.bounds)
        assert following.first_seq >= following.expected_seq


async def until(look: Callable[[], Any], deadline_s: float = PATIENCE_S) -> None:
    """Poll without stopping the loop that the shipper runs on."""
    async with asyncio.timeout(deadline_s):
        while not look():  # noqa: ASYNC110 - the shipper has no event for what is looked at
            await asyncio.sleep(0.005)


async def shipped(sender: Sender, events: int) -> None:
    """Until so many events were accepted."""
    await until(lambda: sender.journal.next_seq - sender.waiting >= events)


def order(url: str, *command: str) -> None:
    """A Redis command on a connection of its own."""
    with redis.Redis.from_url(url) as client:
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
                losing = losing or (self.lose > 0 and b"EVALSHA" in data and b":frames" in data)
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


@contextlib.contextmanager
def store_in(directory: Path) -> Iterator[Store]:
    """A Redis that ends with the block."""
    made = Store(directory)
    try:
        yield made
    finally:
        made.client.close()
        made.part.kill()


async def flow(sender: Sender, stop: asyncio.Event) -> None:
    """Add events without a pause until stopped."""
    while not stop.is_set():
        sender.add(7)
        await asyncio.sleep(0.001)
