"""What is being inserted and what is taken care of, kept in Redis beside the frames.

In: batches, under a lease. Out: the recorded bounds of a batch that may or may not have been inserted, and the marks.
Every change is one Lua script that first checks the lease, so a former owner changes nothing, and that the marks were
written under this run of Redis: one that restarted, failed over or was emptied may have forgotten what it knew, and its
marks are worth nothing until `validate` has replaced them by what ClickHouse says.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from ingestor.batch import Batch, Bounds
from ingestor.faults import LeaseLost, PendingMismatch, RedisForgot
from ingestor.lease import Lease
from ingestor.marks import Marks
from ingestor.progress import Census, Seen
from ingestor.redis_link import Redis, load_script, translated
from shared.clock import unix_ms
from shared.redis_client import info_of
from shared.stream import Partition

_decoder = msgspec.json.Decoder(Bounds)
_SCRIPTS = ("look", "record", "commit", "validate", "reconcile", "rewind")
_SETTLE_MS = 13_000
"""A gateway that got no answer from Redis for 5 s tries again after another 7.5 s at most."""
_UPTIME_STEP_S = 1.0
"""Redis says how long it runs from two moments that are each cut to a second."""

Look = tuple[bytes | int, ...]
"""What `reconcile` saw, for the next time."""
NEVER_LOOKED: Look = (b"", 0)


class Trust(StrEnum):
    """Whether the marks can be believed."""

    NOTHING_KNOWN = "nothing_known"
    """There are none: a new partition, or Redis was emptied."""
    THIS_RUN = "this_run"
    """They were written under this run of Redis."""
    OTHER_RUN = "other_run"
    """They were written under another one: Redis restarted or failed over since, and may have forgotten some."""
    WENT_BACK = "went_back"
    """They are older than what this process has seen: somebody brought back an earlier state of Redis."""
    ENTRIES_MISSING = "entries_missing"
    """The stream no longer holds what the record of a batch names."""
    UNREADABLE = "unreadable"
    """The record of a batch is none: somebody else wrote it."""


class State(msgspec.Struct, frozen=True):
    """What a partition's owner finds."""

    pending: Bounds | None
    """The batch that somebody began and did not finish."""
    trust: Trust


class Ledger:
    """The records of all partitions."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._writes: defaultdict[int, int] = defaultdict(int)
        """Per partition: how often its marks were written, at least."""
        self._look, self._record, self._commit, self._validate, self._reconcile, self._rewind = (
            load_script(client, f"{name}.lua") for name in _SCRIPTS
        )

    async def state(self, partition: Partition) -> State:
        """What is going on. Raises RedisFault."""
        with translated():
            record, said, writes, _ = await self._look(keys=_look_keys(partition))
        trust, known = Trust(said.decode("ascii")), self._writes[partition.index]
        if trust is Trust.THIS_RUN and writes < known:
            trust = Trust.WENT_BACK
        self._writes[partition.index] = max(writes, known)
        if record is None:
            return State(None, trust)
        try:
            return State(_decoder.decode(record), trust)
        except msgspec.DecodeError:
            return State(None, Trust.UNREADABLE)

    async def is_settled(self, partition: Partition) -> bool:
        """Whether what a census says can be believed that was taken before this was asked. Raises RedisFault.

        Not while the marks are to be compared with ClickHouse, nor until living gateways were heard since they were.
        """
        known = self._writes[partition.index]
        with translated():
            _, said, writes, settling = await self._look(keys=_look_keys(partition))
        return said == Trust.THIS_RUN.encode("ascii") and writes >= known and not settling

    async def marks(self, partition: Partition, sources: Sequence[int]) -> dict[int, Marks]:
        """What is taken care of, of the sources known here. Raises RedisFault, PendingMismatch if it is unreadable."""
        if not sources:
            return {}
        with translated():
            found: list[Any] = await self._client.hmget(partition.done, [str(source) for source in sources])
        try:
            return {
                source: Marks.parse(text.decode("ascii"))
                for source, text in zip(sources, found, strict=True)
                if text is not None
            }
        except ValueError as error:
            raise PendingMismatch(f"{partition.done} holds what is no mark: {error}") from None

    async def sources(self, partition: Partition) -> list[int]:
        """Every source of which something was accepted. Raises RedisFault."""
        with translated():
            names = await self._client.hkeys(partition.accepted)
        return [int(name) for name in names]

    async def record(self, lease: Lease, batch: Batch) -> None:
        """Note that this batch is about to be inserted. Raises LeaseLost, RedisForgot, RedisFault."""
        partition = lease.partition
        with translated():
            outcome = await self._record(
                keys=[partition.lease, partition.pending, partition.done],
                args=[lease.owner, encode_bounds(batch.bounds), self._writes[partition.index]],
            )
        _check(outcome, partition)

    async def commit(self, lease: Lease, batch: Batch) -> None:
        """Note that this batch is stored and drop its entries.

        Raises LeaseLost, PendingMismatch, RedisForgot, RedisFault. After a RedisFault the commit may have happened; the
        next look at `pending` tells.
        """
        partition = lease.partition
        ended_ms = batch.ended_ms()
        args: list[str | bytes | int] = [lease.owner, encode_bounds(batch.bounds), batch.bounds.last_id, unix_ms()]
        args += (self._writes[partition.index], len(batch.done))
        for source, marks in batch.done.items():
            args += (source, marks.encode(), ended_ms.get(source, ""))
        keys = (
            partition.lease,
            partition.pending,
            partition.stream,
            partition.done,
            partition.accepted,
            partition.seen,
            partition.ended,
            partition.fresh,
        )
        with translated():
            outcome = await self._commit(keys=keys, args=[*args, *batch.ends])
        _check(outcome, partition)
        self._writes[partition.index] += 1

    async def validate(self, lease: Lease, marks: Mapping[int, Marks], unended: Mapping[int, Seen]) -> None:
        """Start anew from what ClickHouse has. Raises LeaseLost, RedisFault.

        `unended`: sources that are waited for although Redis may have forgotten them, and what they would have said.
        """
        partition = lease.partition
        args: list[str | int] = [lease.owner, self._writes[partition.index], _SETTLE_MS, len(marks)]
        for source, mark in marks.items():
            args += (source, mark.encode())
        for source, seen in unended.items():
            args += (source, seen.text)
        keys = (
            partition.lease,
            partition.pending,
            partition.done,
            partition.seen,
            partition.ended,
            partition.settling,
        )
        with translated():
            outcome = await self._validate(keys=keys, args=args)
        _check(outcome, partition)

    async def rewind(self, lease: Lease, marks: Mapping[int, Marks]) -> None:
        """Expect again what is missing of these sources. Raises LeaseLost, RedisForgot, RedisFault."""
        partition = lease.partition
        args: list[str | int] = [lease.owner, self._writes[partition.index]]
        for source, mark in marks.items():
            args += (source, mark.end_of_first)
        with translated():
            outcome = await self._rewind(
                keys=[partition.lease, partition.accepted, partition.ended, partition.done], args=args
            )
        _check(outcome, partition)

    async def reconcile(self, lease: Lease, before: Look) -> tuple[int, Look]:
        """Expect again what has vanished from the stream; how many numbers that are. Raises RedisFault.

        From an empty stream everything that is not stored; else what was accepted by the look before, if all that the
        stream held then is gone. Also gives the look for the next time.
        """
        partition = lease.partition
        keys = (
            partition.lease,
            partition.pending,
            partition.stream,
            partition.accepted,
            partition.done,
            partition.ended,
        )
        with translated():
            vanished, *look = await self._reconcile(
                keys=keys, args=[lease.owner, self._writes[partition.index], *before]
            )
        return int(vanished), tuple(look)

    async def serving_s(self, partition: Partition) -> float:
        """How long at least the partition's server has been the only one it knows; 0 if it once followed another."""
        with translated():
            info = await info_of(self._client, partition.done)
        alone = info.get("role") == "master" and int(info.get("second_repl_offset", 0)) == -1
        return max(float(info.get("uptime_in_seconds", 0)) - _UPTIME_STEP_S, 0.0) if alone else 0.0

    async def waiting(self, partition: Partition) -> int:
        """Entries in the partition's stream. Raises RedisFault."""
        with translated():
            return int(await self._client.xlen(partition.stream))

    async def census(self, partition: Partition) -> Census:
        """Everything that is known of the sources. Raises RedisFault, PendingMismatch for what is unreadable."""
        hashes = (partition.done, partition.accepted, partition.seen, partition.fresh, partition.ended)
        pipeline = self._client.pipeline(transaction=False)
        for name in hashes:
            pipeline.hgetall(name)
        pipeline.xlen(partition.stream)
        pipeline.xrange(partition.stream, count=1)
        with translated():
            done, accepted, seen, fresh, ended, waiting, first = await pipeline.execute()
        for field in (b"run", b"writes"):
            done.pop(field, None)
        try:
            return Census(
                marks={int(source): Marks.parse(text.decode("ascii")) for source, text in done.items()},
                accepted=_integers(accepted),
                seen={int(source): Seen.parse(text) for source, text in seen.items()},
                fresh=_integers(fresh),
                ended=_integers(ended),
                waiting_frames=waiting,
                first_frame_ms=int(first[0][0].partition(b"-")[0]) if first else 0,
            )
        except (TypeError, ValueError) as error:
            raise PendingMismatch(f"partition {partition.index}: a mark in Redis cannot be read: {error}") from None

    async def forget(self, partition: Partition, sources: Sequence[int]) -> None:
        """Drop what is kept of sources that are waited for no more. Raises RedisFault.

        Should one of them send something all the same, ClickHouse tells what of it is stored.
        """
        if not sources:
            return
        pipeline = self._client.pipeline(transaction=False)
        for name in (partition.done, partition.accepted, partition.seen, partition.fresh):
            pipeline.hdel(name, *map(str, sources))
        with translated():
            await pipeline.execute()

    async def forget_ends(self, partition: Partition, sources: Sequence[int]) -> None:
        """Drop what is kept of how sources ended, or that they were given up. Raises RedisFault."""
        if sources:
            with translated():
                await self._client.hdel(partition.ended, *map(str, sources))

    async def give_up(self, partition: Partition, sources: Sequence[int]) -> None:
        """Forget sources that are gone for good, and remember that they are. Raises RedisFault."""
        if not sources:
            return
        with translated():
            await self._client.hset(partition.ended, mapping={str(source): -unix_ms() for source in sources})
        await self.forget(partition, sources)


def _look_keys(partition: Partition) -> list[str]:
    return [partition.pending, partition.done, partition.settling]


def encode_bounds(bounds: Bounds) -> bytes:
    """The record as it is kept; commit compares it byte by byte."""
    return msgspec.json.encode(bounds)


def _integers(found: dict[bytes, bytes]) -> dict[int, int]:
    return {int(name): int(value) for name, value in found.items()}


def _check(outcome: bytes, partition: Partition) -> None:
    if outcome == b"lease":
        raise LeaseLost(f"partition {partition.index}: another ingestor owns it")
    if outcome == b"pending":
        raise PendingMismatch(f"partition {partition.index}: the record of the batch changed while it was inserted")
    if outcome == b"run":
        raise RedisForgot(
            f"partition {partition.index}: Redis restarted, failed over or went back while a batch was being made"
        )
