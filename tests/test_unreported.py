"""Which partitions a report must not leave out, and up to when they are called complete."""

from collections.abc import AsyncIterator

import pytest

from ingestor.clickhouse import ClickHouse
from ingestor.ledger import Ledger
from ingestor.redis_link import Redis, open_redis
from ingestor.unreported import Unreported
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.redis_client import close_redis
from shared.stream import Partition

HOUR_MS = 3_600_000


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(SecretUrl(redis_url))
    await client.flushall()
    yield client
    await client.flushall()
    await close_redis(client)


async def test_what_holds_something_and_has_no_report(redis: Redis, database: ClickHouse) -> None:
    """It is complete up to the start of its first gateway, and no further than what is said of others."""
    now_ms = unix_ms()
    begun_ms = now_ms - HOUR_MS
    unreported = Unreported(redis, Ledger(redis), database)

    async def found(*reported: int) -> list[tuple[int, int]]:
        return [(report.partition, report.complete_ms) for report in await unreported.reports(reported, now_ms)]

    async def say(partition: int, complete_ms: int, *, retired: bool = False) -> None:
        columns = "partition, complete_up_to, missing, waiting_frames, retired"
        values = f"({partition}, {complete_ms / 1_000:.3f}, 0, 0, {retired})"
        await database.execute(f"INSERT INTO ingestion_progress ({columns}) VALUES {values}")

    assert await found() == []
    await redis.hset(Partition(3).seen, "7", f"{now_ms}:5:{begun_ms}")
    await redis.hset(Partition(9).seen, "8", f"{now_ms - 1}:0:{begun_ms}")
    assert await found() == [(3, begun_ms), (9, now_ms - 1)]
    assert await found(3) == [(9, now_ms - 1)]
    assert await found(3, 9) == []
    await say(9, begun_ms - 1, retired=True)
    await say(0, begun_ms - HOUR_MS)
    assert await found(0) == [(3, begun_ms - HOUR_MS), (9, begun_ms - HOUR_MS)]
    await say(9, now_ms)
    assert await found(0) == [(3, begun_ms - HOUR_MS)]
