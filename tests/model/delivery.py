"""A small world of real parts that a random walk can break at every step: journal, shipper, Redis, worker, ClickHouse.

Each action is one step of one part, run to its end or to a chosen crash. Everything is the product's own code on a real
Redis and a real ClickHouse; only the moments are chosen here.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.journal import Backlog, Journal, adopt_orphans, new_source
from gateway.shipper import Shipper
from ingestor.clickhouse import ClickHouse
from ingestor.deadletter import DeadLetters
from ingestor.faults import IngestorFault
from ingestor.lease import Lease, Leases
from ingestor.ledger import Ledger
from ingestor.members import Members
from ingestor.pricing import Pricer
from ingestor.probes import Health
from ingestor.reader import Limits, Reader
from ingestor.recovery import Recovery
from ingestor.redis_link import open_redis
from ingestor.settings import clickhouse_address
from ingestor.worker import Parts, Worker
from shared.environment import SecretUrl
from shared.stream import Partition, encode_event
from tests.ingestor_process import event

CRASHES = ("before record", "after record", "before insert", "after insert", "before commit", "after commit")
SEGMENT_BYTES = 4096
"""Some thirty events: a walk fills several."""
LEASE_MS = 300_000
"""Longer than any walk: who is replaced here does not notice by the clock, only by what Redis says."""


class Crash(Exception):
    """A process died here."""


class Site:
    """One Redis and one ClickHouse for many worlds."""

    def __init__(self, redis_url: str, clickhouse_url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.redis_url = SecretUrl(redis_url)
        self.redis = open_redis(self.redis_url)
        address = clickhouse_address(SecretUrl(f"{clickhouse_url}/lectr"))
        self.clickhouse = self.run(ClickHouse.connect(address))
        self.pricer = Pricer()

    async def prices(self) -> Pricer:
        """Those of the list."""
        return self.pricer

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(_awaited(work))

    def close(self) -> None:
        self.run(self.clickhouse.close())
        self.run(self.redis.aclose())
        self.loop.close()


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


class Crashing:
    """A part whose named calls can be made the last of its process."""

    def __init__(self, part: Any, plan: dict[str, str]) -> None:
        self._part = part
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        call: Callable[..., Awaitable[Any]] = getattr(self._part, name)
        if name not in {"record", "insert", "commit"}:
            return call

        async def called(*args: Any) -> Any:
            if self._plan.get("at") == f"before {name}":
                raise Crash
            answer = await call(*args)
            if self._plan.get("at") == f"after {name}":
                raise Crash
            return answer

        return called


class World:
    """What exists, what was published, and the actions."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.partition = Partition(0)
        self.folder = tempfile.TemporaryDirectory()
        self.published: set[tuple[int, int]] = set()
        self.sources: list[int] = []
        self.snapshot: dict[bytes, bytes] = {}
        self.plan: dict[str, str] = {}
        self.owner: tuple[Worker, Lease] | None = None
        self.replaced: list[tuple[Worker, Lease]] = []
        self.journal: Journal
        self.shipper: Shipper
        site.run(site.redis.flushall())
        self._boot()

    # The gateway.

    def _boot(self) -> None:
        self.journal = Journal(
            self.folder.name,
            source=new_source(),
            instance="gw",
            partitions=1,
            capacity_bytes=1 << 20,
            segment_bytes=SEGMENT_BYTES,
            sync_interval_ms=0,
        )
        self.sources.append(self.journal.source)
        self.shipper = Shipper(self.site.redis_url, self.journal, state_dir=self.folder.name, interval_ms=1)

    def publish(self, count: int) -> None:
        for _ in range(count):
            seq = self.journal.next_seq
            self.published.add((self.journal.source, seq))
            self.journal.append(encode_event(event(seq)))

    def leave_out(self, count: int) -> None:
        """Numbers of no event."""
        for _ in range(count):
            self.journal.skip()

    def ship(self, *, most: int, answer_lost: bool) -> None:
        for backlog in self._backlogs():
            self.site.run(self._ship_one(backlog, most, answer_lost=answer_lost))

    async def _ship_one(self, backlog: Backlog, most: int, *, answer_lost: bool) -> None:
        if (segment := backlog.to_load()) is not None:
            segment.load()
        run = backlog.next_run(most)
        if run is None:
            return
        if answer_lost:
            await self.shipper._stream.push(backlog, run)
        else:
            await self.shipper._push(backlog, run)

    def look(self) -> None:
        """Ask what is stored, give it up, and finish what dead processes left."""
        self.site.run(self.shipper._look())
        for source, orphan in list(self.shipper._adopted.items()):
            if self.site.run(self.shipper._finish(orphan)):
                del self.shipper._adopted[source]

    def kill_gateway(self) -> None:
        """As SIGKILL does: nothing is said, locks are gone."""
        self._drop_gateway()
        self._boot()
        for orphan in adopt_orphans(self.folder.name):
            self.shipper._adopted[orphan.backlog.source] = orphan

    def _drop_gateway(self) -> None:
        self.site.run(self.shipper._stream.close())
        for orphan in self.shipper._adopted.values():
            orphan.boot.close()
        self.journal.release()

    def _backlogs(self) -> list[Backlog]:
        return [self.shipper._own, *(orphan.backlog for orphan in self.shipper._adopted.values())]

    # The ingestor.

    def ingest(self, crash: str | None) -> None:
        """One round of the owner; killed at a step, or to its end."""
        if self.owner is None:
            self.owner = self._started()
        self._round(*self.owner, crash)

    def replace_owner(self) -> None:
        """Another ingestor takes over, while the former one still believes that it owns."""
        self.site.run(self.site.redis.delete(self.partition.lease))
        if self.owner is not None:
            self.replaced.append(self.owner)
        self.owner = self._started()

    def former_owner(self) -> None:
        """A round of one that was replaced."""
        for worker, lease in self.replaced[-1:]:
            self._round(worker, lease, None)

    def _round(self, worker: Worker, lease: Lease, crash: str | None) -> None:
        self.plan["at"] = crash or ""
        try:
            self.site.run(worker._round(lease))
        except Crash:
            # Its lease runs out some time; here at once.
            self.site.run(self.site.redis.delete(self.partition.lease))
            self.owner = None
        except IngestorFault:
            if self.owner is not None and worker is self.owner[0]:
                self.site.run(self.site.redis.delete(self.partition.lease))
                self.owner = None
        finally:
            self.plan["at"] = ""

    def _started(self) -> tuple[Worker, Lease]:
        site = self.site
        reader, leases = Reader(site.redis), Leases(site.redis, "ing", LEASE_MS)
        ledger: Any = Crashing(Ledger(site.redis), self.plan)
        clickhouse: Any = Crashing(site.clickhouse, self.plan)
        members = Members(site.redis, "ing", 1, LEASE_MS)
        recovery = Recovery(reader, ledger, clickhouse, longest_lease_s=0.0, partitions=1)
        parts = Parts(
            reader, ledger, leases, members, DeadLetters(site.redis), clickhouse, recovery, site.prices, Health()
        )
        limits = Limits(max_events=60, max_age_ms=1, max_entries=4)
        worker = Worker(self.partition, parts, limits, asyncio.Event())
        lease = site.run(leases.acquire(self.partition))
        if lease is None:
            site.run(site.redis.delete(self.partition.lease))
            lease = site.run(leases.acquire(self.partition))
        return worker, lease

    # Redis.

    def keep_snapshot(self) -> None:
        keys: list[bytes] = self.site.run(self.site.redis.keys("*"))
        self.snapshot = {key: self.site.run(self.site.redis.dump(key)) for key in keys}

    def go_back_to_snapshot(self) -> None:
        """A Redis that lost everything since: as a failover or a cut append-only file does."""
        self.site.run(self.site.redis.flushall())
        for key, data in self.snapshot.items():
            self.site.run(self.site.redis.restore(key, 0, data))
        self.site.run(self.site.redis.delete(self.partition.lease))
        self.site.run(self.site.redis.hset(self.partition.done, "run", "another"))
        self._owner_is_gone()

    def forget_all(self) -> None:
        self.site.run(self.site.redis.flushall())
        self._owner_is_gone()

    def lose_frame(self, place: int) -> None:
        """A frame disappears, as nobody should make it."""
        entries: list[Any] = self.site.run(self.site.redis.xrange(self.partition.stream))
        if entries:
            self.site.run(self.site.redis.xdel(self.partition.stream, entries[place % len(entries)][0]))

    def _owner_is_gone(self) -> None:
        if self.owner is not None:
            self.replaced.append(self.owner)
        self.owner = None

    # The reckoning.

    def drain(self) -> None:
        """Everything works from now on."""
        for _ in range(60):
            self.ship(most=50, answer_lost=False)
            self.look()
            self.ingest(None)
            if self._confirmed():
                return
        raise AssertionError(f"not drained: {self._state()}")

    def _confirmed(self) -> bool:
        own = self.shipper._own
        marks = self.site.run(self.shipper._stream.marks(own, seen=None))
        at_end = own.shipped_seq >= own.next_seq and (marks.stored_seq or 0) >= own.next_seq
        return at_end and not self.shipper._adopted and not self.site.run(self.site.redis.xlen(self.partition.stream))

    def _state(self) -> Any:
        marks = self.site.run(self.site.redis.hgetall(self.partition.done))
        return marks, [(backlog.source, backlog.shipped_seq, backlog.next_seq) for backlog in self._backlogs()]

    def stored(self) -> list[tuple[int, int]]:
        names = ", ".join(map(str, self.sources))
        sql = f"SELECT gateway_boot, gateway_seq FROM requests WHERE gateway_boot IN ({names})"
        return [(int(boot), int(seq)) for boot, seq in self.site.run(self.site.clickhouse.query(sql))]

    def check(self) -> None:
        """Every published event once; nothing else."""
        self.drain()
        stored = self.stored()
        twice = sorted(found for found in set(stored) if stored.count(found) > 1)
        lost = sorted(self.published - set(stored))
        assert not twice, f"stored twice: {self._named(twice)}"
        assert not lost, f"lost: {self._named(lost)}"
        assert set(stored) == self.published

    def _named(self, found: list[tuple[int, int]]) -> list[str]:
        """Numbers as a reader wants them: by the boot's place in the walk."""
        return [f"boot {self.sources.index(source)} event {seq}" for source, seq in found]

    def close(self) -> None:
        self._drop_gateway()
        self.folder.cleanup()
