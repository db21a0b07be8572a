"""A partition whose marks cannot be trusted: Redis restarted, failed over, was emptied, or lost entries of a batch.

In: a lease, and the record of a batch, if there is one. Out: marks that say what ClickHouse says. Everything that Redis
has forgotten is in the gateways' journals and comes again; what is in ClickHouse already is then left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ingestor.batch import Batch, Bounds, Entry, build_batch
from ingestor.clickhouse import ClickHouse
from ingestor.faults import Action, ClickHouseFault, PendingMismatch
from ingestor.lease import Lease
from ingestor.ledger import Ledger, Trust
from ingestor.presence import is_new, note_begun, settle, stored_marks, unended
from ingestor.reader import Reader
from shared import counters
from shared.logs import get_log
from shared.stream import Partition

Insert = Callable[[Batch], Awaitable[None]]
_log: Final = get_log("recovery")


class Recovery:
    """Compares Redis with ClickHouse, once per partition and run of Redis."""

    def __init__(
        self, reader: Reader, ledger: Ledger, clickhouse: ClickHouse, longest_lease_s: float, partitions: int
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._clickhouse = clickhouse
        self._longest_lease_s = longest_lease_s
        self._partitions = partitions

    async def run(self, lease: Lease, trust: Trust, pending: Bounds | None, insert: Insert) -> None:
        """Make the marks right. Raises what Redis and ClickHouse raise: then it is to be run again, from the start."""
        partition = lease.partition
        log = _log.bind(partition=partition.index)
        if await is_new(self._clickhouse, partition.index):
            # Without marks there is no insert: whoever had some before has left the same note.
            await note_begun(self._clickhouse, partition.index)
        else:
            wait_s = await self._zombies_s(partition, trust)
            log.warning("marks compared with ClickHouse", why=trust.value, wait_s=round(wait_s, 1), batch=bool(pending))
            await asyncio.sleep(wait_s)
        await settle(self._clickhouse, partition.index)
        if pending is not None:
            await self._repeat(lease, pending, insert)
        sources = await self._ledger.sources(partition)
        marks = await stored_marks(self._clickhouse, sources)
        # Which partition a forgotten one is of was forgotten too: it is waited for in the one of the present number.
        waited = await unended(self._clickhouse, partition.index, self._partitions)
        lease.check()
        await self._ledger.validate(lease, marks, waited)
        counters.recoveries.labels(trust.value).inc()

    async def _zombies_s(self, partition: Partition, trust: Trust) -> float:
        """How long an ingestor that lost its lease with Redis' memory may still believe in it, and begin an insert."""
        # One that renewed with this process would have kept us from owning the partition.
        served_s = await self._ledger.serving_s(partition) if trust is Trust.OTHER_RUN else 0.0
        return max(self._longest_lease_s - served_s, 0.0)

    async def _repeat(self, lease: Lease, pending: Bounds, insert: Insert) -> None:
        """The batch in doubt, once more under its token: that completes whatever was stored of it."""
        try:
            _, batch = await rebuilt(self._reader, lease.partition, pending)
            if batch.bounds.rows:
                async with self._clickhouse.turn:
                    lease.check()
                    await insert(batch)
        except PendingMismatch as gone:
            # Its events are stored, or come again from their journals.
            _log.warning("batch given up", token=pending.token, detail=str(gone))
            counters.batches_given_up.inc()
        except ClickHouseFault as fault:
            if fault.action is not Action.SPLIT:
                raise
            counters.batches_given_up.inc()


async def rebuilt(reader: Reader, partition: Partition, bounds: Bounds) -> tuple[list[Entry], Batch]:
    """A recorded batch and its entries, as they were. Raises PendingMismatch when they cannot be, RedisFault."""
    entries = await reader.rebuild(partition, bounds)
    try:
        batch = build_batch(partition.index, entries, bounds.marks_before(), bounds.stored_before())
    except (KeyError, ValueError) as unlike:
        raise PendingMismatch(f"recorded batch {bounds.token} does not say what was stored before it") from unlike
    if batch.bounds != bounds:
        raise PendingMismatch(f"recorded batch {bounds.token} comes out as {batch.bounds.token}")
    return entries, batch
