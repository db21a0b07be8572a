"""Organisations and keys: a change reaches running gateways at once, and no state of Redis takes an org away."""

import json
import re
import signal
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from dashboard.registry import Registry as Writer
from gateway import faults
from gateway.auth import authenticate, require_enabled
from gateway.registry import Directory, Snapshot
from shared.environment import SecretUrl, SettingsFault
from shared.registry import (
    CHANGES_CHANNEL,
    KEY_PREFIX,
    ORGS_KEY,
    VERSION_KEY,
    Azure,
    Org,
    RegistryFault,
    decode_org,
    encode_org,
    hash_key,
    new_key,
    same_hash,
)
from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, Part, admin, fetch, free_port, running, start_redis, upstreams_of, wait_until

DEADLINE_S = 5.0
"""One second is promised; a busy test machine gets five. The measured time is printed."""
NEVER_S = "30"


def ask(gateway: Gateway, key: str, **headers: str) -> int:
    """One request; its status."""
    fields = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('registry')}", **headers}
    body = json.dumps(chat()).encode()
    return fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")[0]


def until_status(gateway: Gateway, key: str, status: int, what: str, **headers: str) -> None:
    """Wait until requests with this key get the status, and print how long it took."""
    start = time.monotonic()
    wait_until(lambda: ask(gateway, key, **headers) == status, deadline_s=DEADLINE_S, every_s=0.002)
    print(f"{what}: {(time.monotonic() - start) * 1000:.0f} ms")  # noqa: T201 - a measurement for whoever reads the log


def ready(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    status, body = fetch(f"{gateway.ops_url}/readyz")
    return status, json.loads(body)


def metric(gateway: Gateway, name: str) -> float:
    lines = fetch(f"{gateway.ops_url}/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def polls(gateway: Gateway) -> float:
    return metric(gateway, 'lectr_gateway_registry_refreshes_total{outcome="read"}')


def wait_polls(gateway: Gateway, count: int = 2) -> None:
    """Until the gateway has read the registry again, from the start of a poll that began after this call."""
    before = polls(gateway)
    wait_until(lambda: polls(gateway) >= before + count)


@dataclass
class Site:
    """A Redis of the tests' own, and what starts gateways on it."""

    directory: Path
    redis: Part
    redis_url: str
    mock: MockProcess
    started: list[Gateway]

    @property
    def port(self) -> int:
        return int(self.redis_url.rpartition(":")[2].partition("/")[0])

    def start(self, name: str = "gateway", **settings: str) -> Gateway:
        """A gateway that may not be serving yet; stopped with the site."""
        gateway = Gateway(self.directory / name, self.redis_url, upstreams_of(self.mock.url), **settings)
        self.started.append(gateway)
        return gateway

    def restart_redis(self) -> None:
        self.redis, _ = start_redis(self.directory / "redis", self.port)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.redis_url)

    def create(self, name: str) -> str:
        """A new organisation's key."""
        key: str = admin(self.redis_url, "org", "create", name)["key"]
        return key


def sites(directory: Path, mock: MockProcess) -> Iterator[Site]:
    part, url = start_redis(directory / "redis")
    site = Site(directory, part, url, mock, [])
    try:
        yield site
    finally:
        for gateway in site.started:
            with running(gateway):
                pass
        site.redis.kill()


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    """For tests that break something."""
    yield from sites(tmp_path, mock)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    """For tests that break nothing: two gateways that hear of changes by push alone."""
    for made in sites(tmp_path_factory.mktemp("registry"), mock):
        gateways = [made.start(f"gateway-{number}", LECTR_REGISTRY_POLL_S=NEVER_S) for number in (1, 2)]
        for gateway in gateways:
            gateway.wait()
        yield made


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
    until_status(first, key, 400, "create", **{"X-Lectr-Provider": "azure"})
    endpoint = f"{calm.mock.url}/azure"
    admin(calm.redis_url, "azure", "set", "azurer", "--endpoint", endpoint, "--api-version", "2024-10-21")
    for gateway in (first, second):
        until_status(gateway, key, 200, "azure set", **{"X-Lectr-Provider": "azure"})


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
        marker = Org(org="marker", key_sha256=hash_key("marker"), version=org.version + 1)
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


def test_broken_records_are_counted_and_the_others_kept(site: Site) -> None:
    """Records that cannot be read, stored or pushed, are counted and logged; every other organisation is served."""
    key = site.create("healthy")
    with site.client() as client:
        for name, record in (("a", b"nonsense"), ("b", b"\xff"), ("zz", b'{"org": "\xff"}')):
            client.hset(ORGS_KEY, name, record)
        gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
        assert ask(gateway, key) == 200
        assert metric(gateway, "lectr_gateway_registry_bad_records_total") == 3
        client.publish(CHANGES_CHANNEL, b'{"org": "\xff"}')
        wait_until(lambda: metric(gateway, "lectr_gateway_registry_bad_records_total") == 4)
    later = site.create("later")
    until_status(gateway, later, 200, "push after a broken one")
    assert gateway.output.count("registry_record_unreadable") == 4


def test_a_missed_push_is_found_by_polling(site: Site) -> None:
    """A change whose push was lost takes effect at the next poll."""
    key = site.create("quiet")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.2").wait()
    assert ask(gateway, key) == 200
    with site.client() as client:
        record = client.hget(ORGS_KEY, "quiet")
        assert record is not None
        org = decode_org(record)
        changed = msgspec.structs.replace(org, enabled=False, version=org.version + 1)
        client.hset(ORGS_KEY, "quiet", encode_org(changed))
        client.set(VERSION_KEY, changed.version)
    until_status(gateway, key, 401, "change without a push, polled every 200 ms")


def test_a_redis_that_lost_its_memory_empties_no_gateway(site: Site) -> None:
    """After FLUSHALL a running gateway serves on, and organisations made afterwards join those it knows."""
    key = site.create("remembered")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    with site.client() as client:
        client.flushall()
    wait_polls(gateway)
    assert ask(gateway, key) == 200
    newer = site.create("newer")
    until_status(gateway, newer, 200, "create after FLUSHALL")
    again = site.create("remembered")
    until_status(gateway, again, 200, "the same name again")
    assert ask(gateway, key) == 401, "the name has a new key, so the old one is over"


def test_a_start_with_redis_down_serves_from_the_copy(site: Site) -> None:
    """A gateway that once saw the registry starts and serves without Redis; /readyz says 200 and redis failing."""
    key = site.create("kept")
    off = site.create("kept-off")
    admin(site.redis_url, "org", "disable", "kept-off")
    first = site.start().wait()
    assert ask(first, key) == 200
    assert first.terminate() == 0
    site.redis.kill()
    second = site.start().wait()
    assert (ask(second, key), ask(second, off)) == (200, 401)
    wait_until(lambda: ready(second)[1]["redis"] == "failing")
    assert ready(second)[0] == 200
    assert "registry_from_disk" in second.output
    site.restart_redis()
    wait_until(lambda: ready(second)[1]["redis"] == "ok")
    until_status(second, site.create("after"), 200, "create after Redis came back")


def test_a_start_without_redis_and_without_a_copy_waits(site: Site) -> None:
    """Without any registry nothing is served: /readyz is 503 with the reason, the port is closed, until Redis is up."""
    key = site.create("patient")
    site.redis.kill()
    listen, ops = free_port(), free_port()
    gateway = site.start(LECTR_LISTEN=f"127.0.0.1:{listen}", LECTR_OPS_LISTEN=f"127.0.0.1:{ops}")
    gateway.url, gateway.ops_url = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{ops}"
    gateway.line_with("redis_unavailable")
    status, body = ready(gateway)
    assert status == 503
    assert "LECTR_REDIS_URL" in body["problems"][0]
    assert fetch(f"{gateway.ops_url}/healthz")[0] == 200
    with pytest.raises(urllib.error.URLError):
        ask(gateway, key)
    site.restart_redis()
    gateway.wait()
    assert ask(gateway, key) == 200
    status, body = ready(gateway)
    assert (status, body["ready"], body["problems"], body["redis"]) == (200, True, [], "ok")


def test_a_waiting_start_can_be_stopped(site: Site) -> None:
    """SIGTERM ends a gateway that still waits for Redis, at once and with exit code 0."""
    site.redis.kill()
    gateway = site.start()
    gateway.line_with("redis_unavailable")
    assert gateway.terminate() == 0


def test_redis_killed_while_serving(site: Site) -> None:
    """Requests do not notice that Redis died: same answers, no slower path; /readyz is 200 and says redis failing."""
    key = site.create("steady")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    assert ask(gateway, key) == 200
    site.redis.kill()
    assert [ask(gateway, key) for _ in range(20)] == [200] * 20
    wait_until(lambda: ready(gateway)[1]["redis"] == "failing")
    assert ready(gateway)[0] == 200
    assert ask(gateway, "lc_key_nobody") == 401
    site.restart_redis()
    wait_until(lambda: ready(gateway)[1]["redis"] == "ok" and ready(gateway)[1]["waiting_events"] == 0)
    admin(site.redis_url, "org", "disable", "steady")
    until_status(gateway, key, 401, "disable after Redis came back")


def test_redis_that_hangs(site: Site) -> None:
    """A Redis that accepts and never answers is as harmless as a dead one."""
    key = site.create("hanging")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    site.redis.process.send_signal(signal.SIGSTOP)
    try:
        assert [ask(gateway, key) for _ in range(20)] == [200] * 20
        wait_until(lambda: ready(gateway)[1]["redis"] == "failing", deadline_s=30)
        assert ask(gateway, key) == 200
    finally:
        site.redis.process.send_signal(signal.SIGCONT)
    wait_until(lambda: ready(gateway)[1]["redis"] == "ok", deadline_s=30)


def test_the_copy_holds_hashes_and_follows_changes(site: Site) -> None:
    """The copy on disk has every organisation's latest record and no key."""
    key = site.create("copied")
    gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    path = site.directory / "gateway" / "state" / "registry.json"
    rotated = admin(site.redis_url, "org", "rotate-key", "copied")["key"]
    wait_until(lambda: hash_key(rotated) in path.read_text())
    text = path.read_text()
    assert hash_key(key) not in text
    assert KEY_PREFIX not in text
    assert [org["org"] for org in json.loads(text)] == ["copied"]
    assert [found.name for found in path.parent.iterdir()] == ["registry.json"]
    assert ask(gateway, rotated) == 200


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"org": "\xff"}]', b"\xff"])
def test_an_unreadable_copy_stops_the_start(site: Site, content: bytes) -> None:
    """A copy that is not ours ends the start with exit code 2 and one line: the file, and what to do."""
    state = site.directory / "gateway" / "state"
    state.mkdir(parents=True)
    (state / "registry.json").write_bytes(content)
    gateway = site.start()
    assert gateway.process.wait(30) == 2
    assert len(gateway.output.splitlines()) == 1, gateway.output
    assert re.match(r"lectr gateway: LECTR_STATE_DIR=.*registry\.json .* delete it", gateway.output)


def test_a_copy_that_cannot_be_written_stops_nothing(site: Site) -> None:
    """When the state directory cannot be written to, that is logged, and changes take effect nevertheless."""
    blocker = site.directory / "gateway" / "state" / "registry.partial"
    blocker.mkdir(parents=True)
    gateway = site.start().wait()
    until_status(gateway, site.create("unkept"), 200, "create")
    assert "registry_copy_not_written" in gateway.output


def test_a_directory_without_state_dir(site: Site) -> None:
    """Without LECTR_STATE_DIR nothing is kept on disk, and the registry works all the same."""
    gateway = site.start(LECTR_STATE_DIR="").wait()
    until_status(gateway, site.create("stateless"), 200, "create")
    assert not (site.directory / "gateway" / "state").exists()


def org_of(name: str, key: str, version: int, **more: Any) -> Org:
    return Org(org=name, key_sha256=hash_key(key), version=version, **more)


def test_merging() -> None:
    """A record replaces one with a lower version only; the old hash is forgotten; nothing is ever removed."""
    directory = Directory()
    assert directory.merge([org_of("a", "one", 5), org_of("b", "two", 1)]) == 2
    assert directory.merge([]) == 0
    assert directory.merge([org_of("a", "three", 5), org_of("a", "three", 4)]) == 0
    assert directory.find(hash_key("three")) is None
    assert directory.merge([org_of("a", "three", 6)]) == 1
    assert directory.find(hash_key("one")) is None
    assert directory.find(hash_key("three")) == org_of("a", "three", 6)
    assert directory.find(hash_key("two")) == org_of("b", "two", 1)
    assert len(directory) == 2
    assert sorted(org.org for org in directory.all()) == ["a", "b"]


def test_merging_takes_the_newest_in_any_order() -> None:
    """The result does not depend on the order in which records arrive."""
    records = [org_of("a", f"key {version}", version) for version in (3, 1, 5, 2, 4)]
    directory = Directory()
    directory.merge(records)
    assert directory.all() == [org_of("a", "key 5", 5)]
    assert [directory.find(org.key_sha256) is not None for org in records] == [False, False, True, False, False]


def test_the_copy_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader at any moment sees the old copy or the new one, and a failed write leaves the old one."""
    snapshot = Snapshot(str(tmp_path))
    states = [[org_of(f"org-{n}", f"key {n}", n) for n in range(count)] for count in (1, 400)]
    snapshot.save(states[0])
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(len(snapshot.load()))

    with ThreadPoolExecutor(1) as readers:
        reading = readers.submit(read)
        for number in range(100):
            snapshot.save(states[number % 2])
        done.set()
        reading.result()
    assert set(seen) <= {1, 400}
    snapshot.save(states[0])
    (tmp_path / "registry.partial").mkdir()
    with pytest.raises(OSError, match="directory"):
        snapshot.save(states[1])
    assert snapshot.load() == states[0]


def test_the_copy_without_a_directory(tmp_path: Path) -> None:
    """No state directory: nothing is loaded or saved. A path that cannot be one is a fault of the setting."""
    snapshot = Snapshot("")
    snapshot.save([org_of("a", "key", 1)])
    assert snapshot.load() == []
    assert Snapshot(str(tmp_path / "new" / "deep")).load() == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsFault, match=r"^LECTR_STATE_DIR="):
        Snapshot(str(tmp_path / "file" / "state"))


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
    assert authenticate("lc_key_right", known).org == "acme"
    require_enabled(authenticate("lc_key_right", known))
    with pytest.raises(faults.OrgDisabled, match="off is disabled"):
        require_enabled(authenticate("lc_key_off", known))


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
        authenticate(key, known)
    assert key not in refused.value.message or key == "right"


@pytest.mark.parametrize("key", [None, ""])
def test_no_key(known: Directory, key: str | None) -> None:
    """No key at all is told apart from a wrong one."""
    with pytest.raises(faults.MissingKey):
        authenticate(key, known)


def together(*changes: Callable[[], Any]) -> list[Any]:
    """Run all at once; their results."""
    barrier = threading.Barrier(len(changes))

    def run(change: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return change()

    with ThreadPoolExecutor(len(changes)) as threads:
        return [future.result() for future in [threads.submit(run, change) for change in changes]]


@pytest.fixture
def writer(site: Site) -> Iterator[Writer]:
    made = Writer(SecretUrl(site.redis_url))
    yield made
    made.close()


def test_concurrent_writers_lose_nothing(site: Site, writer: Writer) -> None:
    """Twelve writers at once, each with organisations of its own: all are there, each with a version of its own."""

    def write(number: int) -> Callable[[], None]:
        def change() -> None:
            own = Writer(SecretUrl(site.redis_url))
            try:
                for step in range(3):
                    own.create(f"org-{number}-{step}")
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


def test_concurrent_changes_of_one_org_all_count(site: Site, writer: Writer) -> None:
    """A rotation, a switch and an Azure endpoint at the same moment: none undoes another."""
    writer.create("busy")
    (rotated, key), _, _ = together(
        lambda: writer.rotate_key("busy"),
        lambda: writer.set_enabled("busy", enabled=False),
        lambda: writer.set_azure("busy", "https://busy.openai.azure.com", ""),
    )
    [org] = writer.orgs()
    assert org.key_sha256 == rotated.key_sha256 == hash_key(key)
    assert not org.enabled
    assert org.azure == Azure(endpoint="https://busy.openai.azure.com")


def test_only_one_of_two_creations_wins(writer: Writer) -> None:
    """The same name created twice at once: one key is shown, the other attempt is told that the name is taken."""

    def create() -> str:
        try:
            return writer.create("contested")[1]
        except RegistryFault as fault:
            return str(fault)

    results = sorted(together(create, create, create), key=lambda text: text.startswith(KEY_PREFIX))
    assert [result.startswith(KEY_PREFIX) for result in results] == [False, False, True]
    assert all("exists" in result for result in results[:2])
    assert writer.orgs()[0].key_sha256 == hash_key(results[2])


def test_versions_only_go_up(site: Site, writer: Writer) -> None:
    """Each change has a higher version than all before it, also when clocks are behind or Redis forgot."""
    first, _ = writer.create("a")
    ahead = first.version + 1_000_000
    with site.client() as client:
        client.set(VERSION_KEY, ahead)
        assert writer.set_enabled("a", enabled=False).version == ahead + 1
        assert writer.create("b")[0].version == ahead + 2
        client.flushall()
    assert writer.create("a")[0].version > first.version
