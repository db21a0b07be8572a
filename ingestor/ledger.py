"""What is being inserted and what is done, kept in Redis beside the frames.

In: batches, under a lease. Out: the recorded bounds of a batch that may or may not have been inserted, and the marks.
Every change is one Lua script that first checks the lease, so a former owner changes nothing.
"""

from collections.abc import Sequence

import msgspec

from ingestor.batch import Batch, Bounds
from ingestor.faults import LeaseLost, PendingMismatch
from ingestor.lease import Lease
from ingestor.redis_link import Redis, load_script, translated
from shared.stream import Partition

_decoder = msgspec.json.Decoder(Bounds)


class Ledger:
    """The records of all partitions."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._record = load_script(client, "record.lua")
        self._commit = load_script(client, "commit.lua")

    async def pending(self, partition: Partition) -> Bounds | None:
        """The batch that somebody began and did not finish. Raises RedisFault, PendingMismatch if unreadable."""
        with translated():
            record = await self._client.get(partition.pending)
        if record is None:
            return None
        try:
            return _decoder.decode(record)
        except msgspec.DecodeError as error:
            raise PendingMismatch(f"{partition.pending} is not a record of a batch: {error}") from None

    async def done(self, partition: Partition, sources: Sequence[int]) -> dict[int, int]:
        """Per source, the first seq that is not in ClickHouse. Raises RedisFault."""
        if not sources:
            return {}
        with translated():
            marks = await self._client.hmget(partition.done, [str(source) for source in sources])
        return {source: int(mark) for source, mark in zip(sources, marks, strict=True) if mark is not None}

    async def record(self, lease: Lease, batch: Batch) -> None:
        """Note that this batch is about to be inserted. Raises LeaseLost, RedisFault."""
        partition = lease.partition
        with translated():
            outcome = await self._record(
                keys=[partition.lease, partition.pending], args=[lease.owner, encode_bounds(batch.bounds)]
            )
        _check(outcome, partition)

    async def commit(self, lease: Lease, batch: Batch) -> None:
        """Note that this batch is stored and drop its entries. Raises LeaseLost, PendingMismatch, RedisFault.

        After a RedisFault the commit may have happened; the next look at `pending` tells.
        """
        partition = lease.partition
        marks = [value for pair in batch.done.items() for value in pair]
        with translated():
            outcome = await self._commit(
                keys=[partition.lease, partition.pending, partition.stream, partition.done],
                args=[lease.owner, encode_bounds(batch.bounds), batch.bounds.last_id, *marks],
            )
        _check(outcome, partition)

    async def waiting(self, partition: Partition) -> int:
        """Entries in the partition's stream. Raises RedisFault."""
        with translated():
            return int(await self._client.xlen(partition.stream))


def encode_bounds(bounds: Bounds) -> bytes:
    """The record as it is kept; commit compares it byte by byte."""
    return msgspec.json.encode(bounds)


def _check(outcome: bytes, partition: Partition) -> None:
    if outcome == b"lease":
        raise LeaseLost(f"partition {partition.index}: another ingestor owns it")
    if outcome == b"pending":
        raise PendingMismatch(f"partition {partition.index}: the record of the batch changed while it was inserted")
