"""What organisations with budgets spent this UTC day and month, told to the gateways every few seconds.

In: budgets from the registry, costs from ClickHouse up to the moment before which every request is stored. Out: totals
in Redis, each exact up to that moment. A fault costs a moment's delay: gateways serve what they do not know about.
"""

import asyncio
from collections import defaultdict
from decimal import Decimal
from typing import Any, Final, cast

from ingestor.clickhouse import ClickHouse
from ingestor.faults import IngestorFault
from ingestor.probes import OWNER, Health
from ingestor.redis_link import Redis, translated
from ingestor.registry_reader import RegistryReader
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log
from shared.organisation import Budget
from shared.spending import SPEND_KEY, PeriodName, Spend, encode_spends, period_of
from shared.tasks import cancelled

_TICK_S: Final = 5.0
_ORGS_PER_PAGE: Final = 500
_COMPLETE: Final = """
SELECT ifNull(toUnixTimestamp64Milli(minOrNull(complete_up_to)), 0) FROM ingestion_progress FINAL WHERE NOT retired
"""
_SPENT: Final = """
SELECT org, feature, sum(usd), sum(n) FROM
(
    SELECT org, feature, cost AS usd, requests AS n FROM requests_hourly
    WHERE org IN {orgs:Array(String)}
        AND hour >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
        AND hour < toStartOfHour(fromUnixTimestamp64Milli({end:Int64}, 'UTC'))
    UNION ALL
    SELECT org, feature, ifNull(cost, 0) AS usd, 1 AS n FROM requests
    WHERE org IN {orgs:Array(String)}
        AND ts >= toStartOfHour(fromUnixTimestamp64Milli({end:Int64}, 'UTC'))
        AND ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
        AND ts < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
)
GROUP BY org, feature
"""
"""Whole hours from the rollup, the hour that is being filled from the table: both say the same of any hour."""

_log = get_log("spending")
_Spent = dict[tuple[str, str | None], tuple[Decimal, int]]
"""Organisation and feature, None for all -> US dollars, requests."""


class Spending:
    """Of all organisations, kept by the process that owns partition 0."""

    def __init__(self, redis: Redis, clickhouse: ClickHouse, registry: RegistryReader, health: Health) -> None:
        self._redis = redis
        self._clickhouse = clickhouse
        self._registry = registry
        self._health = health

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._health.partitions.get(0) == OWNER:
                try:
                    await self.look()
                except IngestorFault as fault:
                    counters.housekeeping_faults.labels(fault.label).inc()
                    _log.warning("spending not known", detail=str(fault))
            if cancelled():
                raise asyncio.CancelledError

    async def look(self) -> None:
        """Once. Raises IngestorFault."""
        await self._registry.read()
        budgets = dict(self._registry.budgets)
        if not budgets:
            return
        ((complete_ms,),) = await self._clickhouse.query(_COMPLETE)
        # Clocks of gateways may be ahead of this one, never by a period.
        as_of_ms = min(int(complete_ms), unix_ms())
        if as_of_ms <= 0:
            return
        names = sorted(budgets)
        for start in range(0, len(names), _ORGS_PER_PAGE):
            some = names[start : start + _ORGS_PER_PAGE]
            spent = {period: await self._spent(some, period, as_of_ms) for period in ("day", "month")}
            told = {name: encode_spends(_spends(name, budgets[name], spent, as_of_ms)) for name in some}
            with translated():
                await self._redis.hset(SPEND_KEY, mapping=cast("Any", told))

    async def _spent(self, orgs: list[str], period: str, as_of_ms: int) -> _Spent:
        start_ms = period_of(cast("PeriodName", period), as_of_ms).start_ms
        spent: defaultdict[tuple[str, str | None], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
        parameters = {"orgs": orgs, "start": start_ms, "end": as_of_ms}
        for org, feature, usd, requests in await self._clickhouse.query(_SPENT, parameters):
            for name in ((str(org), str(feature)), (str(org), None)):
                total, count = spent[name]
                spent[name] = (total + Decimal(usd), count + int(requests))
        return spent


def _spends(org: str, budgets: tuple[Budget, ...], spent: dict[str, _Spent], as_of_ms: int) -> list[Spend]:
    measured = dict.fromkeys((budget.feature, budget.period) for budget in budgets)
    spends = []
    for feature, period in measured:
        total, requests = spent[period].get((org, feature), (Decimal(0), 0))
        spends.append(
            Spend(
                org=org,
                feature=feature,
                period=period,
                start_ms=period_of(period, as_of_ms).start_ms,
                total_usd=max(total, Decimal(0)),
                mean_usd=total / requests if requests and total > 0 else None,
                as_of_ms=as_of_ms,
            )
        )
    return spends
