"""What a registry of many organisations costs is counted, not timed: look-ups, pushes and polls do not grow with it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import authenticate, hash_of_key
from gateway.directory import Directory
from shared.organisation import Org
from shared.registry import ORGS_KEY, VERSION_KEY, VERSIONS_KEY, encode_org
from tests.bench.registry import Counted, comparisons_of, fill, key_of, org_number
from tests.mock_process import MockProcess, mock_process
from tests.parts import wait_until
from tests.redis_relay import redis_relay
from tests.registry_site import ask, metric, sites, until_status, wait_polls

ORGS = 3_000
LOOKED_UP = 200
POLL_BYTES = 2_000
"""Two short values, and what the driver says to Redis on the way; a record has some 340."""


def directory_of(orgs: int) -> Directory:
    directory = Directory()
    directory.merge(org_number(number) for number in range(orgs))
    return directory


def calls_of(act: Callable[[], Any]) -> int:
    """How many functions were called, Python's own included."""
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def test_a_look_up_costs_the_same_in_any_registry() -> None:
    """As many comparisons and calls among 10,000 organisations with two keys each as among ten: one a look-up."""
    compared, called = [], []
    for orgs in (10, 10_000):
        directory = directory_of(orgs)
        hashes = [hash_of_key(key_of(number % orgs, number % 2)) or "" for number in range(LOOKED_UP)]
        compared.append(comparisons_of(directory, hashes))
        assert directory.find(Counted(hash_of_key("nobody"))) is None
        assert Counted.compared == compared[-1]
        known = tuple(hashes)

        def look_up(at: Directory = directory, keys: tuple[str, ...] = known) -> None:
            for key in keys:
                assert authenticate(key, at).limits.requests_per_s

        # What is made of a record is made when it is needed first.
        look_up()
        called.append(calls_of(look_up))
    assert compared == [LOOKED_UP] * 2
    assert len(set(called)) == 1


def test_a_change_costs_the_same_in_any_registry() -> None:
    """Taking one record calls as many functions beside 10,000 others as beside ten."""
    called = []
    for orgs in (10, 10_000):
        directory = directory_of(orgs)
        changed: list[Org] = [org_number(5, version=2)]
        called.append(calls_of(lambda at=directory, new=changed: at.merge(new)))  # type: ignore[misc]
    assert len(set(called)) == 1


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


def test_a_poll_reads_what_changed(tmp_path: Path, mock: MockProcess) -> None:
    """Of 3,000 organisations: nothing where nothing changed, one where one did; in bytes that Redis sent."""
    with sites(tmp_path, mock) as site, redis_relay(site.redis_url) as relay:
        with site.client() as redis:
            size_bytes = fill(redis, ORGS)
            gateway = site.start(LECTR_REDIS_URL=relay.url, LECTR_REGISTRY_POLL_S="0.2").wait()
            wait_until(lambda: metric(gateway, "lectr_gateway_registry_orgs") == ORGS)
            assert relay.answered_bytes > size_bytes, "at the start all of it"
            wait_polls(gateway)
            before = relay.answered_bytes
            wait_polls(gateway, 5)
            assert relay.answered_bytes - before < 8 * POLL_BYTES
            before = relay.answered_bytes
            changed = org_number(7, version=ORGS + 1)
            key = key_of(7, 1)
            assert ask(gateway, key) == 200
            redis.hset(ORGS_KEY, changed.org, encode_org(off(changed)))
            redis.zadd(VERSIONS_KEY, {changed.org: changed.version})
            redis.set(VERSION_KEY, changed.version)
            until_status(gateway, key, 401, "a change without a push, beside 3,000 organisations")
            wait_polls(gateway)
            assert relay.answered_bytes - before < 20 * POLL_BYTES
        assert gateway.terminate() == 0


def off(org: Org) -> Org:
    return Org(org=org.org, version=org.version, keys=org.keys, enabled=False)
