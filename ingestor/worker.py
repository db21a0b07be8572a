"""The way of a partition's events, top to bottom: own, read, batch, price, insert, commit.

In: one partition. Out: rows in ClickHouse and entries gone from the stream. Each round starts from what Redis and
ClickHouse know, never from what this process remembers, so a round may be cut off anywhere: the next one, here or in
another ingestor, finds either a recorded batch and repeats it, or none and reads on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from ingestor.batch import Batch, Bounds, Decoded, Entry, Poison, build_batch, is_newer, sources_of
from ingestor.boots import store_ends
from ingestor.clickhouse import ClickHouse
from ingestor.deadletter import DeadLetters
from ingestor.faults import (
    Action,
    ClickHouseFault,
    IngestorFault,
    LeaseLost,
    NewerFrame,
    PendingMismatch,
    RedisFault,
    decide,
)
from ingestor.lease import Lease, Leases
from ingestor.ledger import NEVER_LOOKED, Ledger, Trust
from ingestor.marks import Marks
from ingestor.members import Members
from ingestor.presence import stored_marks
from ingestor.pricing import Pricer
from ingestor.probes import OWNER, STANDBY, Health
from ingestor.reader import Limits, Reader
from ingestor.recovery import Recovery, rebuilt
from ingestor.rows import Block, to_block
from shared import counters
from shared.logs import get_log
from shared.stream import Partition

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
_ANY_ENTRIES: Final = 1_000_000
_ASK_AGAIN_S: Final = 5.0
"""A gateway answers within a second or two; what it sends again is all that came since."""
_RECONCILE_S: Final = 5.0
"""How often a partition that is never silent is searched for what vanished."""

_log = get_log("worker")


class Parts(msgspec.Struct, frozen=True):
    """The rooms that a worker walks through."""

    reader: Reader
    ledger: Ledger
    leases: Leases
    members: Members
    dead_letters: DeadLetters
    clickhouse: ClickHouse
    recovery: Recovery
    pricer: Callable[[], Awaitable[Pricer]]
    """With prices as they are set at this moment. Raises IngestorFault."""
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
        self._ask_again_s: dict[int, float] = {}
        self._looked = NEVER_LOOKED
        self._look_again_s = 0.0
        self._log = _log.bind(partition=partition.index)

    async def run(self) -> None:
        """Own and serve the partition. Faults are waited out; what is no IngestorFault is a defect and ends it."""
        while not self._stopping.is_set():
            self._parts.health.beat(self._name)
            try:
                may_own = self._parts.members.may_own_another()
                lease = await self._parts.leases.acquire(self._partition) if may_own else None
            except RedisFault as fault:
                await self._wait_out(fault)
                continue
            self._parts.health.partitions[self._partition.index] = OWNER if lease else STANDBY
            self._recovered()
            if lease:
                await self._serve(lease)
            else:
                await self._rest(self._parts.leases.renew_interval_s)

    async def _serve(self, lease: Lease) -> None:
        self._log.info("partition owned", owner=lease.owner)
        self._parts.members.owns(self._partition.index)
        self._looked = NEVER_LOOKED
        newer: NewerFrame | None = None
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._parts.leases.keep(lease))
            try:
                while lease.valid and not self._done_here():
                    self._parts.health.beat(self._name)
                    try:
                        await self._round(lease)
                    except LeaseLost as fault:
                        self._log.warning("partition lost", detail=str(fault))
                        break
                    except NewerFrame as fault:
                        newer = fault
                        break
                    except IngestorFault as fault:
                        await self._wait_out(fault)
            finally:
                keeper.cancel()
                self._parts.members.gave_up(self._partition.index)
                self._parts.health.partitions[self._partition.index] = STANDBY
        try:
            await self._parts.leases.release(lease)
        except RedisFault as fault:
            self._log.warning("lease not released, it will expire", detail=str(fault))
        if newer is not None:
            # Another ingestor may be of the release that can read it: long enough for it to ask for the partition.
            self._parts.members.step_aside()
            pause_s = 2 * self._parts.leases.renew_interval_s
            self._say(newer, pause_s)
            await self._rest(pause_s)

    def _done_here(self) -> bool:
        return self._stopping.is_set() or self._parts.members.must_give_up(self._partition.index)

    async def _round(self, lease: Lease) -> None:
        state = await self._parts.ledger.state(self._partition)
        if state.trust is not Trust.THIS_RUN:
            self._looked = NEVER_LOOKED
            await self._parts.recovery.run(lease, state.trust, state.pending, self._insert)
        else:
            try:
                await (self._repeat(lease, state.pending) if state.pending else self._next(lease))
            except PendingMismatch as gone:
                self._log.error("what Redis holds does not fit together", detail=str(gone))
                await self._parts.recovery.run(lease, Trust.ENTRIES_MISSING, state.pending, self._insert)
        counters.stream_entries.labels(self._partition.index).set(await self._parts.ledger.waiting(self._partition))
        self._recovered()

    async def _next(self, lease: Lease) -> None:
        """The next batch from the head of the stream."""
        limits = msgspec.structs.replace(self._limits, max_entries=self._max_entries)
        gathered = await self._parts.reader.gather(self._partition, limits, self._stopping)
        if gathered.poison:
            await self._bury(lease, gathered.poison)
        elif gathered.entries:
            entries = gathered.entries
            stored = await self._stored(sorted({entry.source for entry in entries if entry.redriven}))
            batch = build_batch(self._partition.index, entries, await self._marks(sources_of(entries)), stored)
            await self._parts.ledger.record(lease, batch)
            self._recorded_token = batch.bounds.token
            await self._store(lease, batch, entries)
        else:
            counters.last_progress_unix_s.set_to_current_time()
            self._look_again_s = 0.0
        if time.monotonic() >= self._look_again_s:
            await self._reconcile(lease)

    async def _reconcile(self, lease: Lease) -> None:
        """Expect again what vanished from the stream."""
        self._look_again_s = time.monotonic() + _RECONCILE_S
        vanished, self._looked = await self._parts.ledger.reconcile(lease, self._looked)
        if vanished:
            counters.events_vanished.inc(vanished)
            self._log.error("accepted events are not in the stream", events=vanished, cure="expected again")

    async def _repeat(self, lease: Lease, bounds: Bounds) -> None:
        """A recorded batch, once more."""
        if bounds.token != self._recorded_token:
            self._recorded_token = bounds.token
            counters.batches_replayed.inc()
            self._log.info("batch of an earlier owner repeated", token=bounds.token, rows=bounds.rows)
        entries, batch = await rebuilt(self._parts.reader, self._partition, bounds)
        await self._store(lease, batch, entries)

    async def _marks(self, sources: list[int]) -> dict[int, Marks]:
        """What is taken care of. A source that Redis does not know is new, or was forgotten: ClickHouse tells."""
        known = await self._parts.ledger.marks(self._partition, sources)
        unknown = [source for source in sources if source not in known]
        return known | await self._stored(unknown)

    async def _stored(self, sources: list[int]) -> dict[int, Marks]:
        return await stored_marks(self._parts.clickhouse, sources) if sources else {}

    async def _bury(self, lease: Lease, poison: Poison, pending: Bounds | None = None) -> None:
        if is_newer(poison):
            raise NewerFrame(poison.entry_id, poison.detail)
        marks = None
        if poison.claim is not None:
            source, first, end = poison.claim
            before = (await self._marks([source]))[source]
            # A claim that does not follow what is known may be wrong, and would hide events that are still to come.
            if first <= before.end_of_first:
                marks = (source, before.with_ranges((first, end)))
        await self._parts.dead_letters.bury(lease, poison, marks=marks, pending=pending)

    async def _insert(self, batch: Batch) -> None:
        """Store a batch's rows, and nothing else."""
        block = await asyncio.to_thread(to_block, batch.segments, await self._parts.pricer())
        await self._parts.clickhouse.insert(batch.bounds.token, self._partition.index, block.data)

    async def _store(self, lease: Lease, batch: Batch, entries: list[Entry]) -> None:
        block = await asyncio.to_thread(to_block, batch.segments, await self._parts.pricer())
        if batch.bounds.rows:
            try:
                async with self._parts.clickhouse.turn:
                    lease.check()
                    started_s = time.monotonic()
                    await self._parts.clickhouse.insert(batch.bounds.token, self._partition.index, block.data)
            except ClickHouseFault as fault:
                await self._refused(lease, batch, entries, fault)
                return
            counters.insert_seconds.observe(time.monotonic() - started_s)
        if batch.ends:
            await store_ends(self._parts.clickhouse, batch.ends)
        await self._parts.ledger.commit(lease, batch)
        self._parts.dead_letters.limit.stored(len(entries))
        await self._ask_again(lease, batch)
        counters.last_progress_unix_s.set_to_current_time()
        self._max_entries = min(self._max_entries * 2, _ANY_ENTRIES)
        _count(batch, block)

    async def _ask_again(self, lease: Lease, batch: Batch) -> None:
        """Expect again what is missing before events that are stored, now and then: an answer takes its time."""
        now_s = time.monotonic()
        holes = {source: marks for source, marks in batch.done.items() if marks.missing and source not in batch.ends}
        due = {source: marks for source, marks in holes.items() if now_s >= self._ask_again_s.get(source, 0.0)}
        # Sources without holes need no memory.
        self._ask_again_s = {source: at_s for source, at_s in self._ask_again_s.items() if at_s > now_s}
        if due:
            self._ask_again_s |= dict.fromkeys(due, now_s + _ASK_AGAIN_S)
            missing = sum(marks.missing for marks in due.values())
            counters.events_vanished.inc(missing)
            self._log.error("events are missing before others", events=missing, cure="expected again")
            # What they send again is behind what was looked at, and has not vanished.
            self._looked = NEVER_LOOKED
            await self._parts.ledger.rewind(lease, due)

    async def _refused(self, lease: Lease, batch: Batch, entries: list[Entry], fault: ClickHouseFault) -> None:
        """Cut the batch, bury its only entry, or let the fault go on to be waited out."""
        stored = 0
        if fault.action is Action.SPLIT:
            stored = await self._parts.clickhouse.stored_rows(_ranges(batch))
        action = decide(fault, frames=len(entries), stored_rows=stored)
        if action is Action.SPLIT:
            half = entries[: len(entries) // 2]
            self._max_entries = len(half)
            smaller = build_batch(
                self._partition.index, half, batch.bounds.marks_before(), batch.bounds.stored_before()
            )
            await self._parts.ledger.record(lease, smaller)
            self._recorded_token = smaller.bounds.token
            counters.batch_splits.inc()
            self._log.warning("batch refused, cut in two", entries=len(entries), detail=str(fault))
        elif action is Action.DEAD and isinstance(entries[0], Decoded):
            entry = entries[0]
            first, end = entry.covers[1][0], entry.covers[-1][1]
            poison = Poison(entry.entry_id, "refused", str(fault), (entry.source, first, end))
            await self._bury(lease, poison, pending=batch.bounds)
        else:
            raise fault

    async def _wait_out(self, fault: IngestorFault) -> None:
        """Say what is wrong, wait, and come back. Waiting is all that is ever lost."""
        self._say(fault, self._pause_s)
        await self._rest(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _say(self, fault: IngestorFault, pause_s: float) -> None:
        if isinstance(fault, RedisFault):
            counters.redis_retries.inc()
        else:
            counters.insert_retries.labels(fault.label).inc()
        self._parts.health.faults[self._name] = str(fault)
        self._log.error("waiting", fault=fault.label, detail=str(fault), pause_s=pause_s)

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
