"""The ClickHouse door as a process: starting, credentials, stopping, crashing, coming back."""

import base64
import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.door_process import DoorProcess
from tests.parts import ROOT, clean_environ, python, running, wait_until

PASSWORD = "pass:wörd 'x'"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    """A door with a user and a password."""
    directory = tmp_path_factory.mktemp("locked")
    (directory / "password").write_text(PASSWORD + "\n")
    door = DoorProcess(directory, "--user", "lectr", "--password-file", str(directory / "password"))
    with running(door.part):
        yield door


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = python("deploy.local.clickhouse", *arguments)
    return subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, check=False, timeout=60
    )


def test_credentials_in_every_form(locked: DoorProcess) -> None:
    """Basic, ClickHouse's own headers and parameters all let the user in."""
    keys = {"X-ClickHouse-User": "lectr", "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")}
    assert locked.ask("SELECT 1", headers=basic("lectr", PASSWORD)).status == 200
    assert locked.ask("SELECT 1", user="lectr", password=PASSWORD).status == 200
    assert locked.ask("SELECT 1", headers=keys).status == 200
    assert locked.ask(method="GET", path="/ping").status == 200


def test_wrong_credentials(locked: DoorProcess) -> None:
    """Anything else gets 516, a browser is asked for a password, and nothing sent shows up in the log."""
    refused = [
        locked.ask("SELECT 1", headers=basic("lectr", "wrong-password-in-log")),
        locked.ask("SELECT 1", headers=basic("other", PASSWORD)),
        locked.ask("SELECT 1", headers={"Authorization": "Basic !!"}),
        locked.ask("SELECT 1", headers={"Authorization": "Bearer x"}),
        locked.ask("SELECT 1", user="lectr"),
        locked.ask("SELECT 1", headers={"X-ClickHouse-User": "lectr", "X-ClickHouse-Key": "é"}),
    ]
    assert {(reply.code, reply.status) for reply in refused} == {(516, 403)}
    asked = locked.ask("SELECT 1")
    assert (asked.code, asked.status) == (516, 401)
    assert asked.headers["WWW-Authenticate"].startswith("Basic ")
    assert "password-in-log" not in locked.part.output
    assert PASSWORD not in locked.part.output


def test_bad_options(tmp_path: Path) -> None:
    """What a person must fix is one line on stderr naming it, exit code 2, no traceback."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    file = tmp_path / "file"
    file.write_text("x")
    taken = socket.create_server(("127.0.0.1", 0))
    data = str(tmp_path / "d")
    cases = {
        "--password-file": ("--data", data, "--listen", "0.0.0.0:0"),
        "expected HOST:PORT": ("--data", data, "--listen", "nonsense"),
        "is empty": ("--data", data, "--password-file", str(empty)),
        "No such file": ("--data", data, "--password-file", str(tmp_path / "none")),
        "choose another with --data": ("--data", str(file / "below")),
        "choose another with --listen": ("--data", data, "--listen", f"127.0.0.1:{taken.getsockname()[1]}"),
    }
    for words, arguments in cases.items():
        done = run(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    taken.close()
    assert run("--nonsense").returncode == 2


def test_one_process_per_data_directory(tmp_path: Path) -> None:
    """A second door on the same data says so and ends; the first goes on."""
    door = DoorProcess(tmp_path)
    with running(door.part):
        second = run("--data", str(tmp_path / "store"), "--listen", "127.0.0.1:0")
        assert second.returncode == 2
        assert "in use by another process" in second.stderr
        assert "Traceback" not in second.stderr
        assert door.select("SELECT 1") == "1"


def test_stop_finishes_running_requests(tmp_path: Path) -> None:
    """SIGTERM lets a running request end, then the process ends with 0, having printed one line."""
    door = DoorProcess(tmp_path)
    with running(door.part), ThreadPoolExecutor(1) as pool:
        slow = pool.submit(door.select, "SELECT sleep(3), 'slow'")
        wait_until(
            lambda: "slow" in door.select("SELECT query FROM system.processes WHERE query LIKE '%sleep(3)%slow%'")
        )
        assert door.part.terminate() == 0
        assert slow.result() == "0\tslow"
    assert len(door.part.output.splitlines()) == 1, door.part.output


def test_stop_cancels_what_takes_too_long(tmp_path: Path) -> None:
    """A query that would run for minutes does not keep the process."""
    door = DoorProcess(tmp_path)
    with running(door.part), ThreadPoolExecutor(1) as pool:
        endless = pool.submit(door.ask, "SELECT sum(sipHash64(number)) FROM numbers(90000000000)")
        wait_until(
            lambda: "sipHash" in door.select("SELECT query FROM system.processes WHERE query LIKE '%sipHash64%'")
        )
        assert door.part.terminate(deadline_s=15) == 0
        try:
            assert endless.result().code == 394
        except (http.client.HTTPException, ConnectionError):
            assert "Traceback" not in door.part.output


def test_kill_and_restart_keeps_data_and_tokens(tmp_path: Path) -> None:
    """After SIGKILL the door opens again at once: rows are there, and a token seen before still inserts nothing."""
    door = DoorProcess(tmp_path)
    insert = {"query": "INSERT INTO lectr.raw FORMAT CSV", "insert_deduplication_token": "t1"}
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    with running(door.part):
        door.do(
            "CREATE DATABASE lectr",
            f"CREATE TABLE lectr.raw (a Int64) ENGINE = MergeTree ORDER BY a {window}",
            f"CREATE TABLE lectr.sums (k Int8, n UInt64) ENGINE = SummingMergeTree ORDER BY k {window}",
            "CREATE MATERIALIZED VIEW lectr.mv TO lectr.sums AS SELECT 0 AS k, count() AS n FROM lectr.raw GROUP BY k",
            "CREATE TABLE here (a Int64) ENGINE = MergeTree ORDER BY a",
            "INSERT INTO here VALUES (7)",
        )
        assert door.ask("1\n2\n3\n", insert).status == 200
        door.part.kill()
    again = DoorProcess(tmp_path)
    with running(again.part):
        assert again.select("SELECT a FROM here") == "7"
        assert again.ask("1\n2\n3\n", insert).status == 200
        assert again.select("SELECT (SELECT count() FROM lectr.raw), (SELECT sum(n) FROM lectr.sums)") == "3\t3"
        again.part.kill()
    with running(DoorProcess(tmp_path).part):
        pass


@pytest.mark.parametrize("ending", ["killed", "stopped"])
def test_restart_with_an_empty_default_database(tmp_path: Path, ending: str) -> None:
    """A door that was only used through another database opens again, however it ended."""
    for number in range(3):
        door = DoorProcess(tmp_path)
        with running(door.part):
            door.do("CREATE DATABASE IF NOT EXISTS lectr")
            assert door.select("SELECT count() FROM system.databases WHERE name IN ('default', 'lectr')") == "2", number
            if ending == "killed":
                door.part.kill()


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A query that wants more than the bound fails, and the door lives on."""
    door = DoorProcess(tmp_path, "--max-memory-mb", "512")
    with running(door.part):
        assert door.ask("SELECT length(groupArray(number)) FROM numbers(300000000)").code == 241
        assert door.select("SELECT 1") == "1"


def test_uploads_without_memory_files(tmp_path: Path) -> None:
    """Where the system has no anonymous memory files, rows pass through the data directory and leave nothing there."""
    start = "import os, sys; del os.memfd_create; from deploy.local.clickhouse.__main__ import main; main()"
    door = DoorProcess(tmp_path / "it's", command=[sys.executable, "-c", start])
    with running(door.part):
        door.do("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a", "INSERT INTO t FORMAT CSV\n1\n2")
        assert door.select("SELECT sum(a) FROM t") == "3"
        assert list((tmp_path / "it's" / "store" / "uploads").iterdir()) == []


def test_directory_with_odd_name(tmp_path: Path) -> None:
    """A data directory may have quotes, spaces and signs in its name."""
    door = DoorProcess(tmp_path / "it's a & dir? 100%")
    with running(door.part):
        door.do("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a", "INSERT INTO t FORMAT CSV\n1")
        assert door.select("SELECT * FROM t") == "1"
