"""Hours in which the rollup and the table disagree, and how to make the rollup of an hour anew from the table.

In: a database. Out: hours with their sums. Needed after the one double fault that can leave a rollup short, and after
its view was gone (DESIGN.md). An hour is made anew only when it is over for a while: what comes into it meanwhile could
be counted twice. For the same reason one process at a time does that, and not before batches in doubt are decided.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec

from ingestor.clickhouse import ANSWER_TIMEOUT_S, FILLER, ClickHouse
from ingestor.rebuild import Say, alone, settle
from ingestor.redis_link import Redis, open_redis
from ingestor.settings import Settings, clickhouse_of
from shared.redis_client import close_redis

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
    FROM requests WHERE ts >= toStartOfHour({since:DateTime('UTC')}) GROUP BY hour
    UNION ALL
    SELECT hour, nothing AS t, (sum(requests), sum(cost), sum(input_tokens), sum(output_tokens)) AS r
    FROM requests_hourly WHERE hour >= toStartOfHour({since:DateTime('UTC')}) GROUP BY hour
)
GROUP BY hour HAVING (sum(t.1), sum(t.2), sum(t.3), sum(t.4)) != (sum(r.1), sum(r.2), sum(r.3), sum(r.4)) ORDER BY hour
"""

_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
Figure = int | Decimal


class Differing(msgspec.Struct, frozen=True):
    """An hour (UTC, `YYYY-MM-DD HH:00:00`) with the sums that differ, each as the table and as the rollup has it."""

    hour: str
    sums: Mapping[str, tuple[Figure, Figure]]
    made_anew: bool = False

    @property
    def start(self) -> datetime:
        """When it began."""
        return datetime.fromisoformat(self.hour).replace(tzinfo=UTC)

    @property
    def is_open(self) -> bool:
        """Whether events may still come for it."""
        return datetime.now(UTC) - self.start < _OPEN

    @property
    def without_rows(self) -> bool:
        """Whether the table has nothing of it, so that the rollup alone knows of it: the rows may have been removed."""
        return "requests" in self.sums and not self.sums["requests"][0]

    @property
    def is_short(self) -> bool:
        """Whether the rollup has less than the table, and nothing more: no row was removed that it still counts."""
        return all(table > rollup for table, rollup in self.sums.values())

    @property
    def is_curable(self) -> bool:
        """Whether it can be made anew from the table."""
        return not (self.is_open or self.without_rows)


async def check_rollup(settings: Settings, *, rebuild: bool, say: Say) -> list[Differing]:
    """The hours that differ; with `rebuild` those that are over are made anew, and looked at again.

    Raises ClickHouseFault, SchemaFault if the rollup, its view or the table is not there or changed; with `rebuild`
    RedisFault, and RebuildRefused while another one does the same, or a batch stays in doubt.
    """
    clickhouse = await ClickHouse.connect(clickhouse_of(settings))
    try:
        await clickhouse.check_schema()
        if not rebuild:
            return await differing_hours(clickhouse)
        redis = open_redis(settings.redis_url)
        try:
            return await make_anew(clickhouse, redis, lambda differing: differing.is_curable, say)
        finally:
            await close_redis(redis)
    finally:
        await clickhouse.close()


async def make_anew(
    clickhouse: ClickHouse,
    redis: Redis,
    chosen: Callable[[Differing], bool],
    say: Say,
    since: datetime = _EVER,
) -> list[Differing]:
    """The hours that differ since then; the chosen ones were made anew, and looked at again.

    Choose none that is not curable. Raises ClickHouseFault, RedisFault, and RebuildRefused while another process does
    the same, or a batch stays in doubt.
    """
    async with alone(redis) as renew:
        found = await differing_hours(clickhouse, since)
        if not any(map(chosen, found)):
            return found
        await settle(redis, say)
        # Looked at again: a batch that was repeated meanwhile may have put an hour right.
        found = await differing_hours(clickhouse, since)
        hours = [differing.hour for differing in found if chosen(differing)]
        filling = await _filling(clickhouse)
        for hour in hours:
            await renew()
            await _make_anew(clickhouse, hour, filling)
        if hours:
            # A batch whose rows were there already, and whose sums were not, adds them to an hour made anew.
            await settle(redis, say, so_far="hours were made anew, and are to be looked at again")
        still = {differing.hour for differing in await differing_hours(clickhouse, since)} if hours else set()
    right = set(hours) - still
    return [msgspec.structs.replace(differing, made_anew=differing.hour in right) for differing in found]


async def differing_hours(clickhouse: ClickHouse, since: datetime = _EVER) -> list[Differing]:
    """All that differ, from the hour of `since` on. Raises ClickHouseFault."""
    found = []
    for hour, *sums in await clickhouse.query(_SUMS, {"since": since.strftime("%Y-%m-%d %H:%M:%S")}):
        pairs = zip(_FIGURES, sums[: len(_FIGURES)], sums[len(_FIGURES) :], strict=True)
        found.append(Differing(str(hour), {name: (table, rollup) for name, table, rollup in pairs if table != rollup}))
    return found


async def _filling(clickhouse: ClickHouse) -> Sequence[str]:
    """The view's SELECT, in which a condition fits between the first part and the two others."""
    ((as_select,),) = await clickhouse.query(
        "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
        {"name": FILLER},
    )
    return str(as_select).rpartition(" GROUP BY ")


async def _make_anew(clickhouse: ClickHouse, hour: str, filling: Sequence[str]) -> None:
    """Repeatable: what a crash leaves is an hour that differs."""
    select, grouping, columns = filling
    bounds = f"r.ts >= toDateTime('{hour}', 'UTC') AND r.ts < toDateTime('{hour}', 'UTC') + INTERVAL 1 HOUR"
    await clickhouse.execute(
        f"ALTER TABLE requests_hourly DELETE WHERE hour = toDateTime('{hour}', 'UTC') SETTINGS mutations_sync = 2"
    )
    # Older servers deduplicate INSERT SELECT: an hour that is made anew again may be the same block as the first time.
    # Nobody is to make it anew once more while ClickHouse still does.
    settings = f"SETTINGS insert_deduplicate = 0, max_execution_time = {ANSWER_TIMEOUT_S}"
    await clickhouse.execute(f"INSERT INTO requests_hourly {select} WHERE {bounds}{grouping}{columns} {settings}")
