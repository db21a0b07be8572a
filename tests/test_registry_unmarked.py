"""A Redis without the mark that it has every organisation: who starts beside it serves all of them, or nobody yet."""

import asyncio
import json
import urllib.error
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.credentials import Credentials
from gateway.registry import Registry
from gateway.snapshot import Snapshot
from shared.environment import SecretUrl
from shared.registry import COMPLETE_KEY, ORGS_KEY, VERSION_KEY, encode_org, hash_key
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, free_port, wait_until
from tests.registry_operator import Operator, mark_whole
from tests.registry_site import NEVER_S, Site, ask, metric, org_of, ready, sites, until_status, wait_polls

INCOMPLETE = "lectr_gateway_registry_incomplete"
ORGS = "lectr_gateway_registry_orgs"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    """A Redis as it is before any ingestor has looked at it."""
    with sites(tmp_path, mock) as made:
        with made.client() as client:
            client.delete(COMPLETE_KEY)
        yield made


@pytest.fixture
def operator(site: Site) -> Iterator[Operator]:
    made = Operator(site.redis_url)
    yield made
    made.close()


def waiting(site: Site) -> Gateway:
    """A gateway that has begun to wait for the mark."""
    listen, ops = free_port(), free_port()
    settings = {"LECTR_LISTEN": f"127.0.0.1:{listen}", "LECTR_OPS_LISTEN": f"127.0.0.1:{ops}"}
    gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S, **settings)
    gateway.url, gateway.ops_url = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{ops}"
    gateway.line_with("registry_incomplete")
    return gateway


def test_a_part_of_the_registry_is_not_served(site: Site, operator: Operator) -> None:
    """Not ready, and the port closed, with the reason, the fix and a number that says so; and no copy of the part."""
    key = operator.create_org("back-first")[1]
    gateway = waiting(site)
    wait_until(lambda: metric(gateway, ORGS) == 1)
    pushed = operator.create_org("pushed")[1]
    wait_until(lambda: metric(gateway, ORGS) == 2)
    status, said = ready(gateway)
    assert (status, said["ready"], said["redis"]) == (503, False, "ok")
    [problem] = said["problems"]
    assert "lacks the mark" in problem
    assert "start one beside this Redis (LECTR_REDIS_URL)" in problem
    assert metric(gateway, INCOMPLETE) == 1
    with pytest.raises(urllib.error.URLError):
        ask(gateway, key)
    wait_polls(gateway)
    assert gateway.output.count("registry_incomplete") == 1, "once a minute"
    assert not (site.directory / "gateway" / "state" / "registry.jsonl").exists()
    mark_whole(site.redis_url)
    gateway.wait()
    assert (ask(gateway, key), ask(gateway, pushed), ready(gateway)[1]["problems"]) == (200, 200, [])
    assert metric(gateway, INCOMPLETE) == 0
    copy = Snapshot(str(site.directory / "gateway" / "state"))
    wait_until(lambda: {org.org for org in copy.load()} == {"back-first", "pushed"})


def test_a_new_installation_serves_once_it_is_marked(site: Site, operator: Operator) -> None:
    """No organisation, and a mark that says so: ready at once, and the first one is served when it is made."""
    gateway = waiting(site)
    mark_whole(site.redis_url)
    assert ready(gateway.wait())[0] == 200
    until_status(gateway, operator.create_org("first")[1], 200, "create")


def test_a_start_that_waits_for_the_mark_can_be_stopped(site: Site) -> None:
    """SIGTERM ends it at once, with exit code 0, and what it saw is not kept."""
    gateway = waiting(site)
    assert gateway.terminate() == 0
    assert not (site.directory / "gateway" / "state" / "registry.jsonl").exists()


def test_a_copy_on_disk_is_served_from(site: Site, operator: Operator) -> None:
    """Whoever has seen every organisation waits for no mark; that Redis lacks it is told all the same."""
    key = operator.create_org("remembered")[1]
    mark_whole(site.redis_url)
    first = site.start().wait()
    until_status(first, key, 200, "start")
    assert first.terminate() == 0
    with site.client() as client:
        client.flushall()
    again = site.start().wait()
    assert ask(again, key) == 200
    wait_until(lambda: metric(again, INCOMPLETE) == 1)
    status, said = ready(again)
    assert (status, "lacks the mark" in said["problems"][0]) == (200, True)


def test_the_registry_of_a_release_before_is_whole(site: Site) -> None:
    """It had no mark, no versions of single records, and no log that could have more: served at once, with a notice."""
    record = {"org": "old", "key_sha256": hash_key("old"), "version": 7}
    with site.client() as client:
        client.hset(ORGS_KEY, "old", json.dumps(record))
        client.set(VERSION_KEY, 7)
    gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    assert ask(gateway, "old") == 200
    status, said = ready(gateway)
    assert (status, "lacks the mark" in said["problems"][0], metric(gateway, INCOMPLETE)) == (200, True, 1)


@pytest.fixture
async def registry(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    """One in this process, which looks often and has not begun."""
    monkeypatch.setattr("gateway.registry._INCOMPLETE_S", 0.02)
    made = Registry(SecretUrl(site.redis_url), poll_s=float(NEVER_S), snapshot=Snapshot(""), credentials=Credentials())
    yield made
    await made.close()


async def test_a_memory_lost_while_it_is_read_is_noticed(site: Site, registry: Registry) -> None:
    """The mark was there when the reading began and is not when it ends: what was read is not taken for everything."""
    mark_whole(site.redis_url)
    lost: list[bool] = []
    take = registry._intake.take

    async def take_late(records: Any) -> int:
        if not lost:
            with site.client() as client:
                lost.append(client.flushall())
            records = ()
        return await take(records)

    registry._intake.take = take_late  # type: ignore[method-assign]
    await registry.start()
    await asyncio.to_thread(wait_until, lambda: "lacks the mark" in registry.problem)
    with site.client() as client:
        client.hset(ORGS_KEY, "back", encode_org(org_of("back", "back", 1)))
    mark_whole(site.redis_url)
    await asyncio.wait_for(registry.loaded.wait(), 20)
    assert registry.directory.find(hash_key("back"))


async def test_why_it_waits_is_said_again_and_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to find the one line of the start: as long as it waits, it says so every minute."""
    monkeypatch.setattr("gateway.registry._SAY_AGAIN_S", 0.02)
    with capture_logs() as said:
        await registry.start()
        await asyncio.to_thread(wait_until, lambda: len(said) >= 3)
    assert {(line["event"], "ingestor" in line["fix"]) for line in said} == {("registry_incomplete", True)}
