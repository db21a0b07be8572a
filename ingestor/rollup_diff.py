"""Hours in which the rollup and the table say different things.

In: a database. Out: hours with their sums. Compared is group by group, the rollup's whole key: an organisation that is
short must not hide one of which the rollup has more, as what was removed from the table the rollup alone knows.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from ingestor.clickhouse import ClickHouse

EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
OPEN: Final = timedelta(hours=2)
"""How long after its start an hour may still get events: itself, and requests that take long."""
_FIGURES: Final = ("requests", "cost", "input_tokens", "output_tokens")
"""What is compared, each in both sources of _SUMS."""
_MONTHS: Final = """
SELECT DISTINCT month FROM
(
    SELECT toStartOfMonth(ts) AS month FROM requests WHERE ts >= toStartOfHour({since:DateTime('UTC')})
    UNION ALL
    SELECT toStartOfMonth(hour) AS month FROM requests_hourly WHERE hour >= toStartOfHour({since:DateTime('UTC')})
)
ORDER BY month
"""
_SUMS: Final = """
SELECT
    toString(hour),
    sum(t1), sum(t2), sum(t3), sum(t4),
    sum(r1), sum(r2), sum(r3), sum(r4),
    sum(greatest(t1, r1) - t1), sum(greatest(t2, r2) - t2), sum(greatest(t3, r3) - t3), sum(greatest(t4, r4) - t4)
FROM
(
    SELECT
        hour,
        sum(t.1) AS t1, sum(t.2) AS t2, sum(t.3) AS t3, sum(t.4) AS t4,
        sum(r.1) AS r1, sum(r.2) AS r2, sum(r.3) AS r3, sum(r.4) AS r4
    FROM
    (
        WITH (toUInt64(0), toDecimal128(0, 12), toUInt64(0), toUInt64(0)) AS nothing
        SELECT
            toStartOfHour(ts) AS hour, org, feature, task, provider,
            if(model_actual = '', model_requested, toString(model_actual)) AS model,
            (count(), ifNull(sum(cost), toDecimal128(0, 12)), sum(input_tokens), sum(output_tokens)) AS t,
            nothing AS r
        FROM requests
        WHERE ts >= toStartOfHour({since:DateTime('UTC')}) AND toStartOfMonth(ts) = {month:Date}
        GROUP BY hour, org, feature, task, provider, model
        UNION ALL
        SELECT
            hour, org, feature, task, provider, model,
            nothing AS t,
            (sum(requests), sum(cost), sum(input_tokens), sum(output_tokens)) AS r
        FROM requests_hourly
        WHERE hour >= toStartOfHour({since:DateTime('UTC')}) AND toStartOfMonth(hour) = {month:Date}
        GROUP BY hour, org, feature, task, provider, model
    )
    GROUP BY hour, org, feature, task, provider, model
)
GROUP BY hour HAVING countIf((t1, t2, t3, t4) != (r1, r2, r3, r4)) > 0 ORDER BY hour
"""

Figure = int | Decimal


class Sums(msgspec.Struct, frozen=True):
    """A figure of an hour, as the table and as the rollup has it."""

    table: Figure
    rollup: Figure
    surplus: Figure
    """What single groups of the rollup have beyond the same groups of the table."""

    @property
    def differ(self) -> bool:
        """Whether they do, if only between groups."""
        return self.table != self.rollup or bool(self.surplus)

    @property
    def is_mixed(self) -> bool:
        """Whether some groups have more and others less."""
        return bool(self.surplus) and self.rollup - self.table != self.surplus


class Differing(msgspec.Struct, frozen=True):
    """An hour (UTC, `YYYY-MM-DD HH:00:00`) that differs, with all its figures."""

    hour: str
    sums: Mapping[str, Sums]
    made_anew: bool = False
    doubled: bool = False
    """It was made anew, and counts twice what was stored meanwhile."""

    @property
    def start(self) -> datetime:
        """When it began."""
        return datetime.fromisoformat(self.hour).replace(tzinfo=UTC)

    @property
    def is_open(self) -> bool:
        """Whether events may still come for it."""
        return datetime.now(UTC) - self.start < OPEN

    @property
    def without_rows(self) -> bool:
        """Whether the table has nothing of it, so that the rollup alone knows of it: the rows may have been removed."""
        return not self.sums["requests"].table

    @property
    def is_short(self) -> bool:
        """Whether no group of the rollup has more than the table: no row was removed that it still counts."""
        return not any(sums.surplus for sums in self.sums.values())

    @property
    def is_curable(self) -> bool:
        """Whether it can be made anew from the table."""
        return not (self.is_open or self.without_rows)

    def keeps(self, before: "Differing") -> bool:
        """Whether the table has all that it had then, so that what the rollup has more since is no removed row's."""
        return all(self.sums[name].table >= sums.table for name, sums in before.sums.items())


async def differing_hours(clickhouse: ClickHouse, since: datetime = EVER) -> list[Differing]:
    """All that differ, from the hour of `since` on. Raises ClickHouseFault."""
    found = []
    bounds: dict[str, object] = {"since": since.strftime("%Y-%m-%d %H:%M:%S")}
    # Month by month, as the tables are partitioned: memory for the groups of one is needed, however long the history.
    for (month,) in await clickhouse.query(_MONTHS, bounds):
        for hour, *figures in await clickhouse.query(_SUMS, {**bounds, "month": str(month)}):
            size = len(_FIGURES)
            columns = zip(figures[:size], figures[size : 2 * size], figures[2 * size :], strict=True)
            sums = {name: Sums(*column) for name, column in zip(_FIGURES, columns, strict=True)}
            found.append(Differing(str(hour), sums))
    return found
