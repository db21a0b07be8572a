"""Organisations and keys: who is let in, and how a change reaches running gateways without losing another."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import faults
from gateway.auth import authenticate, hash_of_key, require_enabled
from gateway.directory import Directory
from shared.organisation import Azure, Org, Rule
from shared.registry import (
    CHANGES_CHANNEL,
    KEY_PREFIX,
    ORGS_KEY,
    VERSION_KEY,
    RegistryFault,
    decode_org,
    encode_org,
    hash_key,
    new_key,
    same_hash,
)
from shared.rules import RuleTable
from tests.mock_process import MockProcess, mock_process
from tests.parts import admin
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, org_of, sites, until_status


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    """For tests that break something."""
    with sites(tmp_path, mock) as made:
        yield made


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    """For tests that break nothing: two gateways that hear of changes by push alone."""
    with sites(tmp_path_factory.mktemp("registry"), mock) as made:
        gateways = [made.start(f"gateway-{number}", LECTR_REGISTRY_POLL_S=NEVER_S) for number in (1, 2)]
        for gateway in gateways:
            gateway.wait()
        yield made


def test_changes_arrive_by_push(calm: Site) -> None:
    """From the moment a change is made until requests feel it: far below the second that is promised, as printed."""
    writer = Operator(calm.redis_url)
    try:
        key = writer.create_org("measured")[1]
        for enabled in (False, True) * 5:
            started_s = time.monotonic()
            writer.set_enabled("measured", enabled=enabled)
            for gateway in calm.started:
                until_status(gateway, key, 200 if enabled else 401, "write and push", started_s=started_s)
    finally:
        writer.close()


def test_a_new_key_works_in_every_gateway(calm: Site) -> None:
    """A key is valid everywhere as soon as it was shown, without a restart."""
    key = calm.create("fresh")
    for gateway in calm.started:
        until_status(gateway, key, 200, "create")


def test_rotation_replaces_the_key_everywhere(calm: Site) -> None:
    """After a rotation the new key works in every gateway, and the old one in none."""
    old = calm.create("rotating")
    new = admin(calm.redis_url, "org", "rotate-key", "rotating")["key"]
    for gateway in calm.started:
        until_status(gateway, new, 200, "rotate, new key")
        assert ask(gateway, old) == 401


def test_disabling_and_enabling(calm: Site) -> None:
    """A disabled organisation is refused in every gateway; enabled again it is served with the same key."""
    key = calm.create("switched")
    for command, status in (("disable", 401), ("enable", 200), ("disable", 401)):
        admin(calm.redis_url, "org", command, "switched")
        for gateway in calm.started:
            until_status(gateway, key, status, command)


def test_an_azure_endpoint_takes_effect(calm: Site) -> None:
    """Azure is refused until its endpoint is set, then goes there, in every gateway."""
    key = calm.create("azurer")
    first, second = calm.started
    until_status(first, key, 400, "create", provider="azure")
    endpoint = f"{calm.mock.url}/azure"
    admin(calm.redis_url, "azure", "set", "azurer", "--endpoint", endpoint, "--api-version", "2024-10-21")
    for gateway in (first, second):
        until_status(gateway, key, 200, "azure set", provider="azure")


def test_a_lower_version_is_ignored(calm: Site) -> None:
    """A record with an older or equal version changes nothing, pushed or not: a late message cannot undo a change."""
    key = calm.create("current")
    with calm.client() as client:
        record = client.hget(ORGS_KEY, "current")
        assert record is not None
        org = decode_org(record)
        for version in (0, org.version - 1, org.version):
            stale = msgspec.structs.replace(org, version=version, enabled=False)
            client.publish(CHANGES_CHANNEL, encode_org(stale))
        # Pushes come in order: once this one is seen, the others were.
        marker = org_of("marker", "marker", org.version + 1)
        client.publish(CHANGES_CHANNEL, encode_org(marker))
    for gateway in calm.started:
        until_status(gateway, "marker", 200, "push")
        assert ask(gateway, key) == 200


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"not json",
        b"[]",
        b'{"org": "x"}',
        b'{"org": "x", "key_sha256": "", "version": 1}',
        b'{"org": "x", "key_sha256": "short", "version": 1}',
        b'{"org": "x", "key_sha256": "' + b"a" * 64 + b'", "version": "new"}',
        b'{"org": "x", "key_sha256": "' + b"a" * 64 + b'", "version": 99999999999999999999999999}',
        b'{"org": "\xff", "key_sha256": "' + b"a" * 64 + b'", "version": 1}',
        b"\xff\xfe",
    ],
)
def test_a_broken_record_is_no_record(record: bytes) -> None:
    """Whatever stands where a record should be: RegistryFault, and nothing else."""
    with pytest.raises(RegistryFault, match=r"^registry record unreadable: "):
        decode_org(record)


def org_by(directory: Directory, key: str) -> Org | None:
    access = directory.find(hash_key(key))
    return access.org if access else None


def test_merging() -> None:
    """A record replaces one with a lower version only; the old hash is forgotten; nothing is ever removed."""
    directory = Directory()
    assert len(directory.merge([org_of("a", "one", 5), org_of("b", "two", 1)])) == 2
    assert directory.merge([]) == []
    assert directory.merge([org_of("a", "three", 5), org_of("a", "three", 4)]) == []
    assert directory.find(hash_key("three")) is None
    assert directory.merge([org_of("a", "three", 6)]) == [org_of("a", "three", 6)]
    assert directory.find(hash_key("one")) is None
    assert org_by(directory, "three") == org_of("a", "three", 6)
    assert org_by(directory, "two") == org_of("b", "two", 1)
    assert len(directory) == 2
    assert sorted(org.org for org in directory.all()) == ["a", "b"]


def test_an_index_of_rules_may_come_along() -> None:
    """Made beforehand, it is the one that requests are answered by; that of a record which is no news is not."""
    directory, rules = Directory(), (Rule(name="r"),)
    first, second = RuleTable(rules), RuleTable(())
    org = org_of("a", "one", 5, rules=rules)
    assert directory.is_news(org)
    directory.merge([org], {"a": first})
    access = directory.find(hash_key("one"))
    assert access is not None
    assert access.account.rules is first
    assert not directory.is_news(org)
    directory.merge([org], {"a": second})
    assert access.account.rules is first


def test_merging_takes_the_newest_in_any_order() -> None:
    """The result does not depend on the order in which records arrive."""
    records = [org_of("a", f"key {version}", version) for version in (3, 1, 5, 2, 4)]
    directory = Directory()
    directory.merge(records)
    assert directory.all() == [org_of("a", "key 5", 5)]
    assert [directory.find(org.keys[0].sha256) is not None for org in records] == [False, False, True, False, False]


def test_a_key_moves_between_organisations_in_any_order() -> None:
    """An organisation that gives up a key takes it away from nobody who has it by then."""
    for first, second in (("a", "b"), ("b", "a")):
        directory = Directory()
        directory.merge([org_of("a", "shared", 1), org_of("b", "own", 2)])
        moved = {"a": org_of("a", "other", 3), "b": org_of("b", "shared", 4)}
        directory.merge([moved[first]])
        directory.merge([moved[second]])
        assert org_by(directory, "shared") == moved["b"]


def test_keys_are_random_and_recognisable() -> None:
    """A key is the prefix and at least 43 characters that HTTP headers take, never the same twice."""
    keys = {new_key() for _ in range(1_000)}
    assert len(keys) == 1_000
    assert all(re.fullmatch(r"lc_key_[A-Za-z0-9_-]{43,}", key) for key in keys)


def test_hashes() -> None:
    """Keys are compared by SHA-256 in hex; any text a header can hold has a hash."""
    assert hash_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert re.fullmatch(r"[0-9a-f]{64}", hash_key("caf\udce9 日本"))
    assert same_hash(hash_key("a"), hash_key("a"))
    assert not same_hash(hash_key("a"), hash_key("b"))


@pytest.fixture
def known() -> Directory:
    directory = Directory()
    directory.merge([org_of("acme", "lc_key_right", 1), org_of("off", "lc_key_off", 1, enabled=False)])
    return directory


def test_authentication(known: Directory) -> None:
    """The right key is its organisation's, enabled or not; whether it is enabled is asked separately."""
    assert authenticate(hash_of_key("lc_key_right"), known).org.org == "acme"
    require_enabled(authenticate(hash_of_key("lc_key_right"), known))
    with pytest.raises(faults.OrgDisabled, match="off is disabled"):
        require_enabled(authenticate(hash_of_key("lc_key_off"), known))


@pytest.mark.parametrize(
    "key",
    [
        *("lc_key_righ", "lc_key_rightx", "LC_KEY_RIGHT", "right", " lc_key_right", "lc_key_", "x" * 512, "x" * 513),
        *("x" * 100_000, "caf\udce9", "日本", "\x00", hash_key("lc_key_right"), "Bearer lc_key_right"),
    ],
)
def test_wrong_keys(known: Directory, key: str) -> None:
    """Anything but a key itself is invalid, its hash too, and the refusal does not repeat what was sent."""
    with pytest.raises(faults.InvalidKey) as refused:
        authenticate(hash_of_key(key), known)
    assert key not in refused.value.message or key == "right"


@pytest.mark.parametrize("key", [None, ""])
def test_no_key(known: Directory, key: str | None) -> None:
    """No key at all is told apart from a wrong one."""
    with pytest.raises(faults.MissingKey):
        authenticate(hash_of_key(key), known)


def together(*changes: Callable[[], Any]) -> list[Any]:
    """Run all at once; their results."""
    barrier = threading.Barrier(len(changes))

    def run(change: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return change()

    with ThreadPoolExecutor(len(changes)) as threads:
        return [future.result() for future in [threads.submit(run, change) for change in changes]]


@pytest.fixture
def writer(site: Site) -> Iterator[Operator]:
    made = Operator(site.redis_url)
    yield made
    made.close()


def test_concurrent_writers_lose_nothing(site: Site, writer: Operator) -> None:
    """Twelve writers at once, each with organisations of its own: all are there, each with a version of its own."""

    def write(number: int) -> Callable[[], None]:
        def change() -> None:
            own = Operator(site.redis_url)
            try:
                for step in range(3):
                    own.create_org(f"org-{number}-{step}")
                    own.set_enabled(f"org-{number}-{step}", enabled=False)
            finally:
                own.close()

        return change

    together(*(write(number) for number in range(12)))
    orgs = writer.orgs()
    assert [org.org for org in orgs] == sorted(f"org-{number}-{step}" for number in range(12) for step in range(3))
    assert not [org for org in orgs if org.enabled]
    assert len({org.version for org in orgs}) == 36
    with site.client() as client:
        assert int(client.get(VERSION_KEY) or 0) == max(org.version for org in orgs)


def test_concurrent_changes_of_one_org_all_count(site: Site, writer: Operator) -> None:
    """A rotation, a switch and an Azure endpoint at the same moment: none undoes another."""
    writer.create_org("busy")
    (rotated, key), _, _ = together(
        lambda: writer.rotate_key("busy"),
        lambda: writer.set_enabled("busy", enabled=False),
        lambda: writer.set_azure("busy", "https://busy.openai.azure.com", ""),
    )
    [org] = writer.orgs()
    assert org.keys[0].sha256 == rotated.keys[0].sha256 == hash_key(key)
    assert not org.enabled
    assert org.azure == (Azure(endpoint="https://busy.openai.azure.com"),)


def test_only_one_of_two_creations_wins(writer: Operator) -> None:
    """The same name created twice at once: one key is shown, the other attempt is told that the name is taken."""

    def create() -> str:
        try:
            return writer.create_org("contested")[1]
        except RegistryFault as fault:
            return str(fault)

    results = sorted(together(create, create, create), key=lambda text: text.startswith(KEY_PREFIX))
    assert [result.startswith(KEY_PREFIX) for result in results] == [False, False, True]
    assert all("exists" in result for result in results[:2])
    assert writer.orgs()[0].keys[0].sha256 == hash_key(results[2])


def test_versions_only_go_up(site: Site, writer: Operator) -> None:
    """Each change has a higher version than all before it, also when clocks are behind or Redis forgot."""
    first, _ = writer.create_org("a")
    ahead = first.version + 1_000_000
    with site.client() as client:
        client.set(VERSION_KEY, ahead)
        assert writer.set_enabled("a", enabled=False).version == ahead + 1
        assert writer.create_org("b")[0].version == ahead + 2
        client.flushall()
    assert writer.create_org("a")[0].version > first.version
