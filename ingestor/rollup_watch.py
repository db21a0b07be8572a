"""Looks once an hour whether the rollup says what the table says, and makes hours that do not anew.

In: the hours of the last days that are over and of which nothing is on its way any more. Out: a log line, a gauge, and
hours made anew as `rollup --rebuild` does it. Only what two looks found in the same way is touched: what differs while
something comes in is no fault. And only where the rollup is short: where it has more, rows may have been removed from
the table, and it alone knows of them. The owner of partition 0 looks for all.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from ingestor.clickhouse import ClickHouse
from ingestor.faults import IngestorFault
from ingestor.probes import OWNER, Health
from ingestor.redis_link import Redis
from ingestor.rollup import Differing, differing_hours, make_anew
from shared import counters
from shared.logs import get_log
from shared.tasks import cancelled

_TICK_S: Final = 5.0
_FIRST_S: Final = 60.0
_INTERVAL_S: Final = 3_600.0
_AGAIN_S: Final = 60.0
"""How long what differs must stay as it is."""
_LOOK_BACK: Final = timedelta(days=2)
_COMPLETE: Final = """
SELECT ifNull(toUnixTimestamp64Milli(minOrNull(complete_up_to)), 0) FROM ingestion_progress FINAL WHERE NOT retired
"""

_log = get_log("rollup")


class RollupWatch:
    """Of the one database."""

    def __init__(self, clickhouse: ClickHouse, redis: Redis, health: Health) -> None:
        self._clickhouse = clickhouse
        self._redis = redis
        self._health = health
        self._next_s = time.monotonic() + _FIRST_S
        self._before: dict[str, Differing] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._health.partitions.get(0) != OWNER:
                counters.rollup_hours_differing.set(0)
                self._before = {}
            elif time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + _AGAIN_S
                try:
                    await self.look()
                except IngestorFault as fault:
                    counters.housekeeping_faults.labels(fault.label).inc()
                    _log.warning("rollup not looked at", detail=str(fault))
            if cancelled():
                raise asyncio.CancelledError

    async def look(self) -> None:
        """Once. Raises IngestorFault."""
        since = datetime.now(UTC) - _LOOK_BACK
        # Asked first: what is complete then cannot change between the table's sums and the rollup's.
        complete_up_to = await self._complete_up_to()
        found = {
            differing.hour: differing
            for differing in await differing_hours(self._clickhouse, since)
            if differing.is_curable and differing.start + timedelta(hours=1) <= complete_up_to
        }
        same = {hour for hour, differing in found.items() if differing.is_short and self._before.get(hour) == differing}
        if found.keys() - self._before.keys():
            short = sorted(hour for hour, differing in found.items() if differing.is_short)
            more = sorted(found.keys() - set(short))
            cure = "the short ones are made anew if they stay so; the others by: python -m ingestor rollup --rebuild"
            _log.error("hours of the rollup differ", short=short, more_than_in_the_table=more, cure=cure)
        self._before = found
        if same:
            await self._clickhouse.check_schema()
            seen = await make_anew(
                self._clickhouse,
                self._redis,
                lambda differing: differing.hour in same and differing == found[differing.hour],
                lambda said: _log.info("waiting", detail=said),
                since,
            )
            right = {differing.hour for differing in seen if differing.made_anew}
            counters.rollup_hours_made_anew.inc(len(right))
            _log.info("hours of the rollup made anew", hours=sorted(right))
            self._before = {hour: differing for hour, differing in found.items() if hour not in right}
        counters.rollup_hours_differing.set(len(self._before))
        again = any(differing.is_short for differing in self._before.values())
        self._next_s = time.monotonic() + (_AGAIN_S if again else _INTERVAL_S)

    async def _complete_up_to(self) -> datetime:
        ((complete_ms,),) = await self._clickhouse.query(_COMPLETE)
        return datetime.fromtimestamp(int(complete_ms) / 1_000, UTC)
