"""The product's own processes for tests: each started, awaited, stopped and killed alone, on free ports."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from deploy.local.redis_server import find_server, server_command

ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0
PATIENCE_S = 60.0
"""How long a test waits for what should be there at once: a machine may be slow, and a fault is one a minute later."""
T = TypeVar("T")
_ASKING = {"remove", "rotate", "rotate-key"}
"""Commands that ask a person first; so do `org disable` and `key disable`."""


def clean_environ(**settings: str) -> dict[str, str]:
    """This process' environment without any LECTR_ variable, plus the given ones."""
    # Without bytecode files each of some hundred processes would compile the product again.
    dropped = ("LECTR_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}  # noqa: TID251 - children
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


def wait_until(look: Callable[[], T], *, deadline_s: float = PATIENCE_S, every_s: float = 0.02) -> T:
    """Poll until the look gives something true, and return it; AssertionError with the last look after the deadline."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {deadline_s} s; last seen: {seen!r}"
        pause.wait(every_s)
    return seen


def free_port() -> int:
    """A TCP port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Part:
    """A running process whose output goes to a log file."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], log_dir: Path, root: Path = ROOT
    ) -> None:
        self.name = name
        log_dir.mkdir(parents=True, exist_ok=True)
        self.log = log_dir / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=root, env=dict(environ), stdout=output, stderr=output)

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def line_with(self, marker: str, deadline_s: float = START_S) -> str:
        """Wait for a printed line that contains the marker."""

        def look() -> str:
            ended = self.process.poll() is not None
            found = next((line for line in self.output.splitlines() if marker in line), "")
            assert found or not ended, f"{self.name} ended with {self.process.returncode}: {self.output[-2000:]}"
            return found

        return wait_until(look, deadline_s=deadline_s)

    def url_in(self, marker: str) -> str:
        """The first URL in the line with the marker."""
        found = re.search(r"https?://[^\s()]+", self.line_with(marker))
        assert found
        return found[0]

    def terminate(self, deadline_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def running(part: Part) -> Iterator[Part]:
    """Stop the part at the end, whatever happened."""
    try:
        yield part
    finally:
        try:
            part.terminate()
        finally:
            part.kill()


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def start_redis(directory: Path, port: int | None = None) -> tuple[Part, str]:
    """A real Redis server as the laptop stack starts it; the part and its URL."""
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    command = server_command(find_server(), port=port, data_dir=directory)
    part = Part("redis", command, clean_environ(), directory / "logs")
    part.line_with("Ready to accept connections")
    return part, f"redis://127.0.0.1:{port}/0"


def start_clickhouse(directory: Path, port: int = 0) -> tuple[Part, str]:
    """The ClickHouse engine behind its HTTP door; the part and its URL."""
    arguments = ("--data", str(directory / "store"), "--listen", f"127.0.0.1:{port}")
    part = Part("clickhouse", python("deploy.local.clickhouse", *arguments), clean_environ(), directory / "logs")
    return part, part.url_in("listening on")


def migrate(clickhouse_url: str, root: Path = ROOT) -> None:
    """Bring the database up to date, as the release in `root` has it."""
    environ = clean_environ(LECTR_CLICKHOUSE_URL=f"{clickhouse_url}/lectr")
    subprocess.run(python("ingestor", "migrate"), cwd=root, env=environ, check=True, timeout=60, capture_output=True)


def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command of the product run to its end, with these settings alone."""
    environ = clean_environ(**settings)
    line = python(*arguments)
    return subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def admin(redis_url: str, *arguments: str, clickhouse_url: str = "") -> Any:
    """Run an admin command with --json, and with --yes where it would ask; what it printed.

    With ClickHouse it needs no ingestor that has looked at Redis before it.
    """
    asks = arguments[1] in _ASKING or arguments[:2] in {("org", "disable"), ("key", "disable")}
    agreed = ("--yes",) if asks else ()
    log = {"LECTR_CLICKHOUSE_URL": f"{clickhouse_url}/lectr"} if clickhouse_url else {}
    done = run_command("dashboard", *arguments, *agreed, "--json", LECTR_REDIS_URL=redis_url, **log)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Gateway(Part):
    """A gateway process."""

    module: ClassVar[str] = "gateway"
    url: str
    ops_url: str

    def __init__(
        self, directory: Path, redis_url: str, upstreams: Mapping[str, str], root: Path = ROOT, /, **settings: str
    ) -> None:
        environ = clean_environ(
            **{
                "LECTR_LISTEN": "127.0.0.1:0",
                "LECTR_OPS_LISTEN": "127.0.0.1:0",
                "LECTR_REDIS_URL": redis_url,
                "LECTR_STATE_DIR": str(directory / "state"),
                **upstreams,
                **settings,
            }
        )
        super().__init__("gateway", python(self.module), environ, directory / "logs", root)

    def wait(self) -> "Gateway":
        """Wait until it serves."""
        line = self.line_with("lectr gateway listening")
        self.url, self.ops_url = re.findall(r"https?://[^\s()]+", line)
        return self


class Ingestor(Part):
    """An ingestor process."""

    module: ClassVar[str] = "ingestor"
    ops_url: str

    def __init__(
        self, directory: Path, redis_url: str, clickhouse_url: str, root: Path = ROOT, /, **settings: str
    ) -> None:
        environ = clean_environ(
            **{
                "LECTR_OPS_LISTEN": "127.0.0.1:0",
                "LECTR_REDIS_URL": redis_url,
                "LECTR_CLICKHOUSE_URL": f"{clickhouse_url}/lectr",
                "LECTR_BATCH_MAX_AGE_MS": "200",
                **settings,
            }
        )
        super().__init__("ingestor", python(self.module), environ, directory / "logs", root)

    def wait(self) -> "Ingestor":
        """Wait until it serves."""
        self.ops_url = self.url_in("lectr ingestor")
        return self


def upstreams_of(mock_url: str) -> dict[str, str]:
    """The settings that point a gateway at the mock providers."""
    return {
        "LECTR_UPSTREAM_OPENAI": f"{mock_url}/openai/v1",
        "LECTR_UPSTREAM_ANTHROPIC": f"{mock_url}/anthropic/v1",
        "LECTR_UPSTREAM_GROQ": f"{mock_url}/groq/openai/v1",
        "LECTR_UPSTREAM_GEMINI": f"{mock_url}/gemini/v1beta/openai",
    }


def fetch(url: str, **options: Any) -> tuple[int, bytes]:
    """One HTTP request with urllib; status and body, also for errors."""
    request = urllib.request.Request(url, **options)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def select(clickhouse_url: str, query: str) -> list[dict[str, Any]]:
    """Rows of a query, over HTTP as curl would ask."""
    parameters = urllib.parse.urlencode(
        {"query": query, "default_format": "JSONEachRow", "output_format_json_quote_64bit_integers": "0"}
    )
    status, body = fetch(f"{clickhouse_url}/?{parameters}")
    assert status == 200, body
    return [json.loads(line) for line in body.splitlines()]


def execute(clickhouse_url: str, statement: str) -> None:
    """A statement that gives no rows."""
    status, body = fetch(f"{clickhouse_url}/", data=statement.encode(), method="POST")
    assert status == 200, body
