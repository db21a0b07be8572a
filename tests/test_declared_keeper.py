"""The file that declares the registry, kept by a process: what it says is so, whatever happens to file and registry."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from dashboard.declared.keeper import FileKeeper
from dashboard.registry import Registry
from shared import counters
from shared.environment import SecretUrl
from shared.registry import COMPLETE_KEY, LOG_KEY, new_key
from tests.declared_site import records
from tests.parts import Part, running, start_redis, wait_until
from tests.registry_operator import Operator, empty, mark_whole

ONE_ORG = "orgs: {acme: {limits: {body_bytes: 1}}}"
TWO_ORGS = "orgs: {acme: {limits: {body_bytes: 2}}, beta: {}}"


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, url = start_redis(tmp_path_factory.mktemp("keeper"))
    with running(part):
        yield url


@pytest.fixture
def url(own_redis: str) -> str:
    """An empty registry."""
    empty(own_redis)
    return own_redis


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "orgs.yaml"
    made.write_text(ONE_ORG)
    return made


@pytest.fixture
def keeper(url: str, file: Path) -> Iterator[FileKeeper]:
    registry = Registry(SecretUrl(url), actor="dashboard")
    yield FileKeeper(registry, str(file))
    registry.close()


@pytest.fixture
def operator(url: str) -> Iterator[Operator]:
    made = Operator(url)
    yield made
    made.close()


def looks(outcome: str) -> float:
    return counters.registry.get_sample_value("lectr_dashboard_registry_file_looks_total", {"outcome": outcome}) or 0.0


def faulty() -> float | None:
    return counters.registry.get_sample_value("lectr_dashboard_registry_file_faulty")


def twice(keeper: FileKeeper) -> None:
    """One look sees that a file is another one, the next that it stays so."""
    keeper.look()
    keeper.look()


def body_bytes(url: str) -> dict[str, Any]:
    return {name: org.limits.body_bytes for name, org in records(url).items() if org.enabled}


def test_the_file_is_applied_at_start_and_when_it_changes(keeper: FileKeeper, url: str, file: Path) -> None:
    """The registry becomes what the file says; what it declares no more is disabled; the log says who did it."""
    assert not keeper.kept
    twice(keeper)
    assert (keeper.kept, keeper.fault) == (True, None)
    assert body_bytes(url) == {"acme": 1}
    file.write_text(TWO_ORGS)
    twice(keeper)
    assert body_bytes(url) == {"acme": 2, "beta": None}
    file.write_text("orgs: {beta: {}}")
    twice(keeper)
    assert body_bytes(url) == {"beta": None}
    with Redis.from_url(url, decode_responses=True) as client:
        entries: Any = client.xrange(LOG_KEY)
    assert {fields["actor"] for _, fields in entries} == {"file:orgs.yaml"}


def test_half_a_file_is_not_taken(keeper: FileKeeper, url: str, file: Path) -> None:
    """While a file is being written it is left alone: half of it may read as a whole one with fewer organisations."""
    file.write_text("orgs:\n  acme: {}\n  beta: {}\n")
    twice(keeper)
    file.write_text("orgs:\n  acme: {}\n")
    keeper.look()
    file.write_text("orgs:\n  acme: {}\n  beta: {}\n  gamma: {}\n")
    keeper.look()
    assert set(body_bytes(url)) == {"acme", "beta"}
    keeper.look()
    assert set(body_bytes(url)) == {"acme", "beta", "gamma"}
    assert records(url)["beta"].enabled


def test_a_mounted_configmap(keeper: FileKeeper, url: str, tmp_path: Path) -> None:
    """A file behind links that are exchanged, as Kubernetes mounts it, is seen to be another one, and to be gone."""
    mount = tmp_path / "mount"
    for name, text in (("..one", ONE_ORG), ("..two", TWO_ORGS)):
        (mount / name).mkdir(parents=True)
        (mount / name / "orgs.yaml").write_text(text)
        os.utime(mount / name / "orgs.yaml", ns=(0, 0))
    (mount / "..data").symlink_to("..one")
    (mount / "orgs.yaml").symlink_to("..data/orgs.yaml")
    registry = Registry(SecretUrl(url), actor="dashboard")
    try:
        mounted = FileKeeper(registry, str(mount / "orgs.yaml"))
        twice(mounted)
        assert body_bytes(url) == {"acme": 1}
        (mount / "..new").symlink_to("..two")
        (mount / "..new").replace(mount / "..data")
        twice(mounted)
        assert body_bytes(url) == {"acme": 2, "beta": None}
        (mount / "..data").unlink()
        twice(mounted)
        assert str(mounted.fault).endswith("it cannot be read: No such file or directory")
        assert body_bytes(url) == {"acme": 2, "beta": None}
    finally:
        registry.close()


SECRET = new_key()
FAULTS = ["", "orgs: {}", "orgs: {acme: {limits: 5}, Beta: {}}", f"orgs: {{acme: {{{SECRET}: 1}}}}", "\x00", "orgs: ["]


@pytest.mark.parametrize("text", FAULTS)
def test_a_faulty_file_changes_nothing(keeper: FileKeeper, url: str, file: Path, text: str) -> None:
    """It is counted, logged once for each content, and to be read; what the last good one said goes on being kept."""
    twice(keeper)
    before, counted = records(url), looks("faulty")
    with capture_logs() as logs:
        file.write_text(text)
        twice(keeper)
        twice(keeper)
        file.write_text(text)
        twice(keeper)
    assert [(log["event"], log["log_level"]) for log in logs] == [("registry_file_faulty", "error")]
    assert looks("faulty") >= counted + 1
    assert (faulty(), keeper.kept) == (1, True)
    assert all(line.startswith(f"{file}: ") or "declared" in line for line in str(keeper.fault).splitlines())
    assert SECRET not in str(logs) + str(keeper.fault)
    assert records(url) == before
    with capture_logs() as logs:
        file.write_text(TWO_ORGS)
        twice(keeper)
    assert [log["event"] for log in logs] == ["registry_file_good_again", "registry_file_applied"]
    assert (faulty(), keeper.fault) == (0, None)
    assert body_bytes(url) == {"acme": 2, "beta": None}


def test_a_faulty_file_at_the_start(keeper: FileKeeper, operator: Operator, url: str, file: Path) -> None:
    """Nothing is kept until a file is good; that is to be seen."""
    operator.create_org("other")
    file.unlink()
    twice(keeper)
    assert not keeper.kept
    assert str(keeper.fault) == f"{file}: it cannot be read: No such file or directory"
    assert set(body_bytes(url)) == {"other"}
    file.write_text(ONE_ORG)
    twice(keeper)
    assert (keeper.kept, keeper.fault) == (True, None)
    assert set(body_bytes(url)) == {"acme"}


def test_the_registry_is_compared(
    keeper: FileKeeper, operator: Operator, url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a Redis forgot, or somebody changed past the file, is put right at the next comparison, a minute at most."""
    monkeypatch.setattr("dashboard.declared.keeper._COMPARE_EVERY_S", 0.0)
    twice(keeper)
    empty(url)
    file.write_text("orgs: [")
    twice(keeper)
    assert keeper.fault is not None
    assert body_bytes(url) == {"acme": 1}, "also while the file is faulty"
    operator.set_enabled("acme", enabled=False)
    operator.create_org("other")
    counted = looks("changed"), looks("unchanged")
    twice(keeper)
    assert body_bytes(url) == {"acme": 1}
    assert (looks("changed"), looks("unchanged")) == (counted[0] + 1, counted[1] + 1)


def test_a_file_fills_a_redis_that_nobody_else_fills(
    keeper: FileKeeper, url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log gets its time; then what the file says is there, and marked as whole, so that new gateways take it."""
    with Redis.from_url(url) as client:
        client.flushall()
        twice(keeper)
        assert "Redis lacks the mark" in str(keeper.fault)
        assert (keeper.kept, records(url)) == (False, {})
        monkeypatch.setattr("dashboard.declared.keeper._INCOMPLETE_S", 0.0)
        twice(keeper)
        assert (keeper.kept, keeper.fault, body_bytes(url)) == (True, None, {"acme": 1})
        mark = client.get(COMPLETE_KEY)
        assert mark
        twice(keeper)
        assert client.get(COMPLETE_KEY) == mark


def test_between_comparisons_nothing_is_asked(keeper: FileKeeper, url: str) -> None:
    """A look at a file that stays as it is costs Redis nothing."""
    twice(keeper)
    counted = looks("unchanged") + looks("changed")
    with Redis.from_url(url) as client:
        client.flushall()
    twice(keeper)
    assert looks("unchanged") + looks("changed") == counted
    assert records(url) == {}


def test_redis_away(tmp_path: Path, file: Path) -> None:
    """It is told once and counted; the first look that finds a Redis again applies the file."""
    part, url = start_redis(tmp_path / "redis")
    mark_whole(url)
    registry = Registry(SecretUrl(url), actor="dashboard")
    keeper = FileKeeper(registry, str(file))
    part.kill()
    started: list[Part] = []
    try:
        counted = looks("unavailable")
        with capture_logs() as logs:
            twice(keeper)
            twice(keeper)
        assert [log["event"] for log in logs] == ["registry_file_not_applied"]
        assert looks("unavailable") == counted + 3
        assert "does not answer" in str(keeper.fault)
        assert not keeper.kept
        started.append(start_redis(tmp_path / "redis", int(url.rpartition(":")[2].partition("/")[0]))[0])
        keeper.look()
        assert (keeper.kept, keeper.fault) == (True, None)
        assert body_bytes(url) == {"acme": 1}
    finally:
        registry.close()
        for again in started:
            again.kill()


def test_a_record_that_cannot_be_read(keeper: FileKeeper, url: str) -> None:
    """A registry in which one record is broken is not touched, and the record is named."""
    with Redis.from_url(url) as client:
        client.hset("lectr:registry:orgs", "broken", b"{}")
        counted = looks("refused")
        twice(keeper)
        assert "org 'broken': registry record unreadable" in str(keeper.fault)
        assert looks("refused") == counted + 1
        assert client.hlen("lectr:registry:orgs") == 1


def test_warnings_are_logged(keeper: FileKeeper, file: Path) -> None:
    """What the file says and may not mean is logged once for each content."""
    file.write_text("orgs: {acme: {rules: [{name: a, target: {model: x}}, {name: b, model: y, target: {model: z}}]}}")
    with capture_logs() as logs:
        twice(keeper)
        twice(keeper)
    assert [log["event"] for log in logs] == ["registry_file_warning", "registry_file_applied"]
    assert "rule 'b' never applies" in logs[0]["detail"]


async def test_it_runs_until_it_is_cancelled(
    keeper: FileKeeper, url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a task of a process it follows the file; cancelled, it ends, and no thread works on."""
    monkeypatch.setattr("dashboard.declared.keeper._TICK_S", 0.01)
    task = asyncio.get_running_loop().create_task(keeper.run())
    await seen(lambda: body_bytes(url) == {"acme": 1})
    await asyncio.to_thread(file.write_text, TWO_ORGS)
    await seen(lambda: body_bytes(url) == {"acme": 2, "beta": None})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_long_apply_ends_between_two_changes(
    keeper: FileKeeper, url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops waits for the change that is being made, not for thousands."""
    monkeypatch.setattr("dashboard.declared.keeper._TICK_S", 0.01)
    await asyncio.to_thread(file.write_text, json.dumps({"orgs": {f"org-{number}": {} for number in range(3_000)}}))
    task = asyncio.get_running_loop().create_task(keeper.run())
    await seen(lambda: len(records(url)) > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < len(records(url)) < 3_000


async def seen(look: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, look)
