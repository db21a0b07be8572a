"""What only happens when something breaks in the admin API itself, or is slow: in this process, with parts replaced."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dashboard.api import door as doors
from dashboard.api.attempts import Attempts
from dashboard.api.calls import Answer, Call
from dashboard.api.door import Door
from dashboard.api.handlers import HANDLERS
from dashboard.api.operation import MOST_OPEN, MOST_OPEN_OF
from dashboard.api.probes import Probes
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.server import application
from shared import counters
from shared.environment import Secret, SecretUrl
from tests.admin_api import PREFIX, SECRET

Client = TestClient[web.Request, web.Application]
HEADERS = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
async def client(
    redis_url: str, aiohttp_client: Callable[..., Awaitable[Client]], monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setattr(doors, "_BODY_TIMEOUT_S", 0.05)
    calls = RegistryCalls(SecretUrl(redis_url), actor="api")
    door = Door(secret=Secret(SECRET), calls=calls, attempts=Attempts(requests_per_s=10_000))
    yield await aiohttp_client(TestServer(application(door, Probes(calls, None))))
    await calls.close()


def defects() -> float:
    return float(counters.dashboard_handler_faults._value.get())


async def test_a_defect_is_told_without_its_text(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 in the one form of errors, counted, and logged by type and place: its text may hold a secret."""

    def broken(_call: Call) -> Answer:
        raise LookupError("velvet text")

    monkeypatch.setitem(HANDLERS, "readOrg", broken)
    logged: list[Any] = []
    monkeypatch.setattr(
        doors, "_log", type("Log", (), {"error": lambda _, *words, **more: logged.append((words, more))})()
    )
    before = defects()
    async with client.get(f"{PREFIX}/orgs/acme", headers=HEADERS) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["code"], error["type"]) == (500, "internal_error", "api_error")
        assert reply.headers["Connection"] == "close"
        assert "velvet" not in await reply.text()
    assert defects() == before + 1
    [(words, more)] = logged
    assert words == ("defect",)
    assert more["error"] == "LookupError"
    assert more["place"].startswith("test_admin_api_faults.py:")
    assert "velvet" not in str(logged)


@pytest.mark.parametrize(
    ("handler", "path", "most"),
    [
        ("readOrg", "/orgs/acme", MOST_OPEN),
        ("exportRegistry", "/export", MOST_OPEN_OF["registry"]),
        ("listChanges", "/changes", MOST_OPEN_OF["clickhouse"]),
    ],
)
async def test_as_many_as_may_be_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, handler: str, path: str, most: int
) -> None:
    """Beyond that one is told to come again, at once; what has begun is done, and then there is room again.

    Of what takes long there may be fewer, and others are served meanwhile.
    """
    go_on = threading.Event()

    def slow(_call: Call) -> Answer:
        go_on.wait(30)
        return Answer()

    monkeypatch.setitem(HANDLERS, handler, slow)

    async def ask(path: str = path) -> tuple[int, str]:
        async with client.get(PREFIX + path, headers=HEADERS) as reply:
            return reply.status, reply.headers.get("Retry-After", "")

    asked = [asyncio.create_task(ask()) for _ in range(most + 5)]
    done, _ = await asyncio.wait(asked, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert {await one for one in done} == {(503, "1")}
    assert (await ask("/orgs/nobody"))[0] == (503 if most == MOST_OPEN else 404)
    go_on.set()
    statuses = [(await one)[0] for one in asked]
    assert (statuses.count(200), statuses.count(503)) == (most, 5)
    assert (await ask())[0] == 200


async def test_a_body_that_does_not_come(client: Client) -> None:
    """408 when its time is over, and the connection is closed; nothing waits for it any more."""

    async def never() -> Any:
        yield b'{"org'
        await asyncio.Event().wait()

    async with client.post(
        f"{PREFIX}/orgs", data=never(), headers={**HEADERS, "Content-Type": "application/json"}
    ) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (408, "request_timeout")
        assert reply.headers["Connection"] == "close"
