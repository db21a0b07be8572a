"""The registry as a whole through the admin HTTP API: exported, planned, applied, and stopped in between."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis import Redis

from dashboard.api import faults
from dashboard.api.attempts import Attempts
from dashboard.api.calls import Call
from dashboard.api.declaration_bodies import ApplyQuery
from dashboard.api.door import Door
from dashboard.api.handlers import HANDLERS
from dashboard.api.operation import MOST_BODY_BYTES
from dashboard.api.probes import Probes
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.server import application
from dashboard.declared.records import read_document
from dashboard.declared.text import MOST_BYTES
from dashboard.registry import VersionConflict
from shared.environment import Secret, SecretUrl
from shared.organisation import Key, Org
from shared.registry import LOG_KEY, new_key
from tests.admin_api import PREFIX, SECRET, AdminApi, admin_apis
from tests.declared_orgs import ACME, ONE, TWO
from tests.declared_site import CommandLine, records, unversioned
from tests.parts import wait_until
from tests.raw_http import connect, read_until
from tests.registry_operator import Operator, empty

Client = TestClient[web.Request, web.Application]
BETA: dict[str, Any] = {"keys": [{"name": "org", "sha256": TWO}, {"name": "app", "sha256": ONE}]}
NOBODY = {"org": False, "keys": []}


@pytest.fixture(scope="module")
def running_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_declared")) as made:
        yield made


@pytest.fixture
def api(running_api: AdminApi) -> AdminApi:
    empty(running_api.redis_url)
    return running_api


@pytest.fixture
def operator(api: AdminApi) -> Iterator[Operator]:
    made = api.operator()
    yield made
    made.close()


def log_of(api: AdminApi) -> list[tuple[str, str]]:
    with Redis.from_url(api.redis_url, decode_responses=True) as client:
        entries: Any = client.xrange(LOG_KEY)
    return [(fields["org"], fields["actor"]) for _, fields in entries]


def many(count: int) -> dict[str, Any]:
    return {"orgs": {f"org-{number:05}": {} for number in range(count)}}


def test_what_is_exported_can_be_applied(api: AdminApi, operator: Operator) -> None:
    """The same as the command line writes; to itself nothing is to do, and an empty registry becomes the same one."""
    operator.create(ACME, "create")
    operator.create(Org(org="beta", version=0, enabled=False), "create")
    before = unversioned(records(api.redis_url))
    exported = api.ok("GET", "/export")
    assert exported == json.loads(CommandLine(api.redis_url).said("export", "--json"))
    assert exported["orgs"]["acme"]["keys"][0]["sha256"] == ACME.keys[0].sha256
    planned = api.ok("POST", "/plan?prune=true", exported)
    assert planned == {"changes": [], "unchanged": ["acme", "beta"], "undeclared": [], "warnings": []}
    empty(api.redis_url)
    assert api.ok("GET", "/export") == {"orgs": {}}
    assert [one["doing"] for one in api.ok("POST", "/apply", exported)["changes"]] == ["create", "create"]
    assert unversioned(records(api.redis_url)) == before


def test_a_plan_says_what_apply_then_does(api: AdminApi, operator: Operator) -> None:
    """Changes field by field, hashes by their first digits; planning changes nothing, applying twice does it once."""
    operator.create(Org(org="beta", version=0, keys=(Key(name="app", sha256=ONE),)), "create")
    operator.create(Org(org="same", version=0), "create")
    operator.create(Org(org="other", version=0, enabled=False), "create")
    before = records(api.redis_url)
    declared = {"orgs": {"new": {"rules": [{"name": "a"}]}, "beta": {**BETA, "enabled": True}, "same": {}}}
    planned = api.ok("POST", "/plan", declared)
    new, beta = planned["changes"]
    assert new == {"org": "new", "doing": "create", "fields": [], "shuts_out": NOBODY}
    assert (beta["org"], beta["doing"], beta["shuts_out"]) == ("beta", "change", NOBODY)
    assert [(field["field"], field["old"]) for field in beta["fields"]] == [("keys[org]", None)]
    assert TWO[:8] in beta["fields"][0]["new"]
    assert TWO not in json.dumps(planned)
    assert (planned["unchanged"], planned["undeclared"]) == (["same"], ["other"])
    assert [warning.split(" ")[1:5] for warning in planned["warnings"]] == [
        ["orgs.new.rules:", "rule", "'a'", "changes"]
    ]
    assert records(api.redis_url) == before
    done = api.ok("POST", "/apply", declared, X_Lectr_Actor="ann")
    assert done == {"changes": planned["changes"], "warnings": planned["warnings"]}
    assert log_of(api)[-2:] == [("new", "api:ann"), ("beta", "api:ann")]
    assert api.ok("POST", "/apply", declared)["changes"] == []


def test_who_is_served_is_shut_out_only_by_name(api: AdminApi, operator: Operator) -> None:
    """409 names organisations and keys, nothing is changed; with shut_out=true it is done, and then is no question."""
    operator.create_org("gone")
    declared: dict[str, Any] = {"orgs": {"beta": BETA}}
    api.ok("POST", "/apply", declared)
    # A key may have the name `org`, and be the only one that goes.
    declared["orgs"]["beta"] = {"keys": BETA["keys"][1:]}
    before = records(api.redis_url)
    reply = api.ask("POST", f"{PREFIX}/apply?prune=true", declared)
    assert reply.told == (409, "would_shut_out", None)
    message = reply.json["error"]["message"]
    assert message.startswith("To be refused from then on: organisations gone; keys org of beta.")
    assert "shut_out=true" in message
    assert api.refused("POST", "/apply", declared)[1] == "would_shut_out"
    assert records(api.redis_url) == before
    planned = api.ok("POST", "/plan?prune=true", declared)
    expected = {"beta": {"org": False, "keys": ["org"]}, "gone": {"org": True, "keys": []}}
    assert {one["org"]: one["shuts_out"] for one in planned["changes"]} == expected
    done = api.ok("POST", "/apply?prune=true&shut_out=true", declared)
    assert [(one["org"], one["doing"]) for one in done["changes"]] == [("beta", "change"), ("gone", "disable")]
    assert [key.name for key in operator.org("beta").keys] == ["app"]
    assert not operator.org("gone").enabled
    assert api.ok("POST", "/apply?prune=true", declared)["changes"] == []


@pytest.mark.parametrize("path", ["/plan", "/apply"])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"orgs": {"a": {}, "a": {}}}', (400, "invalid_json", None)),
        (b'{"orgs": {"a": {"limits": {"requests_per_s": NaN}}}}', (400, "invalid_json", None)),
        (b'{"orgs": ', (400, "invalid_json", None)),
        ({}, (422, "invalid_value", "orgs")),
        ({"orgs": {"Upper": {}}}, (422, "invalid_value", "orgs")),
        ({"orgs": {}, "more": {}}, (422, "invalid_value", "more")),
        ({"orgs": {"new": {"KEY": 1}}}, (422, "invalid_value", "orgs.new.lc_key_***")),
        ({"orgs": {"new": {"version": 1}}}, (422, "invalid_value", "orgs.new.version")),
        (
            {"orgs": {"new": {"budgets": [{"name": "b", "limit_usd": "x"}]}}},
            (422, "invalid_value", "orgs.new.budgets[0]"),
        ),
        (
            {"orgs": {"new": {"keys": [{"name": "a", "sha256": "KEY"}]}}},
            (422, "invalid_value", "orgs.new.keys[0].sha256"),
        ),
        ({"orgs": {"new": {"keys": [{"name": "a", "sha256": TWO}]}}}, (409, "plan_refused", None)),
    ],
)
def test_a_declaration_that_cannot_be_taken(api: AdminApi, operator: Operator, path: str, body: Any, told: Any) -> None:
    """It is read as a file is; the place is named, no key is repeated, and nothing is changed."""
    operator.create(Org(org="other", version=0, keys=(Key(name="app", sha256=TWO),)), "create")
    before, key = records(api.redis_url), new_key()
    sent = body if isinstance(body, bytes) else json.dumps(body).replace("KEY", key).encode()
    reply = api.ask("POST", PREFIX + path, sent)
    status, code, field = reply.told
    assert (status, code) == told[:2]
    assert field == told[2] or (field or "").startswith(f"{told[2]}.")
    assert key.encode() not in reply.data
    assert records(api.redis_url) == before


@pytest.mark.parametrize("path", ["/plan?", "/apply?shut_out=true&"])
def test_nothing_declared_disables_nothing(api: AdminApi, operator: Operator, path: str) -> None:
    """A template that failed to render looks so: it is refused with prune, and harmless without."""
    operator.create_org("acme")
    assert api.refused("POST", f"{path}prune=true", {"orgs": {}}) == (409, "plan_refused", None)
    assert api.ok("POST", f"{path}prune=false", {"orgs": {}})["changes"] == []
    assert operator.org("acme").enabled


def test_every_problem_is_told_at_once(api: AdminApi) -> None:
    """One line for each, up to some, so that a declaration is mended in one go."""
    body = {"orgs": {f"org-{number}": {"enabled": 5} for number in range(3)}}
    message = api.ask("POST", f"{PREFIX}/plan", body).json["error"]["message"]
    assert [line.split(":")[1] for line in message.splitlines()] == [f" orgs.org-{n}.enabled" for n in range(3)]


def test_a_declaration_may_be_as_large_as_a_file(api: AdminApi) -> None:
    """More than any other body; a byte over the limit is refused before it is sent."""
    assert api.ok("POST", "/plan", b'{"orgs": {"acme": {}}}' + b" " * MOST_BODY_BYTES)["changes"][0]["org"] == "acme"
    head = f"POST {PREFIX}/plan HTTP/1.1\r\nHost: lectr\r\nAuthorization: Bearer {SECRET}\r\n"
    with connect(api.url) as client:
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n".encode())
        assert read_until(client, b"\r\n").startswith(b"HTTP/1.1 413 ")


def test_who_changes_the_same_all_the_time(api: AdminApi) -> None:
    """After a few plans that somebody else overtook it gives up: 409, with what was done before."""

    class Overtaken(Operator):
        def edit(self, *_: Any, **__: Any) -> Org:
            raise VersionConflict("somebody was faster")

    registry = Overtaken(api.redis_url)
    registry.create_org("acme")
    declared = read_document({"orgs": {"acme": {"enabled": False}, "other": {}}}, "body")
    call = Call(registry=registry, path={}, query=ApplyQuery(shut_out=True), body=declared)
    with pytest.raises(
        faults.ApplyConflict, match=r"changes acme at the same time; changes made before: 1; apply again"
    ):
        HANDLERS["applyRegistry"](call)
    registry.close()


# what takes long


class Site:
    """The API in this process, on a Redis of the tests' own."""

    def __init__(self, door: Door, client: Client, redis_url: str) -> None:
        self.door, self.client, self.redis_url = door, client, redis_url

    async def apply(self, body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with self.client.post(f"{PREFIX}/apply", json=body, headers=headers) as reply:
            return reply.status, await reply.json()

    def made(self) -> int:
        return len(records(self.redis_url))


@pytest.fixture
async def site(redis_url: str, aiohttp_client: Callable[..., Awaitable[Client]]) -> Any:
    empty(redis_url)
    calls = RegistryCalls(SecretUrl(redis_url), actor="api")
    door = Door(secret=Secret(SECRET), calls=calls, attempts=Attempts(requests_per_s=10_000))
    yield Site(door, await aiohttp_client(TestServer(application(door, Probes(calls, None)))), redis_url)
    await calls.close()
    empty(redis_url)


async def test_a_long_apply_holds_nobody_up_and_ends_with_the_server(site: Site) -> None:
    """While it runs the process is alive; when the drain is over it stops between two changes and says how far it is.

    The same again does the rest.
    """
    declared = many(5_000)
    applying = asyncio.create_task(site.apply(declared))
    await asyncio.to_thread(wait_until, site.made)
    async with site.client.get("/healthz") as reply:
        assert reply.status == 200
    assert not applying.done()
    assert await site.door.drain(0)
    status, answer = await applying
    assert (status, answer["error"]["code"]) == (503, "apply_stopped")
    made = site.made()
    assert 0 < made < 5_000
    assert f"this server ends: {made} of 5000 changes are made" in answer["error"]["message"]
    rest = {"orgs": dict(list(declared["orgs"].items())[: made + 50])}
    site.door._is_ending = False
    status, answer = await site.apply(rest)
    assert (status, len(answer["changes"]), site.made()) == (200, 50, made + 50)


def test_a_stop_lets_an_apply_end(tmp_path: Path) -> None:
    """One that is done within the drain is done whole, its answer told, and the exit code is 0."""
    with admin_apis(tmp_path) as api, ThreadPoolExecutor(1) as threads:
        empty(api.redis_url)
        applying = threads.submit(api.ok, "POST", "/apply", many(1_000))
        wait_until(lambda: records(api.redis_url))
        api.process.process.send_signal(signal.SIGTERM)
        assert len(applying.result()["changes"]) == 1_000
        assert api.process.process.wait(20) == 0
        assert len(records(api.redis_url)) == 1_000
        assert "drain_cut" not in api.process.output
