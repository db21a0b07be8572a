"""The way of a partition's events, top to bottom: own, read, batch, price, insert, commit.

In: one partition. Out: rows in ClickHouse and entries gone from the stream. Each round starts from what Redis and
ClickHouse know, never from what this process remembers, so a round may be cut off anywhere: the next one, here or in
another ingestor, finds either a recorded batch and repeats it, or none and reads on.
"""

import asyncio
import time
from typing import Final

import msgspec

from ingestor.batch import Batch, Bounds, Decoded, Poison, build_batch, sources_of
from ingestor.clickhouse import ClickHouse
from ingestor.deadletter import DeadLetters
from ingestor.faults import (
    Action,
    ClickHouseFault,
    IngestorFault,
    LeaseLost,
    PendingMismatch,
    RedisFault,
    decide,
)
from ingestor.lease import Lease, Leases
from ingestor.ledger import Ledger
from ingestor.pricing import Pricer
from ingestor.probes import Health
from ingestor.reader import Limits, Reader
from ingestor.rows import Block, to_block
from shared import counters
from shared.logs import get_log
from shared.stream import Partition

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
_ANY_ENTRIES: Final = 1_000_000

_log = get_log("worker")


class Parts(msgspec.Struct, frozen=True):
    """The rooms that a worker walks through."""

    reader: Reader
    ledger: Ledger
    leases: Leases
    dead_letters: DeadLetters
    clickhouse: ClickHouse
    pricer: Pricer
    health: Health


class Worker:
    """Works on one partition whenever this process owns it, until `stopping` is set."""

    def __init__(self, partition: Partition, parts: Parts, limits: Limits, stopping: asyncio.Event) -> None:
        self._partition = partition
        self._parts = parts
        self._limits = limits
        self._stopping = stopping
        self._max_entries = _ANY_ENTRIES
        self._recorded_token = ""
        self._pause_s = FIRST_PAUSE_S
        self._log = _log.bind(partition=partition.index)

    async def run(self) -> None:
        """Own and serve the partition. Faults are waited out; what is no IngestorFault is a defect and ends it."""
        while not self._stopping.is_set():
            self._parts.health.beat(self._name)
            try:
                lease = await self._parts.leases.acquire(self._partition)
            except RedisFault as fault:
                await self._wait_out(fault)
                continue
            self._parts.health.partitions[self._partition.index] = "owner" if lease else "standby"
            self._recovered()
            if lease:
                await self._serve(lease)
            else:
                await self._rest(self._parts.leases.renew_interval_s)

    async def _serve(self, lease: Lease) -> None:
        self._log.info("partition owned", owner=lease.owner)
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._parts.leases.keep(lease))
            try:
                while lease.valid and not self._stopping.is_set():
                    self._parts.health.beat(self._name)
                    try:
                        await self._round(lease)
                    except LeaseLost as fault:
                        self._log.warning("partition lost", detail=str(fault))
                        break
                    except IngestorFault as fault:
                        await self._wait_out(fault)
            finally:
                keeper.cancel()
        try:
            await self._parts.leases.release(lease)
        except RedisFault as fault:
            self._log.warning("lease not released, it will expire", detail=str(fault))

    async def _round(self, lease: Lease) -> None:
        bounds = await self._parts.ledger.pending(self._partition)
        entries = await self._repeat(bounds) if bounds else await self._gather(lease)
        if not entries:
            counters.last_progress_unix_s.set_to_current_time()
        if entries:
            done = await self._parts.ledger.done(self._partition, sources_of(entries))
            batch = build_batch(self._partition.index, entries, done)
            if bounds is None:
                await self._parts.ledger.record(lease, batch)
                self._recorded_token = batch.bounds.token
            elif batch.bounds != bounds:
                raise PendingMismatch(f"recorded batch {bounds.token} comes out as {batch.bounds.token}")
            await self._store(lease, batch, entries)
        counters.stream_entries.labels(self._partition.index).set(await self._parts.ledger.waiting(self._partition))
        self._recovered()

    async def _repeat(self, bounds: Bounds) -> list[Decoded]:
        if bounds.token != self._recorded_token:
            self._recorded_token = bounds.token
            counters.batches_replayed.inc()
            self._log.info("batch of an earlier owner repeated", token=bounds.token, rows=bounds.rows)
        return await self._parts.reader.rebuild(self._partition, bounds)

    async def _gather(self, lease: Lease) -> list[Decoded]:
        limits = msgspec.structs.replace(self._limits, max_entries=self._max_entries)
        gathered = await self._parts.reader.gather(self._partition, limits, self._stopping)
        if gathered.poison:
            await self._parts.dead_letters.bury(lease, gathered.poison)
        return gathered.entries

    async def _store(self, lease: Lease, batch: Batch, entries: list[Decoded]) -> None:
        block = await asyncio.to_thread(to_block, batch.segments, self._parts.pricer)
        if batch.bounds.rows:
            lease.check()
            started_s = time.monotonic()
            try:
                await self._parts.clickhouse.insert(batch.bounds.token, self._partition.index, block.data)
            except ClickHouseFault as fault:
                await self._refused(lease, batch, entries, fault)
                return
            counters.insert_seconds.observe(time.monotonic() - started_s)
        await self._parts.ledger.commit(lease, batch)
        counters.last_progress_unix_s.set_to_current_time()
        self._max_entries = min(self._max_entries * 2, _ANY_ENTRIES)
        _count(batch, block)

    async def _refused(self, lease: Lease, batch: Batch, entries: list[Decoded], fault: ClickHouseFault) -> None:
        """Cut the batch, bury its only entry, or let the fault go on to be waited out."""
        stored = 0
        if fault.action is Action.SPLIT:
            stored = await self._parts.clickhouse.stored_rows(_ranges(batch))
        action = decide(fault, frames=len(entries), stored_rows=stored)
        if action is Action.SPLIT:
            half = entries[: len(entries) // 2]
            self._max_entries = len(half)
            done = await self._parts.ledger.done(self._partition, sources_of(half))
            smaller = build_batch(self._partition.index, half, done)
            await self._parts.ledger.record(lease, smaller)
            self._recorded_token = smaller.bounds.token
            counters.batch_splits.inc()
            self._log.warning("batch refused, cut in two", entries=len(entries), detail=str(fault))
        elif action is Action.DEAD:
            frame = entries[0].frame
            end_seq = frame.first_seq + len(frame.events)
            poison = Poison(entries[0].entry_id, "refused", str(fault), mark=(frame.source, end_seq))
            await self._parts.dead_letters.bury(lease, poison, pending=batch.bounds)
        else:
            raise fault

    async def _wait_out(self, fault: IngestorFault) -> None:
        """Say what is wrong, wait, and come back. Waiting is all that is ever lost."""
        if isinstance(fault, RedisFault):
            counters.redis_retries.inc()
        else:
            counters.insert_retries.labels(fault.label).inc()
        self._parts.health.faults[self._name] = str(fault)
        self._log.error("waiting", fault=fault.label, detail=str(fault), pause_s=self._pause_s)
        await self._rest(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _recovered(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        if self._parts.health.faults.pop(self._name, None):
            self._log.info("working again")

    @property
    def _name(self) -> str:
        return f"partition {self._partition.index}"

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return


def _ranges(batch: Batch) -> list[tuple[int, int, int]]:
    """The batch's (source, first seq, end seq), runs that follow each other as one."""
    ranges: list[tuple[int, int, int]] = []
    for part in sorted(batch.segments, key=lambda part: (part.source, part.events[0].seq)):
        first, end = part.events[0].seq, part.events[-1].seq + 1
        if ranges and ranges[-1][0] == part.source and ranges[-1][2] == first:
            ranges[-1] = (part.source, ranges[-1][1], end)
        else:
            ranges.append((part.source, first, end))
    return ranges


def _count(batch: Batch, block: Block) -> None:
    counters.batches.inc()
    counters.events_stored.inc(batch.bounds.rows)
    counters.events_repeated.inc(batch.repeated)
    counters.events_clamped.inc(block.clamped)
    for reason, count in block.unpriced.items():
        counters.events_unpriced.labels(reason).inc(count)
