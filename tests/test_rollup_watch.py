"""An hour of the rollup that is wrong and over is found unasked and made anew, and nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingestor import rollup_watch
from ingestor.clickhouse import ClickHouse
from ingestor.faults import RebuildRefused
from ingestor.probes import OWNER, STANDBY, Health
from ingestor.redis_link import Redis, open_redis
from ingestor.rollup_watch import RollupWatch
from ingestor.settings import clickhouse_address
from shared import counters
from shared.environment import SecretUrl
from shared.redis_client import close_redis
from shared.stream import ROLLUP_REBUILD
from tests.ingestor_process import new_database
from tests.parts import execute, select, wait_until

COLUMNS = "(ts, org, feature, input_tokens)"
SHORT, RIGHT = 3, 4
"""Requests of an hour, as the rollup that lacks one has them, and as the table does."""


def hours_ago(hours: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%d %H:00:00")


@dataclass
class Watched:
    """A database with an hour that the rollup has too little of, and who looks at it."""

    url: str
    clickhouse: ClickHouse
    redis: Redis
    watch: RollupWatch
    health: Health
    hour: str

    def order(self, statement: str) -> None:
        execute(self.url, statement)

    def spoil(self, hour: str) -> None:
        self.store(hour, RIGHT)
        self.order(f"ALTER TABLE lectr.requests_hourly DELETE WHERE hour = '{hour}' SETTINGS mutations_sync = 2")
        self.add(hour, SHORT)

    def store(self, hour: str, requests: int, org: str = "acme") -> None:
        values = ", ".join([f"('{hour}', '{org}', 'search', 10)"] * requests)
        self.order(f"INSERT INTO lectr.requests {COLUMNS} VALUES {values}")

    def add(self, hour: str, requests: int, org: str = "acme") -> None:
        columns = "(hour, org, feature, requests, input_tokens)"
        values = f"('{hour}', '{org}', 'search', {requests}, {10 * requests})"
        self.order(f"INSERT INTO lectr.requests_hourly {columns} VALUES {values}")

    def complete_up_to(self, moment: str, partition: int = 0) -> None:
        columns = "(partition, complete_up_to, missing, waiting_frames)"
        self.order(f"INSERT INTO lectr.ingestion_progress {columns} VALUES ({partition}, '{moment}', 0, 0)")

    def behind_delete(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
        """Do this each time that the sums of an hour were deleted, and not made anew yet."""
        execute_it = self.clickhouse.execute

        async def execute_and_act(sql: str, parameters: dict[str, Any] | None = None) -> None:
            await execute_it(sql, parameters)
            if sql.startswith("ALTER TABLE requests_hourly DELETE"):
                await act()

        monkeypatch.setattr(self.clickhouse, "execute", execute_and_act)

    def rolled(self, hour: str) -> int:
        of_hour = f"SELECT sum(requests) AS n FROM lectr.requests_hourly WHERE hour = '{hour}'"
        return int(select(self.url, of_hour)[0]["n"])


@pytest.fixture
async def watched(clickhouse_url: str, redis_url: str) -> AsyncIterator[Watched]:
    url = clickhouse_url
    await asyncio.to_thread(new_database, url)
    clickhouse = await ClickHouse.connect(clickhouse_address(SecretUrl(f"{url}/lectr")))
    redis, health = open_redis(SecretUrl(redis_url)), Health()
    made = Watched(url, clickhouse, redis, RollupWatch(clickhouse, redis, health), health, hours_ago(5))
    made.spoil(made.hour)
    made.complete_up_to(hours_ago(0))
    yield made
    # A watch that a test ends within its work keeps the lock.
    await redis.delete(ROLLUP_REBUILD)
    await close_redis(redis)
    await clickhouse.close()


@pytest.fixture(autouse=True)
def gauge() -> Iterator[None]:
    yield
    counters.rollup_hours_differing.set(0)
    counters.rollup_hours_waiting.set(0)


def differing() -> float:
    return float(counters.rollup_hours_differing._value.get())


def waiting() -> float:
    return float(counters.rollup_hours_waiting._value.get())


def said(logs: list[MutableMapping[str, Any]], event: str) -> list[MutableMapping[str, Any]]:
    return [line for line in logs if line["event"] == event]


async def test_what_stays_wrong_is_made_anew(watched: Watched) -> None:
    """The first look says it, the second one finds it as it was and makes it anew, the third one finds nothing."""
    made_anew = counters.rollup_hours_made_anew._value.get()
    await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (SHORT, 1)
    await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (RIGHT, 0)
    await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (RIGHT, 0)
    assert counters.rollup_hours_made_anew._value.get() - made_anew == 1


async def test_what_changes_between_two_looks_is_left_alone(watched: Watched) -> None:
    """Something is coming in: it is looked at once more."""
    await watched.watch.look()
    watched.order(f"INSERT INTO lectr.requests {COLUMNS} VALUES ('{watched.hour}', 'acme', 'search', 10)")
    await watched.watch.look()
    assert watched.rolled(watched.hour) == SHORT + 1
    await watched.watch.look()
    assert watched.rolled(watched.hour) == RIGHT + 1


async def test_sums_beyond_the_table_are_left_alone(watched: Watched) -> None:
    """Rows may have been removed of which the rollup alone knows: it is said, and nothing else."""
    watched.add(watched.hour, RIGHT)
    for _ in range(3):
        await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (SHORT + RIGHT, 1)


async def test_a_group_that_is_short_hides_no_other(watched: Watched) -> None:
    """The rollup alone knows of an organisation's rows in an hour that lacks more of another: it stays as it is."""
    watched.add(watched.hour, 1, org="removed")
    watched.store(watched.hour, 2 * RIGHT)
    watched.order("ALTER TABLE lectr.requests_hourly DELETE WHERE requests = 8 SETTINGS mutations_sync = 2")
    before = watched.rolled(watched.hour)
    with capture_logs() as logs:
        for _ in range(3):
            await watched.watch.look()
    assert (before, watched.rolled(watched.hour), differing()) == (SHORT + 1, SHORT + 1, 1)
    (line,) = said(logs, "hours of the rollup differ")
    assert (line["short"], line["more_than_in_the_table"]) == ([], [watched.hour])
    assert "--rebuild" not in str(line)


async def test_what_is_stored_meanwhile_is_not_doubled(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come between the deletion of an hour's sums and their new ones: the hour is made anew again."""
    late = [1]

    async def store() -> None:
        for requests in late:
            watched.store(watched.hour, requests)
        late.clear()

    watched.behind_delete(monkeypatch, store)
    doubled = counters.rollup_hours_doubled._value.get()
    for _ in range(2):
        await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (RIGHT + 1, 0)
    assert counters.rollup_hours_doubled._value.get() - doubled == 1


async def test_an_hour_that_stays_doubled_is_this_watchs_to_cure(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come each time that it is made anew: it is said to have more now, and made anew once they end."""
    # Of different sizes: ClickHouse takes a block that it had before for a repeat.
    sizes = iter((5, 6, 7))

    async def store() -> None:
        watched.store(watched.hour, next(sizes))

    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            watched.behind_delete(patched, store)
            for _ in range(2):
                await watched.watch.look()
        assert watched.rolled(watched.hour) == RIGHT + 5 + 6 + 7 + 7
        await watched.watch.look()
        assert (watched.rolled(watched.hour), differing()) == (RIGHT + 5 + 6 + 7 + 7, 1)
        await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (RIGHT + 5 + 6 + 7, 0)
    assert [line["hours"] for line in said(logs, "hours of the rollup doubled")] == [[watched.hour]]
    first, second = said(logs, "hours of the rollup differ")
    assert (first["short"], first["more_than_in_the_table"]) == ([watched.hour], [])
    assert (second["short"], second["more_than_in_the_table"]) == ([], [watched.hour])


async def test_rows_removed_from_an_hour_that_stays_doubled_are_kept(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has less than it had: what the rollup has more may not all be this watch's doing."""
    sizes = iter((5, 6, 7))

    async def store() -> None:
        watched.store(watched.hour, next(sizes), org="late")

    with monkeypatch.context() as patched:
        watched.behind_delete(patched, store)
        for _ in range(2):
            await watched.watch.look()
    before = watched.rolled(watched.hour)
    watched.order("ALTER TABLE lectr.requests DELETE WHERE org = 'acme' SETTINGS mutations_sync = 2")
    for _ in range(3):
        await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (before, 1)


async def test_a_lock_that_is_lost_leaves_an_hour_empty_not_doubled(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis forgot it behind the deletion, and another one may fill the hour: this one does not, and looks again."""
    with monkeypatch.context() as patched:
        watched.behind_delete(patched, watched.redis.flushall)
        await watched.watch.look()
        with pytest.raises(RebuildRefused, match=f"the rollup has nothing of {watched.hour} until it is made anew"):
            await watched.watch.look()
    assert watched.rolled(watched.hour) == 0
    for _ in range(2):
        await watched.watch.look()
    assert (watched.rolled(watched.hour), differing()) == (RIGHT, 0)


async def test_hours_that_wait_are_said_and_compared_later(watched: Watched) -> None:
    """Something is on its way for days: how many hours wait is said, and once it is over they are all looked at."""
    old = hours_ago(7 * 24)
    watched.spoil(old)
    watched.complete_up_to(old)
    with capture_logs() as logs:
        for _ in range(2):
            await watched.watch.look()
    assert (watched.rolled(old), differing()) == (SHORT, 0)
    (line,) = said(logs, "hours of the rollup are not compared yet")
    assert line["of_these_differ"] == 2
    assert line["hours"] <= waiting()
    # One more if an hour ended while this test ran.
    assert waiting() in {7 * 24 - 1, 7 * 24}
    watched.complete_up_to(hours_ago(0))
    for _ in range(2):
        await watched.watch.look()
    assert (watched.rolled(old), watched.rolled(watched.hour), differing(), waiting()) == (RIGHT, RIGHT, 0, 0)


async def test_hours_that_were_compared_are_not_asked_for_again(watched: Watched) -> None:
    """After the first look, which goes back a week, two days are enough."""
    for _ in range(3):
        await watched.watch.look()
    old = hours_ago(60)
    watched.spoil(old)
    for _ in range(2):
        await watched.watch.look()
    assert (watched.rolled(old), differing()) == (SHORT, 0)


async def test_what_may_still_get_something_is_left_alone(watched: Watched) -> None:
    """An hour that is not over, and one that some partition is not yet behind."""
    watched.spoil(hours_ago(0))
    watched.complete_up_to(watched.hour, partition=1)
    for _ in range(3):
        await watched.watch.look()
    assert (watched.rolled(watched.hour), watched.rolled(hours_ago(0)), differing()) == (SHORT, SHORT, 0)


async def test_sums_without_rows_are_left_alone(watched: Watched) -> None:
    """Of rows that were removed the rollup alone knows."""
    watched.add(hours_ago(9), SHORT)
    for _ in range(2):
        await watched.watch.look()
    assert (watched.rolled(hours_ago(9)), watched.rolled(watched.hour)) == (SHORT, RIGHT)


async def test_the_owner_of_the_first_partition_looks(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, and nobody else does."""
    monkeypatch.setattr(rollup_watch, "_TICK_S", 0.01)
    monkeypatch.setattr(rollup_watch, "_AGAIN_S", 0.0)
    watched.health.partitions = {0: STANDBY, 1: OWNER}
    watched.watch._next_s = 0.0
    running = asyncio.create_task(watched.watch.run())
    try:
        with pytest.raises(AssertionError):
            await asyncio.to_thread(wait_until, lambda: watched.rolled(watched.hour) != SHORT, deadline_s=1)
        watched.health.partitions = {0: OWNER}
        await asyncio.to_thread(wait_until, lambda: watched.rolled(watched.hour) == RIGHT)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
