"""Which ingestors live, so that each takes its share of the partitions and no more.

In: this process' name, and what it owns. Out: whether it may own another partition, or must give one up. Wrong for a
moment whenever a process comes or goes: leases decide who owns what, this only says who should. One that met frames of
a newer release is not counted for a while: who can read them takes its share.
"""

import asyncio
import time
from typing import Final

from ingestor.faults import RedisFault
from ingestor.redis_link import Redis, load_script, translated
from shared import counters
from shared.stream import MEMBERS
from shared.tasks import cancelled

_BEATS_PER_LIFE: Final = 4
_ASIDE_S: Final = 600.0
"""Far longer than a rolling upgrade, so that partitions do not wander to and fro while it lasts."""


class Members:
    """The living ingestors, counted, and the share of this one."""

    def __init__(self, client: Redis, name: str, partitions: int, life_ms: int) -> None:
        self._script = load_script(client, "members.lua")
        self._name = name
        self.partitions = partitions
        """How many there are to share."""
        self._life_ms = life_ms
        self._living = 1
        self._aside_until_s = 0.0
        self._owned: set[int] = set()

    @property
    def share(self) -> int:
        """How many partitions each owns at most: all are owned then, as no two differ by more than one."""
        return -(-self.partitions // max(self._living, 1))

    def may_own_another(self) -> bool:
        """Whether this process has not got its share."""
        return len(self._owned) < self.share

    def must_give_up(self, partition: int) -> bool:
        """Whether this process has more than its share, and this partition is the one to go."""
        return len(self._owned) > self.share and partition == max(self._owned)

    def owns(self, partition: int) -> None:
        """Note a partition as owned."""
        self._owned.add(partition)

    def gave_up(self, partition: int) -> None:
        """Note that it is not any more."""
        self._owned.discard(partition)

    def step_aside(self) -> None:
        """Do not be counted for some minutes: there is something that only a newer release can do."""
        self._aside_until_s = time.monotonic() + _ASIDE_S

    async def beat(self) -> None:
        """Say that this process lives, unless it stepped aside, and count who does. Raises RedisFault."""
        life_ms = 0 if time.monotonic() < self._aside_until_s else self._life_ms
        with translated():
            self._living = int(await self._script(keys=[MEMBERS], args=[self._name, life_ms]))
        counters.ingestors.set(self._living)

    async def run(self) -> None:
        """Beat for ever. With Redis away the share stays what it was."""
        while True:
            try:
                await self.beat()
            except RedisFault:
                counters.redis_retries.inc()
            if cancelled():
                raise asyncio.CancelledError
            await asyncio.sleep(self._life_ms / 1_000 / _BEATS_PER_LIFE)

    async def leave(self) -> None:
        """Say that this process ends. Raises RedisFault."""
        with translated():
            await self._script(keys=[MEMBERS], args=[self._name, 0])
