"""When Redis, a push, a record or the copy on disk is lost or broken: a running gateway serves on."""

import json
import os
import re
import resource
import signal
import stat
import threading
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from gateway.snapshot import Snapshot
from shared.environment import SettingsFault
from shared.registry import (
    CHANGES_CHANNEL,
    KEY_PREFIX,
    ORGS_KEY,
    VERSION_KEY,
    decode_org,
    encode_org,
    hash_key,
)
from tests.mock_process import MockProcess, mock_process
from tests.parts import admin, fetch, free_port, wait_until
from tests.registry_operator import empty
from tests.registry_site import NEVER_S, Site, ask, metric, org_of, ready, sites, until_status, wait_polls


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    """For tests that break something."""
    with sites(tmp_path, mock) as made:
        yield made


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
    """After FLUSHALL a running gateway serves on and gives back what it knows; what is made afterwards joins that."""
    key = site.create("remembered")
    gateway = site.start(LECTR_REGISTRY_POLL_S="0.1").wait()
    empty(site.redis_url)
    wait_polls(gateway)
    assert ask(gateway, key) == 200
    newer = site.create("newer")
    until_status(gateway, newer, 200, "create after FLUSHALL")
    assert {one["org"] for one in admin(site.redis_url, "org", "list")} == {"remembered", "newer"}
    again = admin(site.redis_url, "org", "rotate-key", "remembered")["key"]
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
    path = site.directory / "gateway" / "state" / "registry.jsonl"
    rotated = admin(site.redis_url, "org", "rotate-key", "copied")["key"]
    wait_until(lambda: hash_key(rotated) in path.read_text())
    assert not re.search(KEY_PREFIX + "[A-Za-z0-9_-]{7,}", path.read_text()), "more than people recognise it by"
    [kept] = Snapshot(str(path.parent)).load()
    assert (kept.org, [one.sha256 for one in kept.keys]) == ("copied", [hash_key(rotated)])
    assert hash_key(key) != hash_key(rotated)
    assert sorted(found.name for found in path.parent.iterdir()) == ["journal", "registry.jsonl"]
    assert ask(gateway, rotated) == 200


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"org": "\xff"}', b"\xff", b"\x00" * 4096])
def test_an_unreadable_copy_stops_nothing(site: Site, content: bytes) -> None:
    """A copy that is not ours is named in the log with what to do; Redis has it all, and the gateway serves."""
    state = site.directory / "gateway" / "state"
    state.mkdir(parents=True)
    (state / "registry.jsonl").write_bytes(content)
    gateway = site.start().wait()
    until_status(gateway, site.create("served"), 200, "create")
    assert re.search(
        r"Redis has these records.* delete .*registry\.jsonl", gateway.line_with("registry_copy_unreadable")
    )
    assert "Traceback" not in gateway.output


def test_a_copy_that_cannot_be_written_stops_nothing(site: Site) -> None:
    """When the state directory cannot be written to, that is logged, and changes take effect nevertheless."""
    blocker = site.directory / "gateway" / "state" / "registry.jsonl" / "in the way"
    blocker.mkdir(parents=True)
    gateway = site.start().wait()
    until_status(gateway, site.create("unkept"), 200, "create")
    assert gateway.line_with("registry_copy_not_written")


def test_a_copy_that_could_not_be_written_is_written_later(site: Site) -> None:
    """What the disk refused is not forgotten: once it takes something again, it takes that too."""
    blocker = site.directory / "gateway" / "state" / "registry.jsonl"
    blocker.mkdir(parents=True)
    gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    until_status(gateway, site.create("refused"), 200, "create")
    gateway.line_with("registry_copy_not_written")
    blocker.rmdir()
    until_status(gateway, site.create("taken"), 200, "create")
    wait_until(lambda: {org.org for org in Snapshot(str(blocker.parent)).load()} == {"refused", "taken"})
    gateway.line_with("registry_copy_written")


def test_a_disk_that_hangs_holds_up_no_change(site: Site) -> None:
    """While a write of the copy does not come back, changes are obeyed as ever."""
    gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    key = site.create("first")
    until_status(gateway, key, 200, "create")
    copy = site.directory / "gateway" / "state" / "registry.jsonl"
    wait_until(lambda: copy.exists() and b"first" in copy.read_bytes())
    copy.unlink()
    # Who opens it to write waits for somebody who reads.
    os.mkfifo(copy)
    for name in ("second", "third"):
        until_status(gateway, site.create(name), 200, f"{name}, while the disk hangs")
    gateway.kill()


def test_a_directory_without_state_dir(site: Site) -> None:
    """Without LECTR_STATE_DIR nothing is kept on disk, and the registry works all the same."""
    gateway = site.start(LECTR_STATE_DIR="").wait()
    until_status(gateway, site.create("stateless"), 200, "create")
    assert not (site.directory / "gateway" / "state").exists()


def test_the_copy_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader at any moment sees the old copy or the new one, and a failed write leaves the old one."""
    snapshot = Snapshot(str(tmp_path))
    states = [[org_of(f"org-{n}", f"key {n}", n) for n in range(count)] for count in (1, 400)]
    snapshot.rewrite(states[0])
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(len(snapshot.load()))

    with ThreadPoolExecutor(1) as readers:
        reading = readers.submit(read)
        for number in range(100):
            snapshot.rewrite(states[number % 2])
        done.set()
        reading.result()
    assert set(seen) <= {1, 400}
    snapshot.rewrite(states[0])
    (tmp_path / f"registry.{os.getpid()}.partial").mkdir()
    with pytest.raises(OSError, match="directory"):
        snapshot.rewrite(states[1])
    assert snapshot.load() == states[0]


def test_changes_are_appended_to_the_copy(tmp_path: Path) -> None:
    """What changed is added to the file, and the highest version of each organisation is read back, in any order."""
    snapshot = Snapshot(str(tmp_path))
    snapshot.rewrite([org_of(f"org-{n}", f"key {n}", n) for n in range(3)])
    snapshot.append([org_of("org-1", "newer", 9), org_of("org-2", "older", 1)])
    Snapshot(str(tmp_path)).append([org_of("org-3", "key 3", 3)])
    kept = {(org.org, org.version) for org in Snapshot(str(tmp_path)).load()}
    assert kept == {("org-0", 0), ("org-1", 9), ("org-2", 2), ("org-3", 3)}


def test_a_torn_copy_costs_one_record(tmp_path: Path) -> None:
    """A power cut leaves half a line: the others are read, and what is added later does not continue it."""
    snapshot = Snapshot(str(tmp_path))
    snapshot.append([org_of("whole", "key 1", 1), org_of("torn", "key 2", 2)])
    path = tmp_path / "registry.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = Snapshot(str(tmp_path))
    assert [org.org for org in again.load()] == ["whole"]
    assert again.unreadable == 1
    again.append([org_of("later", "key 3", 3)])
    assert [org.org for org in Snapshot(str(tmp_path)).load()] == ["whole", "later"]


def test_a_full_disk_costs_one_line(tmp_path: Path) -> None:
    """A write that the disk breaks off is reported, and what is added later begins a line of its own."""
    snapshot, path = Snapshot(str(tmp_path)), tmp_path / "registry.jsonl"
    snapshot.append([org_of("whole", "key 1", 1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            snapshot.append([org_of("broken-off", "key 2", 2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    snapshot.append([org_of("later", "key 3", 3)])
    again = Snapshot(str(tmp_path))
    assert [org.org for org in again.load()] == ["whole", "later"]
    assert (again.unreadable, again.first_unreadable) == (1, 2)


def test_the_copy_does_not_grow_for_ever(tmp_path: Path) -> None:
    """Changes of the same organisation, over and over: once most of the file is outdated it is made anew."""
    snapshot = Snapshot(str(tmp_path))
    changes = 0
    while not snapshot.outdated:
        snapshot.append([org_of("busy", f"key {changes + n}", changes + n) for n in range(500)])
        changes += 500
        assert changes < 100_000
    snapshot.rewrite([org_of("busy", "last", changes)])
    assert not snapshot.outdated
    assert (tmp_path / "registry.jsonl").stat().st_size < 1_000


def test_a_copy_of_before(tmp_path: Path) -> None:
    """A gateway of an earlier release left an array of records with one key each: it is read, and replaced."""
    records = [{"org": "old", "key_sha256": hash_key("key"), "version": 7, "azure": {"endpoint": "https://a.example"}}]
    (tmp_path / "registry.json").write_text(json.dumps(records))
    [org] = (snapshot := Snapshot(str(tmp_path))).load()
    assert (org.keys[0].sha256, org.azure[0].endpoint) == (hash_key("key"), "https://a.example")
    snapshot.rewrite([org])
    assert not (tmp_path / "registry.json").exists()
    assert Snapshot(str(tmp_path)).load() == [org]


def test_the_copy_is_its_owners_alone(tmp_path: Path) -> None:
    """Made, appended to, replaced, or left open to others by an earlier release: nobody else may read it."""
    path = tmp_path / "registry.jsonl"

    def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    (snapshot := Snapshot(str(tmp_path))).append([org_of("a", "key", 1)])
    assert mode() == 0o600
    for use in (snapshot.load, lambda: snapshot.append([org_of("b", "key 2", 2)])):
        path.chmod(0o644)
        use()
        assert mode() == 0o600
    (tmp_path / f"registry.{os.getpid()}.partial").touch(0o644)
    snapshot.rewrite([org_of("a", "key", 1)])
    assert mode() == 0o600


def test_the_copy_without_a_directory(tmp_path: Path) -> None:
    """No state directory: nothing is loaded or saved. A path that cannot be one is a fault of the setting."""
    snapshot = Snapshot("")
    snapshot.rewrite([org_of("a", "key", 1)])
    assert snapshot.load() == []
    assert Snapshot(str(tmp_path / "new" / "deep")).load() == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsFault, match=r"^LECTR_STATE_DIR="):
        Snapshot(str(tmp_path / "file" / "state"))
