"""The admin HTTP API as a process: how it starts and stops, what it does without Redis, and that it tells no secret."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from dashboard.settings import Settings
from shared.environment import variable_of
from shared.registry import LOG_KEY, ORGS_KEY
from tests.admin_api import PREFIX, SECRET, AdminApi, Reply, admin_apis, start_api
from tests.parts import free_port, run_command, running, start_redis, wait_until
from tests.raw_http import connect, read_all, read_until
from tests.registry_operator import mark_whole


@pytest.fixture
def api(tmp_path: Path) -> Iterator[AdminApi]:
    with admin_apis(tmp_path) as made:
        yield made


def serve(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """The command, run to its end; exit code, stdout and stderr."""
    done = run_command("dashboard", "serve", *arguments, **{"LECTR_LISTEN": "127.0.0.1:0", **settings})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("LECTR_ADMIN_SECRET", "", "not set; give 16 characters or more"),
        ("LECTR_ADMIN_SECRET", "velvet-15-chars", "too short; give 16 characters or more"),
        ("LECTR_ADMIN_SECRET", "velvet harbour secret", "without spaces"),
        ("LECTR_ADMIN_SECRET", "velvet-härbour-secret", "printable ASCII"),
        ("LECTR_ADMIN_REQUESTS_PER_S", "0", ">= 1"),
        ("LECTR_LISTEN", "8081", "expected HOST:PORT"),
        ("LECTR_REDIS_URL", "nonsense", "expected redis"),
        ("LECTR_LOG_LEVEL", "loud", "expected one of"),
        ("LECTR_ADMIN_SECRETS", "x", "no such setting"),
    ],
)
def test_a_setting_that_cannot_be_used(name: str, value: str, fix: str) -> None:
    """One line on stderr with the variable and the fix, never the secret; exit code 2."""
    code, said, complained = serve(**{"LECTR_ADMIN_SECRET": SECRET, name: value})
    assert (code, said) == (2, "")
    assert complained.startswith(f"lectr dashboard: {name}")
    assert complained.count("\n") == 1
    assert fix in complained
    assert "velvet" not in complained


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It is named with its setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, complained = serve(
            LECTR_ADMIN_SECRET=SECRET, LECTR_LISTEN=address, LECTR_REDIS_URL=f"redis://127.0.0.1:{free_port()}"
        )
    assert code == 2
    assert "LECTR_LISTEN" in complained.splitlines()[-1]
    assert "Traceback" not in complained


def test_print_settings() -> None:
    """Every setting with its effective value, the secret starred."""
    code, said, complained = serve("--print-settings", LECTR_ADMIN_SECRET=SECRET)
    assert (code, complained) == (0, "")
    lines = dict(line.split("=", 1) for line in said.splitlines())
    assert set(lines) == {variable_of(field.name) for field in msgspec.structs.fields(Settings)}
    assert lines["LECTR_ADMIN_SECRET"] == "***"
    assert lines["LECTR_ADMIN_REQUESTS_PER_S"] == "50"


def test_defaults() -> None:
    """Port 8081 of this machine alone, and a registry that can be changed."""
    settings = Settings()
    assert (settings.listen, settings.registry_file, settings.admin_requests_per_s) == ("127.0.0.1:8081", "", 50)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_a_change_end(api: AdminApi, number: int) -> None:
    """A request that has begun gets its answer, the change is made, nothing new is let in, and the exit code is 0."""
    body = json.dumps({"org": "late"}).encode()
    with connect(api.url) as client, connect(api.url) as idle:
        client.sendall(
            f"POST {PREFIX}/orgs HTTP/1.1\r\nHost: lectr\r\nAuthorization: Bearer {SECRET}\r\nExpect: 100-continue\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        read_until(client, b"100 Continue\r\n\r\n")
        api.process.process.send_signal(number)
        api.process.line_with("stopping")
        with pytest.raises(ConnectionRefusedError):
            connect(api.url)
        client.sendall(body)
        assert read_all(client).startswith(b"HTTP/1.1 201 ")
        assert read_all(idle) == b""
    assert api.process.process.wait(20) == 0
    assert "Traceback" not in api.process.output
    operator = api.operator()
    assert operator.org("late").org == "late"
    operator.close()


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_without_redis(tmp_path: Path, scheme: str) -> None:
    """It serves, and says of each operation that the registry is away and when to ask again; its password is not told.

    Who has no secret learns no address.
    """
    port = free_port()
    api = start_api(tmp_path, f"{scheme}://:hunter2@127.0.0.1:{port}")
    with running(api.process):
        api.wait()
        assert api.ask("GET", "/healthz", secret=None).status == 200
        reply = api.ask("GET", "/readyz", secret=None)
        assert reply.told == (503, "registry_unavailable", None)
        assert reply.headers["Retry-After"] == "5"
        assert str(port).encode() not in reply.data
        for method, path, body in (("GET", "/orgs", None), ("POST", "/orgs", {"org": "new"}), ("GET", "/orgs/a", None)):
            reply = api.ask(method, PREFIX + path, body)
            assert reply.told == (503, "registry_unavailable", None)
            assert reply.headers["Retry-After"] == "5"
            assert f"127.0.0.1:{port}" in reply.json["error"]["message"]
        assert "registry_unavailable" in api.process.output
        assert "hunter2" not in api.process.output + "".join(map(str, api.written))
        if scheme == "redis":
            redis, redis_url = start_redis(tmp_path / "redis", port)
            mark_whole(redis_url)
            with running(redis), Redis(port=port) as client:
                client.config_set("requirepass", "hunter2")
                wait_until(lambda: api.ask("GET", "/readyz", secret=None).status == 200)
                assert api.ok("POST", "/orgs", {"org": "new"})["org"] == "new"


def test_a_redis_that_hangs(api: AdminApi) -> None:
    """An open connection without an answer: not ready within seconds, and nobody waits for ever."""
    assert api.redis is not None
    with ThreadPoolExecutor(1) as threads:
        api.redis.process.send_signal(signal.SIGSTOP)
        try:
            waiting = threads.submit(api.refused, "GET", "/orgs")
            wait_until(lambda: api.ask("GET", "/readyz", secret=None).status == 503)
            assert api.ask("GET", "/healthz", secret=None).status == 200
            assert waiting.result() == (503, "registry_unavailable", None)
        finally:
            api.redis.process.send_signal(signal.SIGCONT)
    wait_until(lambda: api.ask("GET", "/readyz", secret=None).status == 200)


def test_the_secret_is_told_nowhere(api: AdminApi) -> None:
    """Not in an answer, nor in what the process wrote, nor in Redis, whatever is asked with it or without it."""
    made = api.ask("POST", f"{PREFIX}/orgs", {"org": "acme"})
    key = made.json["key"]
    places: list[Any] = [
        ("GET", f"{PREFIX}/orgs/acme", None),
        ("GET", f"{PREFIX}/{SECRET}", None),
        ("PATCH", f"{PREFIX}/orgs/acme", {"enabled": True, "secret": 1}),
        ("GET", "/api/openapi.json", None),
        ("GET", "/metrics", None),
        ("POST", f"{PREFIX}/orgs", b"{"),
    ]
    replies: list[Reply] = [api.ask(*place) for place in places]
    replies.append(api.ask("GET", f"{PREFIX}/orgs", secret=SECRET[:-1]))
    with connect(api.url) as client:
        client.sendall(f"GET / HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nbad header\r\n\r\n".encode())
        raw = read_all(client)
    with Redis.from_url(api.redis_url) as stored:
        kept = repr((stored.hgetall(ORGS_KEY), stored.xrange(LOG_KEY))).encode()
    api.process.terminate()
    everything = [raw, kept, api.process.output.encode(), *(str(r.headers).encode() + r.data for r in replies)]
    assert b"acme" in kept
    for secret in (SECRET, key):
        assert [place for place in everything if secret.encode() in place] == []
