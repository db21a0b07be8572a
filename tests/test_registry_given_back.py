"""What Redis lost before it was in the log: gateways that had it give it back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from shared.registry import COMPLETE_KEY, LOG_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, decode_org
from tests.mock_process import MockProcess, mock_process
from tests.parts import admin, wait_until
from tests.registry_operator import empty
from tests.registry_site import Site, ask, metric, sites, until_status, wait_polls


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    """For tests that break something."""
    with sites(tmp_path, mock) as made:
        yield made


def test_a_change_that_redis_lost_comes_back(site: Site) -> None:
    """A key rotated just before Redis lost it stays rotated, in the registry as in the gateway; the log says why."""
    old = site.create("kept")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    with site.client() as client:
        before: Any = client.hget(ORGS_KEY, "kept")
        new = admin(site.redis_url, "org", "rotate-key", "kept")["key"]
        until_status(gateway, new, 200, "rotation")
        rotated: Any = client.hget(ORGS_KEY, "kept")
        client.flushall()
        # As the log brings back what it had.
        version = decode_org(before).version
        client.hset(ORGS_KEY, "kept", before)
        client.zadd(VERSIONS_KEY, {"kept": version})
        client.set(VERSION_KEY, version)
        client.set(COMPLETE_KEY, "refilled")
        wait_until(lambda: client.hget(ORGS_KEY, "kept") == rotated)
        assert client.get(COMPLETE_KEY) != b"refilled", "who polls by version reads everything again"
        assert client.xlen(LOG_KEY) == 0, "the ingestor logs what the log lacks, and nothing twice"
        assert client.get(VERSION_KEY) == str(decode_org(rotated).version).encode()
    assert (ask(gateway, new), ask(gateway, old)) == (200, 401)
    gateway.line_with("registry_given_back")
    assert metric(gateway, "lectr_gateway_registry_given_back_total") == 1


def test_what_only_the_disk_has_is_told_and_not_given(site: Site) -> None:
    """It may be from another Redis: whoever points a gateway elsewhere does not carry organisations there."""
    site.create("elsewhere")
    first = site.start().wait()
    assert first.terminate() == 0
    empty(site.redis_url)
    again = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    again.line_with("registry_ahead")
    assert metric(again, "lectr_gateway_registry_ahead") == 1
    here = site.create("here")
    until_status(again, here, 200, "an organisation of this Redis")
    empty(site.redis_url)
    with site.client() as client:
        wait_until(lambda: client.hkeys(ORGS_KEY) == [b"here"])
        wait_polls(again)
        assert client.hkeys(ORGS_KEY) == [b"here"]


def lose(client: Redis, name: str, older: bytes, mark: str = "refilled") -> None:
    """Redis has an older record of one organisation, as from the log; whatever else it has stays."""
    client.delete(COMPLETE_KEY)
    client.hset(ORGS_KEY, name, older)
    client.zadd(VERSIONS_KEY, {name: decode_org(older).version})
    client.set(COMPLETE_KEY, mark)


def test_whoever_reads_by_version_finds_what_came_back(site: Site) -> None:
    """A record with a lower version than the last change comes with another mark, at which all is read again."""
    site.create("kept")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    with site.client() as client:
        older: Any = client.hget(ORGS_KEY, "kept")
        new = admin(site.redis_url, "org", "rotate-key", "kept")["key"]
        until_status(gateway, new, 200, "rotation")
        site.create("later")
        wait_polls(gateway)
        highest = client.get(VERSION_KEY)
        lose(client, "kept", older)
        wait_until(lambda: client.hget(ORGS_KEY, "kept") != older)
        assert client.get(VERSION_KEY) == highest
        assert client.get(COMPLETE_KEY) not in {None, b"refilled"}


def test_a_failover_that_lost_a_change_is_noticed(site: Site) -> None:
    """Also where the new server has the same mark, and something else was changed there meanwhile."""
    site.create("kept")
    gateway = site.start().wait()
    with site.client() as client:
        older: Any = client.hget(ORGS_KEY, "kept")
        new = admin(site.redis_url, "org", "rotate-key", "kept")["key"]
        until_status(gateway, new, 200, "rotation")
        lose(client, "kept", older, mark="marked")
        later = site.create("later")
        until_status(gateway, later, 200, "another change")
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: client.hget(ORGS_KEY, "kept") != older)
    assert ask(gateway, new) == 200


def test_what_a_newer_release_wrote_is_told_and_not_given(site: Site) -> None:
    """What this release does not know of a record would be gone from it."""
    site.create("kept")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    with site.client() as client:
        older: Any = client.hget(ORGS_KEY, "kept")
        newer = json.loads(older) | {"version": decode_org(older).version + 1, "of_tomorrow": True, "enabled": False}
        record = json.dumps(newer, separators=(",", ":")).encode()
        client.hset(ORGS_KEY, "kept", record)
        client.zadd(VERSIONS_KEY, {"kept": newer["version"]})
        client.set(VERSION_KEY, newer["version"])
        wait_polls(gateway)
        lose(client, "kept", older)
        gateway.line_with("registry_ahead")
        wait_polls(gateway)
        assert client.hget(ORGS_KEY, "kept") == older
        client.hset(ORGS_KEY, "kept", record)
        client.zadd(VERSIONS_KEY, {"kept": newer["version"]})
        wait_until(lambda: metric(gateway, "lectr_gateway_registry_ahead") == 0)
