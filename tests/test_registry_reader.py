"""What the ingestor knows of the registry: as far as it changed, never less than before, and never a price too few."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis as BlockingRedis

from dashboard import edits
from ingestor.clickhouse import ClickHouse
from ingestor.faults import RedisFault
from ingestor.org_prices import UNREADABLE
from ingestor.pricing import Pricer
from ingestor.redis_link import open_redis
from ingestor.registry_log import RegistryLog
from ingestor.registry_reader import RegistryReader
from shared import counters
from shared.environment import SecretUrl
from shared.organisation import Budget, Org, Price
from shared.redis_client import close_redis
from shared.registry import COMPLETE_KEY, LOG_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, encode_org
from tests.ingestor_process import address, event, new_database
from tests.parts import execute, free_port
from tests.registry_operator import Operator

LIST = Decimal("0.00021")
"""What the event of these tests costs by the list."""


def price(usd: str, **more: Any) -> Price:
    amount = Decimal(usd)
    return Price(**{"provider": "openai", "model": "gpt-4o-mini", **more}, input_usd=amount, output_usd=Decimal(0))


@dataclass
class Registry:
    """A registry, its log, and who reads them."""

    redis: BlockingRedis
    operator: Operator
    log: RegistryLog
    reader: RegistryReader

    def set_price(self, org: str, usd: str, **more: Any) -> Org:
        return self.operator.edit(org, edits.put_price(price(usd, **more)), "set price")

    async def cost(self, org: str = "acme") -> Decimal | None:
        """Of a thousand tokens, by what is set now."""
        await self.reader.read()
        return Pricer(own=self.reader.prices).price(event(org=org)).dollars

    async def store(self) -> None:
        """What the keeper does: the log has all, and Redis the mark."""
        await self.log.store()
        await self.log.refill()

    def restarted(self) -> "Registry":
        """A process that has read nothing yet."""
        return Registry(self.redis, self.operator, self.log, RegistryReader(self.reader._redis, self.log))

    def snapshot(self) -> dict[str, bytes]:
        dumped: Any = {key: self.redis.dump(key) for key in (ORGS_KEY, VERSION_KEY, VERSIONS_KEY, COMPLETE_KEY)}
        return dict(dumped)

    def restore(self, snapshot: dict[str, bytes]) -> None:
        self.redis.flushall()
        for key, data in snapshot.items():
            self.redis.restore(key, 0, data)


@pytest.fixture(scope="module")
def migrated_url(clickhouse_url: str) -> str:
    """Made once: a test needs no more of it than an empty log."""
    new_database(clickhouse_url)
    return clickhouse_url


@pytest.fixture
async def empty_log(migrated_url: str) -> AsyncIterator[ClickHouse]:
    execute(migrated_url, "TRUNCATE TABLE lectr.registry_log SYNC")
    clickhouse = await ClickHouse.connect(address(migrated_url, "lectr"))
    yield clickhouse
    await clickhouse.close()


@pytest.fixture
async def registry(empty_log: ClickHouse, redis_url: str) -> AsyncIterator[Registry]:
    redis = open_redis(SecretUrl(redis_url))
    log = RegistryLog(redis, empty_log)
    with BlockingRedis.from_url(redis_url) as client:
        client.delete(ORGS_KEY, VERSION_KEY, VERSIONS_KEY, LOG_KEY, COMPLETE_KEY)
        operator = Operator(redis_url)
        for name in ("acme", "other"):
            operator.create_org(name)
        yield Registry(client, operator, log, RegistryReader(redis, log))
        operator.close()
    await close_redis(redis)


async def test_prices_that_come_change_and_go(registry: Registry) -> None:
    """What is set counts from the next batch on; what was handed out before stays as it was."""
    assert await registry.cost() == LIST
    registry.set_price("acme", "3")
    before = registry.reader.prices
    assert await registry.cost() == Decimal("0.003")
    assert await registry.cost("other") == LIST
    registry.set_price("acme", "4")
    assert await registry.cost() == Decimal("0.004")
    registry.operator.edit("acme", edits.remove_price("openai", "gpt-4o-mini", None), "remove price")
    assert await registry.cost() == LIST
    assert "acme" not in before


async def test_what_did_not_change_is_not_read_again(registry: Registry) -> None:
    """One question to Redis; then the records of higher versions alone."""
    await registry.reader.read()
    statistics: Any = registry.redis.info("commandstats")
    calls = statistics["cmdstat_hscan"]["calls"]
    for number in range(3):
        registry.set_price("acme", str(number))
        await registry.reader.read()
        await registry.reader.read()
    statistics = registry.redis.info("commandstats")
    assert statistics["cmdstat_hscan"]["calls"] == calls
    assert set(registry.reader.prices) == {"acme"}


async def test_many_organisations(registry: Registry) -> None:
    """More than one page of them, and as many changes at once."""
    for _ in ("all", "changed"):
        highest: Any = registry.redis.get(VERSION_KEY)
        versions = {f"org-{number:04d}": int(highest) + 1 + number for number in range(1_203)}
        records: Any = {
            name: encode_org(Org(org=name, version=version, prices=(price("1"),))) for name, version in versions.items()
        }
        registry.redis.hset(ORGS_KEY, mapping=records)
        registry.redis.zadd(VERSIONS_KEY, versions)
        registry.redis.set(VERSION_KEY, max(versions.values()))
        await registry.reader.read()
        assert {name: prices.version for name, prices in registry.reader.prices.items()} == versions


async def test_a_redis_that_forgot_takes_no_price_away(registry: Registry) -> None:
    """Neither an emptied Redis nor one that is brought back from before: the highest version counts."""
    registry.set_price("acme", "3")
    await registry.store()
    old = registry.snapshot()
    registry.set_price("acme", "4")
    assert await registry.cost() == Decimal("0.004")
    registry.redis.flushall()
    assert await registry.cost() == Decimal("0.004")
    registry.restore(old)
    assert await registry.cost() == Decimal("0.004")
    registry.operator.edit("acme", edits.set_prices(()), "no prices")
    assert await registry.cost() == LIST
    registry.restore(old)
    assert await registry.cost() == LIST, "a price that was removed does not come back either"


@pytest.mark.parametrize("lost", ["all", "the last change"])
async def test_who_starts_while_redis_lacks_records_asks_the_log(registry: Registry, lost: str) -> None:
    """A process that knows nothing yet prices by the log as well, until Redis is known to be whole."""
    registry.set_price("acme", "3")
    await registry.store()
    old = registry.snapshot()
    registry.set_price("acme", "4")
    await registry.store()
    if lost == "all":
        registry.redis.flushall()
    else:
        registry.restore(old)
    assert await registry.restarted().cost() == Decimal("0.004")


async def test_a_whole_redis_is_believed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its mark and the log's last version the log's records are not read."""
    registry.set_price("acme", "3")
    await registry.store()
    monkeypatch.setattr(RegistryLog, "latest", None)
    assert await registry.restarted().cost() == Decimal("0.003")


async def test_a_record_that_nobody_can_read_from_the_start(registry: Registry) -> None:
    """Its organisation may have prices: no cost until it can be read; other organisations do not notice."""
    made = registry.set_price("acme", "3")
    record: Any = registry.redis.hget(ORGS_KEY, "acme")
    registry.redis.hset(ORGS_KEY, "acme", b"nonsense")
    bad = counters.ingestor_registry_bad_records._value.get()
    assert await registry.cost() is None
    assert Pricer(own=registry.reader.prices).price(event()).unpriced_reason == UNREADABLE.reason
    assert await registry.cost("other") == LIST
    assert counters.ingestor_registry_bad_records._value.get() == bad + 1
    registry.redis.hset(ORGS_KEY, "acme", record)
    registry.redis.set(VERSION_KEY, made.version + 1)
    registry.redis.zadd(VERSIONS_KEY, {"acme": made.version + 1})
    assert await registry.cost() == Decimal("0.003")


@pytest.mark.parametrize("broken", [b"nonsense", b'{"org":"acme","version":"x"}', b"\xff"])
async def test_a_record_that_becomes_unreadable(registry: Registry, broken: bytes) -> None:
    """What it held before counts."""
    made = registry.set_price("acme", "3")
    assert await registry.cost() == Decimal("0.003")
    registry.redis.hset(ORGS_KEY, "acme", broken)
    registry.redis.zadd(VERSIONS_KEY, {"acme": made.version + 1})
    registry.redis.set(VERSION_KEY, made.version + 1)
    assert await registry.cost() == Decimal("0.003")


async def test_budgets_are_read_with_prices(registry: Registry) -> None:
    """One reading serves both."""
    budget = Budget(name="all", limit_usd=Decimal(10))
    registry.operator.edit("other", edits.put_budget(budget), "budget")
    registry.set_price("acme", "3")
    await asyncio.gather(*(registry.reader.read() for _ in range(5)))
    assert registry.reader.budgets == {"other": (budget,)}
    assert set(registry.reader.prices) == {"acme"}


async def test_redis_away(empty_log: ClickHouse) -> None:
    """Without Redis there is no reading, and nobody prices by less than there is."""
    redis = open_redis(SecretUrl(f"redis://127.0.0.1:{free_port()}/0"))
    reader = RegistryReader(redis, RegistryLog(redis, empty_log))
    with pytest.raises(RedisFault):
        await reader.read()
    await close_redis(redis)
