"""Makes the rollup of an hour anew from the table, where the two disagree.

In: a database. Out: hours with their sums. Needed after the one double fault that can leave a rollup short, and after
its view was gone (DESIGN.md). An hour is made anew only when it is over for a while: what comes into it meanwhile could
be counted twice, and then it is made anew again. For the same reason one process at a time does that, and not before
batches in doubt are decided.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from ingestor.clickhouse import ANSWER_TIMEOUT_S, FILLER, ClickHouse
from ingestor.rebuild import Renew, Say, alone, settle
from ingestor.redis_link import Redis, open_redis
from ingestor.rollup_diff import EVER, Differing, differing_hours
from ingestor.settings import Settings, clickhouse_of
from shared import counters
from shared.redis_client import close_redis

_TRIES: Final = 3
"""How often an hour is made anew at once, if each time something came between."""


async def check_rollup(settings: Settings, *, rebuild: bool, say: Say, drop_surplus: bool = False) -> list[Differing]:
    """The hours that differ; with `rebuild` those that are over are made anew, and looked at again.

    Those of which the rollup has more than the table only with `drop_surplus`: it alone knows of rows that were
    removed. Raises ClickHouseFault, SchemaFault if the rollup, its view or the table is not there or changed; with
    `rebuild` RedisFault, and RebuildRefused while another one does the same, or a batch stays in doubt.
    """
    clickhouse = await ClickHouse.connect(clickhouse_of(settings))
    try:
        await clickhouse.check_schema()
        if not rebuild:
            return await differing_hours(clickhouse)
        redis = open_redis(settings.redis_url)
        try:
            return await make_anew(
                clickhouse,
                redis,
                lambda differing: differing.is_curable and (drop_surplus or differing.is_short),
                say,
            )
        finally:
            await close_redis(redis)
    finally:
        await clickhouse.close()


async def make_anew(
    clickhouse: ClickHouse,
    redis: Redis,
    chosen: Callable[[Differing], bool],
    say: Say,
    since: datetime = EVER,
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
        due = {differing.hour: differing for differing in found if chosen(differing)}
        right: set[str] = set()
        filling = await _filling(clickhouse)
        for _ in range(_TRIES):
            if not due:
                break
            for hour in due:
                await _make_anew(clickhouse, hour, filling, renew)
            # A batch whose rows were there already, and whose sums were not, adds them to an hour made anew.
            await settle(redis, say, so_far="hours were made anew, and are to be looked at again")
            still = {differing.hour: differing for differing in await differing_hours(clickhouse, since)}
            right |= due.keys() - still.keys()
            # There was nothing that only the rollup knew, or it was to go: what it has more now was counted twice.
            due = {
                hour: msgspec.structs.replace(still[hour], doubled=True)
                for hour, before in due.items()
                if hour in still and not still[hour].is_short and still[hour].keeps(before)
            }
            counters.rollup_hours_doubled.inc(len(due))
    return [
        due.get(differing.hour) or msgspec.structs.replace(differing, made_anew=differing.hour in right)
        for differing in found
    ]


async def _filling(clickhouse: ClickHouse) -> Sequence[str]:
    """The view's SELECT, in which a condition fits between the first part and the two others."""
    ((as_select,),) = await clickhouse.query(
        "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
        {"name": FILLER},
    )
    return str(as_select).rpartition(" GROUP BY ")


async def _make_anew(clickhouse: ClickHouse, hour: str, filling: Sequence[str], renew: Renew) -> None:
    """Repeatable: what a crash leaves, or a lock that is lost, is an hour without sums, which differs."""
    select, grouping, columns = filling
    bounds = f"r.ts >= toDateTime('{hour}', 'UTC') AND r.ts < toDateTime('{hour}', 'UTC') + INTERVAL 1 HOUR"
    await renew("the hours that are left were not changed")
    await clickhouse.execute(
        f"ALTER TABLE requests_hourly DELETE WHERE hour = toDateTime('{hour}', 'UTC') SETTINGS mutations_sync = 2"
    )
    # Who has the lock now, if this process lost it meanwhile, fills the hour: both would double it.
    await renew(f"the rollup has nothing of {hour} until it is made anew")
    # Older servers deduplicate INSERT SELECT: an hour that is made anew again may be the same block as the first time.
    # Nobody is to make it anew once more while ClickHouse still does.
    settings = f"SETTINGS insert_deduplicate = 0, max_execution_time = {ANSWER_TIMEOUT_S}"
    await clickhouse.execute(f"INSERT INTO requests_hourly {select} WHERE {bounds}{grouping}{columns} {settings}")
