"""Two admins at once, in processes and in threads, while Redis hangs and dies: no edit is lost, the log has each."""

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.organisation import Rule, Target
from shared.registry import LOG_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, decode_org
from tests.ingestor_process import EAGER, Stores, serving, stores_in
from tests.parts import Part, clean_environ, python, wait_until
from tests.registry_editor import edit_until_done
from tests.registry_operator import Operator

EDITS = 100
ADMINS = ("anna", "bert")


@pytest.fixture
def stores(tmp_path: Path, clickhouse_url: str) -> Iterator[Stores]:
    """With an ingestor that keeps the log."""
    with stores_in(tmp_path, clickhouse_url) as made, serving(made.ingestor(**EAGER)):
        yield made


def undisturbed(_: Stores) -> None:
    """Nothing happens."""


def hangs(stores: Stores) -> None:
    """Redis stops for a moment, and goes on."""
    stores.redis.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(0.5)
    stores.redis.process.send_signal(signal.SIGCONT)


def dies(stores: Stores) -> None:
    """Redis is killed, and started again with what it had written."""
    stores.redis.kill()
    stores.restart_redis()


def check(stores: Stores, made: dict[str, list[int]]) -> None:
    """Redis, its versions and the log in ClickHouse have every edit, in the order in which it was made."""
    client = stores.pusher.client
    record: Any = client.hget(ORGS_KEY, "acme")
    org = decode_org(record)
    assert sorted(rule.name for rule in org.rules) == sorted(f"{name}-{n}" for name in ADMINS for n in range(EDITS))
    wait_until(lambda: client.xlen(LOG_KEY) == 0)
    logged = stores.select("SELECT version, action, record FROM lectr.registry_log FINAL ORDER BY version")
    every = [int(row["version"]) for row in logged]
    assert len(set(every)) == len(every) == 1 + len(ADMINS) * EDITS, "each edit has a version of its own"
    for before, after in itertools.pairwise(logged):
        [added] = set(decode_org(after["record"]).rules) - set(decode_org(before["record"]).rules)
        assert after["action"] == f"put rule {added.name}"
    assert decode_org(logged[-1]["record"]) == org
    assert (org.version, int(client.get(VERSION_KEY) or 0)) == (every[-1], every[-1])
    assert client.zscore(VERSIONS_KEY, "acme") == every[-1]
    for versions in made.values():
        # Of an edit that is made again although it had been, the version may be that of the next one.
        assert versions == sorted(versions)
        assert set(versions) <= set(every)


@pytest.mark.parametrize("disturb", [undisturbed, hangs, dies])
def test_two_processes(stores: Stores, disturb: Callable[[Stores], None]) -> None:
    """A hundred edits of one organisation by each of two processes, and Redis away in between."""
    operator = Operator(stores.redis_url)
    operator.create_org("acme")
    operator.close()
    parts = {}
    for name in ADMINS:
        command = python("tests.registry_editor", stores.redis_url, "acme", name, str(EDITS))
        parts[name] = Part(name, command, clean_environ(), stores.directory / name)
    try:
        for done in (20, 60):
            wait_until(lambda least=done: all(len(part.output.split()) >= least for part in parts.values()))  # type: ignore[misc]
            disturb(stores)
        assert [part.process.wait(60) for part in parts.values()] == [0, 0]
    finally:
        for part in parts.values():
            part.kill()
    check(stores, {name: [int(line) for line in part.output.split()] for name, part in parts.items()})


def test_two_threads(stores: Stores) -> None:
    """The same of one process with a registry for each thread, on Redis that hangs and dies meanwhile."""
    first = Operator(stores.redis_url)
    first.create_org("acme")
    first.close()
    made: dict[str, list[int]] = {name: [] for name in ADMINS}

    def edit(name: str) -> None:
        operator = Operator(stores.redis_url)
        for number in range(EDITS):
            rule = Rule(name=f"{name}-{number}", target=Target(model="m"))
            made[name].append(edit_until_done(operator, "acme", rule))
        operator.close()

    with ThreadPoolExecutor(len(ADMINS)) as admins:
        editing = [admins.submit(edit, name) for name in ADMINS]
        for disturb, done in ((hangs, 10), (dies, 50)):
            wait_until(lambda least=done: all(len(versions) >= least for versions in made.values()))  # type: ignore[misc]
            disturb(stores)
        for one in editing:
            one.result(60)
    check(stores, made)
