"""Looks once an hour whether the rollup says what the table says, and makes hours that do not anew.

In: the hours of the last days that are over and of which nothing is on its way any more. Out: log lines, gauges, and
hours made anew as `rollup --rebuild` does it. Only what two looks found in the same way is touched: what differs while
something comes in is no fault. And only where the rollup is short: where it has more, rows may have been removed from
the table, and it alone knows of them; unless it has more since this watch made the hour anew, and the table lost
nothing. The owner of partition 0 looks for all.
"""

import asyncio
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from ingestor.clickhouse import ClickHouse
from ingestor.faults import IngestorFault
from ingestor.probes import OWNER, Health
from ingestor.redis_link import Redis
from ingestor.rollup import make_anew
from ingestor.rollup_diff import EVER, OPEN, Differing, differing_hours
from shared import counters
from shared.logs import get_log
from shared.tasks import cancelled

_TICK_S: Final = 5.0
_FIRST_S: Final = 60.0
_INTERVAL_S: Final = 3_600.0
_AGAIN_S: Final = 60.0
"""How long what differs must stay as it is."""
_LOOK_BACK: Final = timedelta(days=2)
_LOOK_BACK_AT_MOST: Final = timedelta(days=8)
"""To hours that were not compared when they were over: a gateway that is lost holds them up for seven days."""
_HOUR: Final = timedelta(hours=1)
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
        self._forget()

    def _forget(self) -> None:
        """Begin anew: another process may have looked meanwhile."""
        self._compared_up_to = EVER
        self._waiting = 0
        self._before: dict[str, Differing] = {}
        self._touched: dict[str, Differing] = {}
        """Hours that this watch began to make anew, as they were last, if the table lost nothing of them since."""

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._health.partitions.get(0) != OWNER:
                counters.rollup_hours_differing.set(0)
                counters.rollup_hours_waiting.set(0)
                self._forget()
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
        now = datetime.now(UTC)
        since = min(now - _LOOK_BACK, self._compared_up_to, *(differing.start for differing in self._before.values()))
        since = max(since, now - _LOOK_BACK_AT_MOST)
        found = await self._compare(now, since)
        touched = self._touched.items()
        self._touched = {hour: found[hour] for hour, last in touched if hour in found and found[hour].keeps(last)}
        same = {hour for hour, differing in found.items() if self._is_due(differing)}
        self._say(found)
        self._before = found
        counters.rollup_hours_differing.set(len(found))
        if same:
            await self._make_anew(same, since)
        counters.rollup_hours_differing.set(len(self._before))
        again = any(differing.is_short or hour in self._touched for hour, differing in self._before.items())
        self._next_s = time.monotonic() + (_AGAIN_S if again else _INTERVAL_S)

    async def _compare(self, now: datetime, since: datetime) -> dict[str, Differing]:
        """The hours that differ and can be judged; how many others are over is said."""
        # Asked first: what is complete then cannot change between the table's sums and the rollup's.
        complete_up_to = await self._complete_up_to()
        found = [differing for differing in await differing_hours(self._clickhouse, since) if differing.is_curable]
        judged = {differing.hour: differing for differing in found if differing.start + _HOUR <= complete_up_to}
        self._compared_up_to = complete_up_to
        first = max(complete_up_to, now - _LOOK_BACK_AT_MOST).replace(minute=0, second=0, microsecond=0)
        waiting = max((now - OPEN - first) // _HOUR + 1, 0)
        if waiting and not self._waiting:
            _log.warning(
                "hours of the rollup are not compared yet",
                hours=waiting,
                of_these_differ=len(found) - len(judged),
                complete_up_to=complete_up_to.isoformat(timespec="seconds"),
                detail="they are once data_freshness.complete_up_to is behind them; what holds it up, if it is a "
                "gateway: python -m ingestor gateways",
            )
        self._waiting = waiting
        counters.rollup_hours_waiting.set(waiting)
        return judged

    def _is_due(self, differing: Differing) -> bool:
        """Whether it stayed as it was, and the rollup is short, or has more by this watch's own doing."""
        hour = differing.hour
        return self._before.get(hour) == differing and (differing.is_short or hour in self._touched)

    def _say(self, found: dict[str, Differing]) -> None:
        """What is new of its kind."""
        said = {(hour, differing.is_short) for hour, differing in self._before.items()}
        if {(hour, differing.is_short) for hour, differing in found.items()} <= said:
            return
        _log.error(
            "hours of the rollup differ",
            short=sorted(hour for hour, differing in found.items() if differing.is_short),
            more_than_in_the_table=sorted(hour for hour, differing in found.items() if not differing.is_short),
            detail="the short ones are made anew if they stay so; of those that have more the rollup alone may know, "
            "as rows were removed or have expired: they stay; python -m ingestor rollup lists them",
        )

    async def _make_anew(self, same: Collection[str], since: datetime) -> None:
        found = self._before
        await self._clickhouse.check_schema()
        # Before anything is changed: whatever ends this, the next look knows whose doing it was.
        self._touched |= {hour: found[hour] for hour in same}
        seen = await make_anew(
            self._clickhouse,
            self._redis,
            lambda differing: differing.hour in same and differing == found[differing.hour],
            lambda said: _log.info("waiting", detail=said),
            since,
        )
        right = {differing.hour for differing in seen if differing.made_anew}
        counters.rollup_hours_made_anew.inc(len(right))
        if right:
            _log.info("hours of the rollup made anew", hours=sorted(right))
        if doubled := {differing.hour: differing for differing in seen if differing.doubled}:
            self._touched |= doubled
            detail = "rows were stored while they were made anew, and are counted twice; they are made anew once more"
            _log.warning("hours of the rollup doubled", hours=sorted(doubled), detail=detail)
        self._before = {hour: differing for hour, differing in found.items() if hour not in right}

    async def _complete_up_to(self) -> datetime:
        ((complete_ms,),) = await self._clickhouse.query(_COMPLETE)
        return datetime.fromtimestamp(int(complete_ms) / 1_000, UTC)
