"""What operators set is kept in ClickHouse, and a Redis that lost its memory has it back before anybody notices."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from redis import Redis as BlockingRedis

from ingestor.clickhouse import ClickHouse
from ingestor.probes import Health
from ingestor.redis_link import open_redis
from ingestor.registry_keeper import RegistryKeeper
from ingestor.registry_log import RegistryLog
from ingestor.settings import clickhouse_address
from shared.environment import SecretUrl
from shared.organisation import Org
from shared.redis_client import close_redis
from shared.registry import COMPLETE_KEY, LOG_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, decode_org, encode_org
from tests.ingestor_process import new_database
from tests.parts import select
from tests.registry_operator import Operator

ROWS = "SELECT org, version, actor, action, record FROM lectr.registry_log FINAL ORDER BY version"


@dataclass
class Kept:
    """A registry and its log, and who keeps them: looked at when a test says so."""

    url: str
    redis: BlockingRedis
    operator: Operator
    log: RegistryLog
    keeper: RegistryKeeper
    health: Health

    def rows(self) -> list[dict[str, str]]:
        return select(self.url, ROWS)

    def served(self) -> dict[str, Org]:
        records: Any = self.redis.hgetall(ORGS_KEY)
        return {name.decode(): decode_org(record) for name, record in records.items()}

    def versions(self) -> tuple[int, dict[str, int]]:
        scores: Any = dict(self.redis.zscan_iter(VERSIONS_KEY))
        return int(self.redis.get(VERSION_KEY) or 0), {name.decode(): int(score) for name, score in scores.items()}

    def restarted(self) -> RegistryKeeper:
        """Another process takes over, and compares at once."""
        return RegistryKeeper(self.log, self.health)


@pytest.fixture
async def kept(clickhouse_url: str, redis_url: str) -> AsyncIterator[Kept]:
    await asyncio.to_thread(new_database, clickhouse_url)
    clickhouse = await ClickHouse.connect(clickhouse_address(SecretUrl(f"{clickhouse_url}/lectr")))
    redis, health = open_redis(SecretUrl(redis_url)), Health()
    log = RegistryLog(redis, clickhouse)
    with BlockingRedis.from_url(redis_url) as client:
        client.delete(ORGS_KEY, VERSION_KEY, VERSIONS_KEY, LOG_KEY, COMPLETE_KEY)
        operator = Operator(redis_url)
        yield Kept(clickhouse_url, client, operator, log, RegistryKeeper(log, health), health)
        operator.close()
    await close_redis(redis)
    await clickhouse.close()


async def test_each_change_is_a_row(kept: Kept) -> None:
    """Who did what, in order, with the record that it made; nothing is left on the stream."""
    made, _ = kept.operator.create_org("acme")
    disabled = kept.operator.set_enabled("acme", enabled=False)
    await kept.keeper.look()
    rows = kept.rows()
    assert [(row["actor"], row["action"], int(row["version"])) for row in rows] == [
        ("test", "create org", made.version),
        ("test", "switch", disabled.version),
    ]
    assert [decode_org(row["record"]) for row in rows] == [made, disabled]
    assert kept.redis.xlen(LOG_KEY) == 0
    changes = select(kept.url, "SELECT org, actor, action FROM lectr.registry_changes ORDER BY version")
    assert [row["action"] for row in changes] == ["create org", "switch"]


async def test_a_change_that_changes_nothing_is_none(kept: Kept) -> None:
    """Enabling what is enabled: the same version, no row."""
    made, _ = kept.operator.create_org("acme")
    assert kept.operator.set_enabled("acme", enabled=True) == made
    await kept.keeper.look()
    assert len(kept.rows()) == 1


async def test_a_redis_that_lost_its_memory_is_refilled(kept: Kept) -> None:
    """All records come back as they were, with their versions, and the mark that gateways read everything again by."""
    for name in ("acme", "beta", "gamma"):
        kept.operator.create_org(name)
    kept.operator.set_enabled("beta", enabled=False)
    await kept.keeper.look()
    before, versions, mark = kept.served(), kept.versions(), kept.redis.get(COMPLETE_KEY)
    kept.redis.flushall()
    await kept.keeper.look()
    assert (kept.served(), kept.versions()) == (before, versions)
    assert kept.redis.get(COMPLETE_KEY) not in {None, mark}
    assert kept.operator.set_enabled("acme", enabled=False).version > versions[0]
    await kept.keeper.look()
    assert len(kept.rows()) == 5, "what was brought back is no change"


async def test_many_records_are_refilled(kept: Kept) -> None:
    """More than one page of them."""
    orgs = [Org(org=f"org-{number:04d}", version=1_000 + number) for number in range(1_203)]
    kept.redis.hset(ORGS_KEY, mapping={org.org: encode_org(org) for org in orgs})
    await kept.keeper.look()
    kept.redis.flushall()
    await kept.keeper.look()
    assert kept.served() == {org.org: org for org in orgs}
    assert kept.versions()[0] == 1_000 + 1_202


async def test_what_was_made_before_the_refill_stays(kept: Kept) -> None:
    """An organisation made in the moment after the loss, and one changed later than the log knows, are not undone."""
    acme, _ = kept.operator.create_org("acme")
    await kept.keeper.look()
    kept.redis.flushall()
    fresh, _ = kept.operator.create_org("fresh")
    newer = msgspec.structs.replace(acme, version=fresh.version + 1, enabled=False)
    kept.redis.hset(ORGS_KEY, "acme", encode_org(newer))
    await kept.keeper.look()
    assert kept.served() == {"acme": newer, "fresh": fresh}


async def brought_back(kept: Kept) -> tuple[Org, Org]:
    """Redis as it was before a key was disabled and another organisation made; what they became."""
    acme, _ = kept.operator.create_org("acme")
    await kept.keeper.look()
    old = kept.redis.hget(ORGS_KEY, "acme")
    assert old is not None
    disabled = kept.operator.set_enabled("acme", enabled=False)
    beta, _ = kept.operator.create_org("beta")
    await kept.keeper.look()
    kept.redis.hset(ORGS_KEY, "acme", old)
    kept.redis.hdel(ORGS_KEY, "beta")
    kept.redis.zrem(VERSIONS_KEY, "beta")
    kept.redis.set(VERSION_KEY, acme.version)
    assert kept.served() == {"acme": acme}
    return disabled, beta


async def test_an_older_redis_is_brought_up_to_date(kept: Kept) -> None:
    """A Redis brought back from a backup has its mark, and a version that went down: at the next look it has it all."""
    disabled, beta = await brought_back(kept)
    mark = kept.redis.get(COMPLETE_KEY)
    await kept.keeper.look()
    assert kept.served() == {"acme": disabled, "beta": beta}
    assert kept.redis.get(COMPLETE_KEY) != mark, "gateways read everything again"
    assert kept.versions()[0] == beta.version


async def test_an_older_redis_that_was_edited_since(kept: Kept) -> None:
    """An edit makes its version the highest again: what the others lack is found by comparing each of them."""
    disabled, beta = await brought_back(kept)
    gamma, _ = kept.operator.create_org("gamma")
    await kept.restarted().look()
    assert kept.served() == {"acme": disabled, "beta": beta, "gamma": gamma}
    assert kept.versions()[0] == gamma.version


async def test_a_comparison_that_finds_nothing_changes_nothing(kept: Kept) -> None:
    """With Redis as complete as the log the mark stays: gateways do not read everything again each minute."""
    kept.operator.create_org("acme")
    await kept.keeper.look()
    mark = kept.redis.get(COMPLETE_KEY)
    kept.operator.create_org("beta")
    await kept.restarted().look()
    assert kept.redis.get(COMPLETE_KEY) == mark


@pytest.mark.parametrize(
    "record",
    [
        b"nonsense",
        b"\xff",
        b"[]",
        b'{"org":"acme"}',
        b'{"org":"acme","version":"new"}',
        b'{"org":"acme","version":1e300}',
        b'{"org":"acme","version":{}}',
        b"[" * 10_000,
    ],
)
async def test_a_broken_record_is_restored(kept: Kept, record: bytes) -> None:
    """What no reader can use is replaced by what the log has; the other organisations are none the worse."""
    acme, _ = kept.operator.create_org("acme")
    beta, _ = kept.operator.create_org("beta")
    await kept.keeper.look()
    kept.redis.hset(ORGS_KEY, "acme", record)
    kept.redis.hset(ORGS_KEY, b"\xff", b"x")
    kept.redis.set(VERSION_KEY, "garbage")
    await kept.keeper.look()
    kept.redis.hdel(ORGS_KEY, b"\xff")
    assert kept.served() == {"acme": acme, "beta": beta}
    assert kept.versions()[0] == beta.version


async def test_a_record_of_a_newer_release_is_left_alone(kept: Kept) -> None:
    """One that this ingestor cannot read, and that is newer than the log's, is what newer gateways serve."""
    acme, _ = kept.operator.create_org("acme")
    await kept.keeper.look()
    newer = b'{"org":"acme","version":%d,"keys":"of another kind"}' % (acme.version + 1)
    kept.redis.hset(ORGS_KEY, "acme", newer)
    kept.redis.set(VERSION_KEY, acme.version + 1)
    mark = kept.redis.get(COMPLETE_KEY)
    await kept.restarted().look()
    assert (kept.redis.hget(ORGS_KEY, "acme"), kept.redis.get(COMPLETE_KEY)) == (newer, mark)


async def test_records_of_before_the_log_are_taken_into_it(kept: Kept) -> None:
    """After an upgrade, or with a new ClickHouse, the log holds what Redis does; a loss right after costs nothing."""
    record = b'{"org":"old","key_sha256":"%b","version":7}' % (b"a" * 64)
    kept.redis.hset(ORGS_KEY, "old", record)
    kept.redis.hset(ORGS_KEY, "broken", b"nonsense")
    await kept.keeper.look()
    [row] = kept.rows()
    assert (row["org"], row["actor"], row["action"]) == ("old", "ingestor", "found in Redis")
    kept.redis.flushall()
    await kept.keeper.look()
    assert kept.served()["old"].keys[0].sha256 == "a" * 64


async def test_a_change_stored_twice_is_one_row(kept: Kept) -> None:
    """An ingestor killed between the row and the stream stores it again."""
    kept.operator.create_org("acme")
    entries: Any = kept.redis.xrange(LOG_KEY)
    [(_, fields)] = entries
    await kept.keeper.look()
    kept.redis.xadd(LOG_KEY, fields)
    await kept.keeper.look()
    assert len(kept.rows()) == 1


async def test_a_broken_entry_stops_nothing(kept: Kept) -> None:
    """What no row can hold is counted and left out; its organisation's record is taken from where it is served."""
    kept.operator.create_org("acme")
    broken: Any = ({b"x": b"y"}, {b"org": b"\xff", b"version": b"1"})
    for fields in broken:
        kept.redis.xadd(LOG_KEY, fields)
    kept.operator.create_org("beta")
    await kept.keeper.look()
    assert [row["org"] for row in kept.rows()] == ["acme", "beta"]
    assert kept.redis.xlen(LOG_KEY) == 0
