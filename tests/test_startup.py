"""What goes wrong at start is said in one line that names the setting and the fix; nothing ends in a stack trace."""

import socket
import subprocess
from pathlib import Path

import pytest

from ingestor.__main__ import _named
from ingestor.faults import Action, ClickHouseFault
from tests.parts import (
    ROOT,
    Gateway,
    Ingestor,
    clean_environ,
    fetch,
    free_port,
    python,
    running,
    start_clickhouse,
    wait_until,
)
from tests.registry_operator import mark_whole


def run(*arguments: str, **settings: str) -> tuple[int, str]:
    """Run a process that is expected to end by itself; exit code and everything it said."""
    done = subprocess.run(
        python(*arguments),
        cwd=ROOT,
        env=clean_environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def taken() -> socket.socket:
    """A port that somebody listens on."""
    return socket.create_server(("127.0.0.1", 0))


BAD_SETTINGS = [
    ("gateway", "LECTR_REDIS_URL", "http://127.0.0.1"),
    ("gateway", "LECTR_REDIS_URL", "nonsense"),
    ("gateway", "LECTR_LISTEN", "8080"),
    ("gateway", "LECTR_LISTEN", "127.0.0.1:99999"),
    ("gateway", "LECTR_MAX_BODY_BYTES", "two"),
    ("gateway", "LECTR_MAX_BODY_BYTES", "-1"),
    ("gateway", "LECTR_LOG_LEVEL", "loud"),
    ("gateway", "LECTR_UPSTREAM_OPENAI", "api.openai.com"),
    ("gateway", "LECTR_UPSTREAM_CA_FILE", "/nowhere.pem"),
    ("gateway", "LECTR_NO_SUCH_SETTING", "1"),
    ("ingestor", "LECTR_CLICKHOUSE_URL", "nonsense"),
    ("ingestor", "LECTR_CLICKHOUSE_URL", "ftp://127.0.0.1/lectr"),
    ("ingestor", "LECTR_REDIS_URL", "nonsense"),
    ("ingestor", "LECTR_BATCH_MAX_EVENTS", "0"),
    ("ingestor", "LECTR_NO_SUCH_SETTING", "1"),
    ("dashboard org list", "LECTR_REDIS_URL", "nonsense"),
]


@pytest.mark.parametrize(("process", "name", "value"), BAD_SETTINGS, ids=lambda value: str(value).replace("/", "_"))
def test_bad_setting(process: str, name: str, value: str) -> None:
    """A setting that cannot be used ends the process with a line that names it."""
    needed = {} if name == "LECTR_CLICKHOUSE_URL" else {"LECTR_CLICKHOUSE_URL": "http://127.0.0.1:1/lectr"}
    ops = {} if process.startswith("dashboard") else {"LECTR_OPS_LISTEN": "127.0.0.1:0"}
    code, said = run(*process.split(), **{**needed, **ops, name: value})
    assert code != 0
    assert name in said
    assert "Traceback" not in said


@pytest.mark.parametrize("process", ["gateway", "ingestor"])
def test_password_in_a_bad_url_is_not_shown(process: str) -> None:
    """A URL that is refused does not show the password in it."""
    code, said = run(
        process, LECTR_REDIS_URL="http://user:hunter2-secret@127.0.0.1", LECTR_CLICKHOUSE_URL="http://h/lectr"
    )
    assert code != 0
    assert "hunter2" not in said


@pytest.mark.parametrize("process", ["gateway", "ingestor"])
def test_ops_port_taken(process: str, taken: socket.socket) -> None:
    """A port that is taken is named with its setting."""
    with taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = run(process, LECTR_OPS_LISTEN=address, LECTR_CLICKHOUSE_URL="http://127.0.0.1:1/lectr")
    assert code != 0
    assert "LECTR_OPS_LISTEN" in said
    assert "Traceback" not in said


def test_gateway_port_taken(redis_url: str, taken: socket.socket) -> None:
    """The gateway's own port too."""
    mark_whole(redis_url)
    with taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = run("gateway", LECTR_LISTEN=address, LECTR_OPS_LISTEN="127.0.0.1:0", LECTR_REDIS_URL=redis_url)
    assert code == 2
    assert "LECTR_LISTEN" in said
    assert "choose another" in said
    assert "Traceback" not in said


def test_gateway_waits_for_redis(tmp_path: Path) -> None:
    """No Redis at the URL: the gateway says which setting, is not ready, and does not pretend to serve."""
    gateway = Gateway(
        tmp_path, f"redis://:hunter2-secret@127.0.0.1:{free_port()}/0", {}, LECTR_OPS_LISTEN=(ops := local())
    )
    with running(gateway):
        line = gateway.line_with("redis_unavailable")
        assert "LECTR_REDIS_URL" in line
        status, body = fetch(f"http://{ops}/readyz")
        assert status == 503
        assert b"LECTR_REDIS_URL" in body
        assert "listening" not in gateway.output
        assert "hunter2" not in gateway.output
        assert "Traceback" not in gateway.output


def local() -> str:
    return f"127.0.0.1:{free_port()}"


def test_ingestor_waits_for_clickhouse(tmp_path: Path, redis_url: str) -> None:
    """No ClickHouse at the URL: the ingestor names the setting, is not ready, keeps trying, and hides the password."""
    url = f"http://lectr:hunter2-secret@127.0.0.1:{free_port()}"
    ingestor = Ingestor(tmp_path, redis_url, url, LECTR_OPS_LISTEN=(ops := local()))
    with running(ingestor):
        wait_until(lambda: "LECTR_CLICKHOUSE_URL" in ingestor.output)
        status, body = wait_until(lambda: fetch(f"http://{ops}/readyz"))
        assert status == 503
        assert b"ClickHouse" in body or b"LECTR_CLICKHOUSE_URL" in body
        assert ingestor.process.poll() is None
        assert "hunter2" not in ingestor.output + body.decode()
        assert "Traceback" not in ingestor.output


def test_migrate_without_clickhouse() -> None:
    """`migrate` needs ClickHouse now: it says so and fails."""
    code, said = run("ingestor", "migrate", LECTR_CLICKHOUSE_URL=f"http://127.0.0.1:{free_port()}/lectr")
    assert code != 0
    assert "LECTR_CLICKHOUSE_URL" in said or "ClickHouse" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "name", "scheme", "fix"),
    [
        ("migrate", "LECTR_CLICKHOUSE_URL", "http", "start ClickHouse there, or correct the address"),
        ("rollup", "LECTR_CLICKHOUSE_URL", "http", "start ClickHouse there, or correct the address"),
        ("dead-letters", "LECTR_REDIS_URL", "redis", "see that Redis runs there"),
        ("redrive", "LECTR_REDIS_URL", "redis", "see that Redis runs there"),
        ("redrive", "LECTR_REDIS_URL", "redis+cluster", "see that Redis runs there"),
        ("redrive", "LECTR_REDIS_URL", "redis+sentinel", "see that Redis runs there"),
    ],
)
def test_a_command_without_its_server(command: str, name: str, scheme: str, fix: str) -> None:
    """One line with the setting, its value without the password, and what to do; exit code 2."""
    address = f"127.0.0.1:{free_port()}"
    path = {"http": "/lectr", "redis+sentinel": "/service/0"}.get(scheme, "")
    code, said = run("ingestor", command, **{name: f"{scheme}://user:hunter2-secret@{address}{path}"})
    assert code == 2
    assert said.startswith(f"lectr ingestor: {name}={scheme}://***@{address}{path}: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert fix in said
    assert "hunter2" not in said
    assert "object at 0x" not in said


@pytest.mark.parametrize("refused", [None, 516], ids=["no answer", "wrong password"])
def test_a_refused_password_is_no_missing_server(refused: int | None) -> None:
    """The fix that is named is that of the fault."""
    said = _named(ClickHouseFault("http://***@h: refused", action=Action.STOP, code=refused))
    assert ("correct user and password" in said) is (refused is not None)
    assert ("start ClickHouse" in said) is (refused is None)


def test_ingestor_without_migrations_says_what_to_run(tmp_path: Path, redis_url: str) -> None:
    """An empty database: the ingestor names the command that makes the tables."""
    clickhouse, url = start_clickhouse(tmp_path)
    with running(clickhouse):
        ingestor = Ingestor(tmp_path, redis_url, url)
        with running(ingestor):
            wait_until(lambda: "migrate" in ingestor.output)
            assert "Traceback" not in ingestor.output
