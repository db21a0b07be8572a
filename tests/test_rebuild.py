"""What `rollup --rebuild` does beside another one, and beside a batch that nobody finishes: it changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestor import rebuild
from ingestor.faults import Action, ClickHouseFault, RebuildRefused, RedisFault
from ingestor.rebuild import LOCK_S, Say, alone, settle
from ingestor.redis_link import Redis, open_redis
from ingestor.rollup import check_rollup
from ingestor.settings import Settings
from shared import counters
from shared.environment import SecretUrl
from shared.redis_client import close_redis
from shared.stream import ROLLUP_REBUILD, Partition
from tests.ingestor_process import Pusher, new_database
from tests.parts import execute, migrate, running, select, start_clickhouse, start_redis, wait_until
from tests.redis_servers import start_cluster, start_sentinels

HOUR = "2026-03-01 10:00:00"
ROW = f"INSERT INTO lectr.requests (ts, org, feature) VALUES ('{HOUR}', 'acme', 'search')"
EXTRA = f"INSERT INTO lectr.requests_hourly (hour, org, feature, requests) VALUES ('{HOUR}', 'acme', 'search', 3)"
LATE = EXTRA.replace(", 3)", ", {})")
ROLLED = "SELECT sum(requests) AS n FROM lectr.requests_hourly"


@pytest.fixture(scope="module", params=["single", "sentinels", "cluster"])
def any_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "single":
        part, url = start_redis(directory)
        with running(part):
            yield url
    else:
        start = start_cluster if request.param == "cluster" else start_sentinels
        with start(directory) as servers:
            yield servers.url


@pytest.fixture
async def client(any_redis: str) -> AsyncIterator[Redis]:
    made = open_redis(SecretUrl(any_redis))
    yield made
    await made.delete(ROLLUP_REBUILD)
    await close_redis(made)


async def reach(condition: Callable[[], Any]) -> None:
    """Wait in a thread: what is looked at is made by this event loop."""
    await asyncio.to_thread(wait_until, condition)


async def rebuild_all(settings: Settings) -> list[tuple[bool, bool]]:
    """Of each hour that differed whether it was made anew, and whether it is doubled."""
    found = await check_rollup(settings, rebuild=True, drop_surplus=True, say=print)
    return [(differing.made_anew, differing.doubled) for differing in found]


async def test_one_at_a_time(client: Redis) -> None:
    """The second one is told that another runs, and when its lock expires; once that has ended the next one may."""
    async with alone(client) as renew:
        with pytest.raises(RebuildRefused, match=rf"being made anew already, .* {LOCK_S} s until its lock"):
            async with alone(client):
                raise AssertionError
        await client.pexpire(ROLLUP_REBUILD, 5_000)
        await renew("the rest is as it was")
        assert await client.pttl(ROLLUP_REBUILD) > (LOCK_S - 20) * 1_000
    assert not await client.exists(ROLLUP_REBUILD)
    async with alone(client):
        assert 0 < await client.pttl(ROLLUP_REBUILD) <= LOCK_S * 1_000


async def test_a_lock_that_is_lost_ends_it(client: Redis) -> None:
    """Redis forgot it, and another one may have begun: that one's lock stays."""
    async with alone(client) as renew:
        await client.set(ROLLUP_REBUILD, "another")
        with pytest.raises(RebuildRefused, match=f"the lock {ROLLUP_REBUILD} is lost.*; the rest is as it was; run: "):
            await renew("the rest is as it was")
    assert await client.get(ROLLUP_REBUILD) == b"another"


async def test_a_statement_without_an_answer_keeps_the_lock(client: Redis) -> None:
    """ClickHouse may still be at work: nobody begins before the lock has expired. A refused one has ended."""
    unanswered = ClickHouseFault("no answer", action=Action.RETRY)
    refused = ClickHouseFault("refused", action=Action.RETRY, code=159)
    ends: list[tuple[BaseException, bool, bool]] = [
        (unanswered, True, True),
        (unanswered, False, False),
        (asyncio.CancelledError(), True, True),
        (refused, True, False),
        (RebuildRefused("a batch is in doubt"), True, False),
    ]

    async def rebuild_until(end: BaseException, *, changed: bool) -> None:
        async with alone(client) as renew:
            if changed:
                await renew("the rest is as it was")
            raise end

    for end, changed, kept in ends:
        with pytest.raises(type(end)):
            await rebuild_until(end, changed=changed)
        assert await client.exists(ROLLUP_REBUILD) == kept, end
        await client.delete(ROLLUP_REBUILD)


async def test_batches_on_record_are_waited_for(client: Redis) -> None:
    """Until each is gone or another one has followed it; what is recorded later is no matter."""
    one, two, three = (Partition(index).pending for index in (0, 3, 700))
    said: list[str] = []
    await client.set(one, "a")
    await client.set(two, "b")
    waiting = asyncio.create_task(settle(client, said.append))
    await reach(lambda: said)
    await client.set(three, "c")
    await client.delete(one)
    await reach(lambda: len(said) == 2)
    assert not waiting.done()
    await client.set(two, "b2")
    await asyncio.wait_for(waiting, 20)
    assert [line.partition(";")[0] for line in said] == [
        "partitions 0, 3: a batch is being stored",
        "partition 3: a batch is being stored",
    ]
    for key in (two, three):
        await client.delete(key)
    await settle(client, said.append)
    assert len(said) == 2


async def test_nothing_is_changed_while_a_batch_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody finishes it: the fault names the partition, an hour that differs stays, and the lock is given back."""
    monkeypatch.setattr(rebuild, "_DEADLINE_S", 0.0)
    redis_part, redis_url = start_redis(tmp_path / "redis")
    clickhouse_part, clickhouse_url = start_clickhouse(tmp_path / "clickhouse")
    with running(redis_part), running(clickhouse_part):
        pusher = Pusher(redis_url, 5)
        await asyncio.to_thread(migrate, clickhouse_url)
        for statement in (ROW, EXTRA):
            execute(clickhouse_url, statement)
        settings = Settings(redis_url=SecretUrl(redis_url), clickhouse_url=SecretUrl(f"{clickhouse_url}/lectr"))
        pusher.client.set(pusher.partition.pending, "a batch")
        with pytest.raises(RebuildRefused, match=r"^partition 5: a batch is in doubt.* an ingestor must be running"):
            await rebuild_all(settings)
        assert select(clickhouse_url, ROLLED) == [{"n": 4}]
        pusher.client.delete(pusher.partition.pending)
        assert await rebuild_all(settings) == [(True, False)]
        assert select(clickhouse_url, ROLLED) == [{"n": 1}]
        pusher.client.close()
        redis_part.kill()
        assert await check_rollup(settings, rebuild=False, say=print) == []
        with pytest.raises(RedisFault):
            await rebuild_all(settings)


@pytest.mark.parametrize("batches", [1, 9])
async def test_a_batch_that_adds_to_an_hour_made_anew_is_noticed(
    clickhouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """Its sums come after its rows: batches are waited for, and the hour is made anew again, three times at most."""
    await asyncio.to_thread(new_database, clickhouse_url)
    for statement in (ROW, EXTRA):
        execute(clickhouse_url, statement)
    said: list[str] = []

    async def late(redis: Redis, say: Say, so_far: str = "") -> None:
        await settle(redis, say)
        if so_far:
            said.append(so_far)
            if len(said) <= batches:
                execute(clickhouse_url, LATE.format(9 + len(said)))

    monkeypatch.setattr("ingestor.rollup.settle", late)
    doubled = counters.rollup_hours_doubled._value.get()
    redis_part, redis_url = start_redis(tmp_path / "redis")
    with running(redis_part):
        settings = Settings(redis_url=SecretUrl(redis_url), clickhouse_url=SecretUrl(f"{clickhouse_url}/lectr"))
        assert await rebuild_all(settings) == [(True, False) if batches == 1 else (False, True)]
        assert said == ["hours were made anew, and are to be looked at again"] * (2 if batches == 1 else 3)
        assert counters.rollup_hours_doubled._value.get() - doubled == min(batches, 3)
        monkeypatch.undo()
        assert await rebuild_all(settings) == ([] if batches == 1 else [(True, False)])
    assert select(clickhouse_url, ROLLED) == [{"n": 1}]
