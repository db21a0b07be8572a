"""Hours in which the rollup and the table disagree, and how to make the rollup of an hour anew from the table.

In: a database. Out: hours with their counts. Needed after the one double fault that can leave a rollup short
(DESIGN.md). An hour is made anew only when it is over for a while: what comes into it meanwhile could be counted twice.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ingestor.clickhouse import ClickHouse
from ingestor.settings import ClickHouseAddress

_FILLER: Final = "requests_to_hourly"
_OPEN: Final = timedelta(hours=2)
"""How long after its start an hour may still get events: itself, and requests that take long."""
_DIFFERING: Final = """
SELECT toString(hour), sum(stored), sum(rolled) FROM
(
    SELECT toStartOfHour(ts) AS hour, count() AS stored, 0 AS rolled FROM requests GROUP BY hour
    UNION ALL
    SELECT hour, 0 AS stored, sum(requests) AS rolled FROM requests_hourly GROUP BY hour
)
GROUP BY hour HAVING sum(stored) != sum(rolled) ORDER BY hour
"""


class Differing(msgspec.Struct, frozen=True):
    """An hour (UTC, `YYYY-MM-DD HH:00:00`) with its requests in the table and in the rollup."""

    hour: str
    stored: int
    rolled: int

    @property
    def is_open(self) -> bool:
        """Whether events may still come for it."""
        return datetime.now(UTC) - datetime.fromisoformat(self.hour).replace(tzinfo=UTC) < _OPEN


async def check_rollup(address: ClickHouseAddress, *, rebuild: bool) -> list[Differing]:
    """The hours that differ; with `rebuild` those that are over are right afterwards. Raises ClickHouseFault."""
    clickhouse = await ClickHouse.connect(address)
    try:
        found = [Differing(str(hour), int(a), int(b)) for hour, a, b in await clickhouse.query(_DIFFERING)]
        for differing in found if rebuild else ():
            if not differing.is_open:
                await _make_anew(clickhouse, differing.hour)
    finally:
        await clickhouse.close()
    return found


async def _make_anew(clickhouse: ClickHouse, hour: str) -> None:
    """Repeatable: what a crash leaves is an hour that differs."""
    rows = await clickhouse.query(
        "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
        {"name": _FILLER},
    )
    select, grouping, columns = str(rows[0][0]).rpartition(" GROUP BY ")
    bounds = f"r.ts >= toDateTime('{hour}', 'UTC') AND r.ts < toDateTime('{hour}', 'UTC') + INTERVAL 1 HOUR"
    await clickhouse.execute(
        f"ALTER TABLE requests_hourly DELETE WHERE hour = toDateTime('{hour}', 'UTC') SETTINGS mutations_sync = 2"
    )
    await clickhouse.execute(f"INSERT INTO requests_hourly {select} WHERE {bounds}{grouping}{columns}")
