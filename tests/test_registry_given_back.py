"""What Redis lost before it was in the log: gateways that had it give it back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
        changes: Any = client.xrange(LOG_KEY)
        [(_, entry)] = changes
        assert (entry[b"actor"], entry[b"record"]) == (b"gateway", rotated)
        assert b"given back by a gateway" in entry[b"action"]
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
