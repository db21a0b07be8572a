"""Frames from the head of a partition.

In: a partition's stream. Out: decoded entries in stream order, as many as a batch may hold, and poison apart from
them. Reads only: entries leave the stream by `ledger.commit` or `deadletter.bury`.
"""

import asyncio
from typing import Any, Final, cast

import msgspec

from ingestor.batch import Bounds, Entry, Poison, RawEntry, decode_entry, is_newer
from ingestor.faults import NewerFrame, PendingMismatch
from ingestor.redis_link import Redis, translated
from shared.redis_client import home_of
from shared.stream import Partition

_ENTRIES_PER_READ: Final = 50
"""At most about 50 x 2,000 events in one reply."""
MAX_BATCH_BYTES: Final = 128 * 1024 * 1024
"""Bound on the frames held in memory, against events that are far larger than usual."""
_IDLE_WAIT_MS: Final = 1_000
"""How long a read waits for the first entry before the worker looks at its lease again."""
_LONGEST_WAIT_MS: Final = 250
"""How long Redis may hold an answer back: the longest that a stop signal goes unnoticed."""


class Limits(msgspec.Struct, frozen=True):
    """When a batch is full, and how long it waits for company."""

    max_events: int
    max_age_ms: int
    max_entries: int


class Gathered(msgspec.Struct, frozen=True):
    """What one look at the stream gave."""

    entries: list[Entry]
    poison: Poison | None
    """Set only when it is the head of the stream."""


class Reader:
    """Reads one partition after the other, whatever it is asked for."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def gather(self, partition: Partition, limits: Limits, stopping: asyncio.Event) -> Gathered:
        """Entries from the head until a limit is reached, the oldest is `max_age_ms` old here, or we are stopping.

        Comes back with nothing after a second of silence. Poison ends the gathering: what was read before it is the
        batch, so that a batch's bounds never enclose an entry that is no part of it. Raises RedisFault.
        """
        loop = asyncio.get_running_loop()
        entries: list[Entry] = []
        events = size = 0
        deadline_s = loop.time() + _IDLE_WAIT_MS / 1_000
        while not stopping.is_set():
            last_id = entries[-1].entry_id if entries else None
            found = await self._range(partition, "-" if last_id is None else f"({last_id}", "+")
            for raw in found:
                decoded = decode_entry(raw)
                if isinstance(decoded, Poison):
                    # At the head it can be buried at once; behind other entries it waits for those to be stored.
                    return Gathered(entries, None if entries else decoded)
                count = decoded.size
                if entries and (events + count > limits.max_events or size + len(decoded.data) > MAX_BATCH_BYTES):
                    return Gathered(entries, None)
                if not entries:
                    deadline_s = loop.time() + limits.max_age_ms / 1_000
                entries.append(decoded)
                events, size = events + count, size + len(decoded.data)
                if len(entries) >= limits.max_entries or events >= limits.max_events:
                    return Gathered(entries, None)
            left_ms = int((deadline_s - loop.time()) * 1_000)
            if left_ms <= 0:
                break
            if not found:
                await self._wait_after(partition, last_id, min(left_ms, _LONGEST_WAIT_MS))
            await asyncio.sleep(0)  # decoding is CPU work: let leases and probes have their turn
        return Gathered(entries, None)

    async def rebuild(self, partition: Partition, bounds: Bounds) -> list[Entry]:
        """The entries of a recorded batch.

        Raises PendingMismatch when they are not all there, NewerFrame when only a newer release can repeat it,
        RedisFault.
        """
        entries: list[Entry] = []
        start = bounds.first_id
        while len(entries) < bounds.entries:
            found = await self._range(partition, start, bounds.last_id)
            for raw in found:
                decoded = decode_entry(raw)
                if isinstance(decoded, Poison):
                    if is_newer(decoded):
                        raise NewerFrame(decoded.entry_id, decoded.detail)
                    raise PendingMismatch(f"entry {decoded.entry_id} of a recorded batch: {decoded.detail}")
                entries.append(decoded)
            if len(found) < _ENTRIES_PER_READ:
                break
            start = f"({entries[-1].entry_id}"
            await asyncio.sleep(0)
        if len(entries) != bounds.entries or entries[0].entry_id != bounds.first_id:
            raise PendingMismatch(
                f"recorded batch {bounds.token} has {bounds.entries} entries, the stream still holds {len(entries)}"
            )
        return entries

    async def _range(self, partition: Partition, start: str, end: str) -> list[RawEntry]:
        with translated():
            found = await self._client.xrange(partition.stream, start, end, count=_ENTRIES_PER_READ)
        return cast("list[RawEntry]", found)

    async def _wait_after(self, partition: Partition, last_id: str | None, wait_ms: int) -> None:
        with translated():
            # The driver of a cluster would ask a server for the keys of this command, each time and any server.
            home = await home_of(self._client, partition.stream)
            await cast("Any", self._client).execute_command(
                *("XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", partition.stream, last_id or "0-0"), **home
            )
