"""Hears what organisations with budgets spent: asks Redis every few seconds, as long as any organisation has a budget.

A fault costs a moment's delay: what is not known blocks nobody.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.budgets import Budgets
from gateway.directory import Directory
from shared import counters
from shared.clock import unix_ms
from shared.redis_client import AsyncRedis
from shared.spending import SPEND_KEY, decode_spends
from shared.tasks import cancelled

_EVERY_S: Final = 2.0
_ORGS_PER_READ: Final = 200


class Spending:
    """Keeps Budgets current."""

    def __init__(self, redis: AsyncRedis, directory: Directory, budgets: Budgets) -> None:
        self._redis = redis
        self._directory = directory
        self._budgets = budgets

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - counted; the registry's own room says that Redis is away
                counters.spending_refreshes.labels("failed").inc()
            if cancelled():
                raise asyncio.CancelledError
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Once."""
        names = sorted(self._directory.budgeted)
        for start in range(0, len(names), _ORGS_PER_READ):
            await self._read(names[start : start + _ORGS_PER_READ])

    async def _read(self, names: Sequence[str]) -> None:
        now_ms = unix_ms()
        for data in await self._redis.hmget(SPEND_KEY, list(names)):
            if data is None:
                continue
            try:
                spends = decode_spends(data)
            except ValueError:
                counters.spending_refreshes.labels("unreadable").inc()
                continue
            for spend in spends:
                self._budgets.learn(spend, now_ms)
        counters.spending_refreshes.labels("read").inc()
