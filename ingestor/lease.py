"""Who owns a partition: one ingestor at a time, by a lease in Redis that its owner renews.

In: a partition and a name. Out: a Lease that says whether it is still valid. Validity is judged by the local monotonic
clock and ends before the lease does in Redis, so a process that was paused knows it is late without asking anyone.
Each acquisition has a name of its own: work begun under an earlier one is void even if the same process owns again.
"""

import asyncio
import secrets
import time
from typing import Final

from ingestor.faults import LeaseLost, RedisFault
from ingestor.redis_link import Redis, load_script, translated
from shared import counters
from shared.stream import Partition
from shared.tasks import cancelled

_SAFE_SHARE: Final = 0.8
"""Part of the lease that the owner trusts; the rest covers clocks that run at different speeds and slow answers."""
_RENEWALS_PER_LEASE: Final = 4


class Lease:
    """The right to work on a partition until `valid` turns false."""

    def __init__(self, partition: Partition, owner: str, valid_until_s: float) -> None:
        self.partition = partition
        self.owner = owner
        self.valid_until_s = valid_until_s

    @property
    def valid(self) -> bool:
        """Whether work may go on, by the local clock."""
        return time.monotonic() < self.valid_until_s

    def check(self) -> None:
        """Raise LeaseLost unless valid."""
        if not self.valid:
            raise LeaseLost(f"partition {self.partition.index}: the lease ran out before it was renewed")


class Leases:
    """Acquires, renews and releases leases."""

    def __init__(self, client: Redis, instance: str, lease_ms: int) -> None:
        self._instance = instance
        self._lease_ms = lease_ms
        self._script = load_script(client, "lease.lua")

    @property
    def renew_interval_s(self) -> float:
        """How often an owner renews, and how often others ask for a free partition."""
        return self._lease_ms / 1_000 / _RENEWALS_PER_LEASE

    @property
    def longest_s(self) -> float:
        """How long an owner works at most without hearing from Redis."""
        return self._trusted_s()

    async def acquire(self, partition: Partition) -> Lease | None:
        """Own the partition; None if somebody else does. Raises RedisFault."""
        owner = f"{self._instance}:{secrets.token_hex(8)}"
        asked_s = time.monotonic()
        if not await self._call(partition, owner, "acquire"):
            return None
        counters.lease_changes.labels("gained").inc()
        return Lease(partition, owner, asked_s + self._trusted_s())

    async def renew(self, lease: Lease) -> None:
        """Prolong the lease. Raises LeaseLost when it is somebody else's or nobody's, RedisFault."""
        asked_s = time.monotonic()
        if not await self._call(lease.partition, lease.owner, "renew"):
            lease.valid_until_s = 0.0
            raise LeaseLost(f"partition {lease.partition.index}: another ingestor has taken the lease, or it expired")
        lease.valid_until_s = asked_s + self._trusted_s()

    async def release(self, lease: Lease) -> None:
        """Give the partition up, so that the next owner need not wait. Raises RedisFault."""
        lease.valid_until_s = 0.0
        await self._call(lease.partition, lease.owner, "release")
        counters.lease_changes.labels("released").inc()

    async def keep(self, lease: Lease) -> None:
        """Renew until cancelled or lost. Redis away is no reason to stop: the lease may outlive it."""
        while lease.valid:
            await asyncio.sleep(self.renew_interval_s)
            try:
                await self.renew(lease)
            except RedisFault:
                counters.redis_retries.inc()
            except LeaseLost:
                break
            if cancelled():
                raise asyncio.CancelledError
        counters.lease_changes.labels("lost").inc()

    def _trusted_s(self) -> float:
        return self._lease_ms / 1_000 * _SAFE_SHARE

    async def _call(self, partition: Partition, owner: str, action: str) -> bool:
        with translated():
            return bool(await self._script(keys=[partition.lease], args=[owner, self._lease_ms, action]))
