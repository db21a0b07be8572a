"""What was spent of budgets, from costs in ClickHouse to totals that gateways read: exact up to a moment."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis as BlockingRedis

from dashboard import edits
from ingestor.clickhouse import ClickHouse
from ingestor.probes import Health
from ingestor.redis_link import open_redis
from ingestor.registry_log import RegistryLog
from ingestor.registry_reader import RegistryReader
from ingestor.settings import clickhouse_address
from ingestor.spending import Spending
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.organisation import Budget
from shared.redis_client import close_redis
from shared.registry import ORGS_KEY, VERSION_KEY, VERSIONS_KEY
from shared.spending import SPEND_KEY, Spend, decode_spends, period_of
from tests.ingestor_process import new_database
from tests.parts import execute
from tests.registry_operator import Operator

MINUTE_MS = 60_000
DAY_MS = 86_400_000


@dataclass
class Spent:
    """A database with costs, a registry with budgets, and who sums up."""

    url: str
    redis: BlockingRedis
    operator: Operator
    spending: Spending

    def store(self, at_ms: int, cost: str, *, org: str = "acme", feature: str = "search", requests: int = 1) -> None:
        row = f"(fromUnixTimestamp64Milli({at_ms}, 'UTC'), '{org}', '{feature}', {cost})"
        execute(self.url, f"INSERT INTO lectr.requests (ts, org, feature, cost) VALUES {', '.join([row] * requests)}")

    def complete_up_to(self, at_ms: int) -> None:
        execute(self.url, "TRUNCATE TABLE lectr.ingestion_progress")
        columns = "(partition, complete_up_to, missing, waiting_frames)"
        execute(self.url, f"INSERT INTO lectr.ingestion_progress {columns} VALUES (0, {at_ms / 1_000:.3f}, 0, 0)")

    def told(self, org: str = "acme") -> dict[tuple[str | None, str], Spend]:
        data: Any = self.redis.hget(SPEND_KEY, org)
        return {(spend.feature, spend.period): spend for spend in decode_spends(data)} if data else {}

    def budget(self, name: str, *, org: str = "acme", **more: Any) -> None:
        self.operator.edit(org, edits.put_budget(Budget(name=name, limit_usd=Decimal(10), **more)), "budget")


@pytest.fixture
async def spent(clickhouse_url: str, redis_url: str) -> AsyncIterator[Spent]:
    await asyncio.to_thread(new_database, clickhouse_url)
    clickhouse = await ClickHouse.connect(clickhouse_address(SecretUrl(f"{clickhouse_url}/lectr")))
    redis = open_redis(SecretUrl(redis_url))
    with BlockingRedis.from_url(redis_url) as client:
        client.delete(ORGS_KEY, VERSION_KEY, VERSIONS_KEY, SPEND_KEY)
        operator = Operator(redis_url)
        operator.create_org("acme")
        registry = RegistryReader(redis, RegistryLog(redis, clickhouse))
        yield Spent(clickhouse_url, client, operator, Spending(redis, clickhouse, registry, Health()))
        operator.close()
    await close_redis(redis)
    await clickhouse.close()


async def test_totals_are_exact_up_to_the_moment(spent: Spent) -> None:
    """Whole hours and the one that is being filled, by day and month, each feature and all; nothing later."""
    now_ms = unix_ms()
    day_ms, month_ms = period_of("day", now_ms).start_ms, period_of("month", now_ms).start_ms
    spent.budget("all", period="month")
    spent.budget("search today", period="day", feature="search")
    spent.store(month_ms - 1, "100")
    spent.store(month_ms, "1", feature="chat")
    spent.store(day_ms, "0.25", requests=3)
    spent.store(now_ms - MINUTE_MS, "0.000000000001")
    spent.store(now_ms - MINUTE_MS, "NULL")
    spent.store(now_ms, "50")
    spent.store(day_ms, "7", org="other")
    spent.complete_up_to(now_ms)
    await spent.spending.look()
    told = spent.told()
    assert set(told) == {(None, "month"), ("search", "day")}
    all_, search = told[None, "month"], told["search", "day"]
    expected = Decimal("1.750000000001")
    assert (all_.total_usd, all_.as_of_ms, all_.start_ms) == (expected, now_ms, month_ms)
    assert (search.total_usd, search.start_ms) == (Decimal("0.750000000001"), day_ms)
    assert search.mean_usd == search.total_usd / 5


async def test_nothing_is_told_before_it_is_known(spent: Spent) -> None:
    """As long as nobody knows up to when all is stored, there is no total that could block anybody."""
    spent.budget("all")
    spent.store(unix_ms() - MINUTE_MS, "100")
    await spent.spending.look()
    assert spent.told() == {}


async def test_budgets_that_come_and_go(spent: Spent) -> None:
    """A budget set later is measured from the next look on; an organisation without any costs nothing."""
    spent.complete_up_to(unix_ms())
    await spent.spending.look()
    assert spent.told() == {}
    spent.budget("all")
    await spent.spending.look()
    assert spent.told()[None, "month"].total_usd == 0
    assert spent.told()[None, "month"].mean_usd is None
    spent.operator.edit("acme", edits.remove_budget("all"), "remove")
    spent.redis.delete(SPEND_KEY)
    await spent.spending.look()
    assert spent.told() == {}
