"""Hours in which the rollup and the table disagree, and how to make the rollup of an hour anew from the table.

In: a database. Out: hours with their sums. Needed after the one double fault that can leave a rollup short, and after
its view was gone (DESIGN.md). An hour is made anew only when it is over for a while: what comes into it meanwhile could
be counted twice.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from ingestor.clickhouse import FILLER, ClickHouse
from ingestor.settings import ClickHouseAddress

_OPEN: Final = timedelta(hours=2)
"""How long after its start an hour may still get events: itself, and requests that take long."""
_FIGURES: Final = ("requests", "cost", "input_tokens", "output_tokens")
"""What is compared, each in both sources of _SUMS."""
_SUMS: Final = """
SELECT toString(hour), sum(t.1), sum(t.2), sum(t.3), sum(t.4), sum(r.1), sum(r.2), sum(r.3), sum(r.4) FROM
(
    WITH (toUInt64(0), toDecimal128(0, 12), toUInt64(0), toUInt64(0)) AS nothing
    SELECT
        toStartOfHour(ts) AS hour,
        (count(), ifNull(sum(cost), toDecimal128(0, 12)), sum(input_tokens), sum(output_tokens)) AS t,
        nothing AS r
    FROM requests GROUP BY hour
    UNION ALL
    SELECT hour, nothing AS t, (sum(requests), sum(cost), sum(input_tokens), sum(output_tokens)) AS r
    FROM requests_hourly GROUP BY hour
)
GROUP BY hour HAVING (sum(t.1), sum(t.2), sum(t.3), sum(t.4)) != (sum(r.1), sum(r.2), sum(r.3), sum(r.4)) ORDER BY hour
"""

Figure = int | Decimal


class Differing(msgspec.Struct, frozen=True):
    """An hour (UTC, `YYYY-MM-DD HH:00:00`) with the sums that differ, each as the table and as the rollup has it."""

    hour: str
    sums: Mapping[str, tuple[Figure, Figure]]
    made_anew: bool = False

    @property
    def is_open(self) -> bool:
        """Whether events may still come for it."""
        return datetime.now(UTC) - datetime.fromisoformat(self.hour).replace(tzinfo=UTC) < _OPEN

    @property
    def without_rows(self) -> bool:
        """Whether the table has nothing of it, so that the rollup alone knows of it: the rows may have been removed."""
        return "requests" in self.sums and not self.sums["requests"][0]


async def check_rollup(address: ClickHouseAddress, *, rebuild: bool) -> list[Differing]:
    """The hours that differ; with `rebuild` those that are over are made anew, and looked at again.

    Raises ClickHouseFault, SchemaFault if the rollup, its view or the table is not there.
    """
    clickhouse = await ClickHouse.connect(address)
    try:
        await clickhouse.check_schema()
        found = await _differing(clickhouse)
        curable = [differing.hour for differing in found if not (differing.is_open or differing.without_rows)]
        closed = curable if rebuild else []
        for hour in closed:
            await _make_anew(clickhouse, hour)
        still = {differing.hour for differing in await _differing(clickhouse)} if closed else set()
    finally:
        await clickhouse.close()
    right = set(closed) - still
    return [msgspec.structs.replace(differing, made_anew=differing.hour in right) for differing in found]


async def _differing(clickhouse: ClickHouse) -> list[Differing]:
    found = []
    for hour, *sums in await clickhouse.query(_SUMS):
        pairs = zip(_FIGURES, sums[: len(_FIGURES)], sums[len(_FIGURES) :], strict=True)
        found.append(Differing(str(hour), {name: (table, rollup) for name, table, rollup in pairs if table != rollup}))
    return found


async def _make_anew(clickhouse: ClickHouse, hour: str) -> None:
    """Repeatable: what a crash leaves is an hour that differs."""
    ((as_select,),) = await clickhouse.query(
        "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
        {"name": FILLER},
    )
    select, grouping, columns = str(as_select).rpartition(" GROUP BY ")
    bounds = f"r.ts >= toDateTime('{hour}', 'UTC') AND r.ts < toDateTime('{hour}', 'UTC') + INTERVAL 1 HOUR"
    await clickhouse.execute(
        f"ALTER TABLE requests_hourly DELETE WHERE hour = toDateTime('{hour}', 'UTC') SETTINGS mutations_sync = 2"
    )
    # Older servers deduplicate INSERT SELECT: an hour that is made anew again may be the same block as the first time.
    settings = "SETTINGS insert_deduplicate = 0"
    await clickhouse.execute(f"INSERT INTO requests_hourly {select} WHERE {bounds}{grouping}{columns} {settings}")
