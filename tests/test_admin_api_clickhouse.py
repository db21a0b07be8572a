"""What the admin HTTP API reads from ClickHouse: the log of changes, and what is in use; and how it fails without."""

from collections.abc import Iterator
from typing import Any

import pytest

from dashboard import edits
from shared.clock import unix_ms
from shared.organisation import Rule, Target
from tests.admin_api import PREFIX, AdminApi, admin_apis, start_api
from tests.admin_api_cases import CLOSED, ask, by_id
from tests.ingestor_process import new_database
from tests.parts import execute, free_port, running

DAY_MS = 86_400_000
PASSWORD = "hunter2-velvet"
ASKING = [one for one in CLOSED if one.load == "clickhouse"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, clickhouse_url: str) -> Iterator[AdminApi]:
    """With an organisation that has a key and a rule."""
    new_database(clickhouse_url)
    directory = tmp_path_factory.mktemp("admin_clickhouse")
    with admin_apis(directory, LECTR_CLICKHOUSE_URL=f"{clickhouse_url}/lectr") as made:
        operator = made.operator()
        operator.create_org("acme")
        rule = Rule(name="cheap", model="gpt-4o", target=Target(model="gpt-4o-mini"))
        operator.edit("acme", edits.put_rule(rule), "set rule")
        operator.close()
        yield made


@pytest.fixture(scope="module")
def logged(api: AdminApi, clickhouse_url: str) -> list[dict[str, Any]]:
    """Seven changes of two organisations, the latest first, as they are answered."""
    made = [
        {"at_ms": 1_000 * n, "org": f"org-{n % 2}", "version": n, "actor": "api:ann", "action": f"change {n}"}
        for n in range(1, 8)
    ]
    for one in made:
        at = f"fromUnixTimestamp64Milli({one['at_ms']}, 'UTC')"
        values = f"('{one['org']}', {one['version']}, {at}, '{one['actor']}', '{one['action']}', '{{\"secret\": 1}}')"
        execute(clickhouse_url, f"INSERT INTO lectr.registry_log VALUES {values}")
    return made[::-1]


def test_changes_the_latest_first(api: AdminApi, logged: list[dict[str, Any]]) -> None:
    """Of all organisations or of one, since a moment; nothing of one that never was, and no record of any."""
    assert api.ok("GET", "/changes") == {"changes": logged, "next": None}
    assert api.ok("GET", "/changes?org=org-1")["changes"] == [one for one in logged if one["org"] == "org-1"]
    assert api.ok("GET", "/changes?since_ms=5000")["changes"] == logged[:3]
    assert api.ok("GET", "/changes?org=org-0&since_ms=5000&limit=1") == {"changes": [logged[1]], "next": None}
    assert api.ok("GET", "/changes?org=nobody") == {"changes": [], "next": None}


@pytest.mark.parametrize(("query", "places"), [("", range(7)), ("&org=org-1", (0, 2, 4, 6))])
def test_pages_of_changes(api: AdminApi, logged: list[dict[str, Any]], query: str, places: Any) -> None:
    """Following `next` from page to page gives every change once, and ends with the first one."""
    seen, before = [], ""
    while True:
        page = api.ok("GET", f"/changes?limit=2{query}{before}")
        assert 0 < len(page["changes"]) <= 2
        seen += page["changes"]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == [logged[place] for place in places]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("changes?org=Upper", "org"),
        ("changes?since_ms=-1", "since_ms"),
        ("changes?since_ms=9999999999999", "since_ms"),
        ("changes?before=0", "before"),
        ("changes?limit=1001", "limit"),
        ("changes?since=1", "since"),
        ("orgs/acme/use?days=0", "days"),
        ("orgs/acme/use?days=367", "days"),
    ],
)
def test_a_question_that_cannot_be_asked(api: AdminApi, query: str, field: str) -> None:
    """400 names the parameter."""
    assert api.refused("GET", f"/{query}") == (400, "invalid_request", field)


def test_what_is_in_use(api: AdminApi, clickhouse_url: str) -> None:
    """Every key and rule that there is, used or not, within so many days; the version is that of the organisation."""
    api.ok("POST", "/orgs/acme/keys", {"name": "idle"})
    now_ms = unix_ms()
    for ago_ms, key, rule in ((5_000, "default", "cheap"), (9_000, "default", ""), (40 * DAY_MS, "default", "cheap")):
        row = f"(fromUnixTimestamp64Milli({now_ms - ago_ms}, 'UTC'), 'acme', '{key}', '{rule}')"
        execute(clickhouse_url, f"INSERT INTO lectr.requests (ts, org, key, rule) VALUES {row}")
    execute(clickhouse_url, "INSERT INTO lectr.requests (ts, org, key) VALUES (now(), 'acme', 'gone')")
    reply = api.ask("GET", f"{PREFIX}/orgs/acme/use")
    assert reply.headers["ETag"] == api.ask("GET", f"{PREFIX}/orgs/acme").headers["ETag"]
    idle = {"name": "idle", "requests": 0, "last_ms": None}
    last_ms = now_ms - 5_000
    assert reply.json == {
        "days": 30,
        "keys": [{"name": "default", "requests": 2, "last_ms": last_ms}, idle],
        "rules": [{"name": "cheap", "requests": 1, "last_ms": last_ms}],
    }
    longer = api.ok("GET", "/orgs/acme/use?days=366")
    assert [one["requests"] for one in (*longer["keys"], *longer["rules"])] == [3, 0, 2]


@pytest.mark.parametrize(
    ("url", "code", "retry_after", "fix"),
    [
        ("", "clickhouse_not_configured", None, "LECTR_CLICKHOUSE_URL is not set"),
        ("http://user:{password}@127.0.0.1:{free}/lectr", "clickhouse_unavailable", "5", "start it there"),
        ("{real}/not_there", "clickhouse_unavailable", None, "run: python -m ingestor migrate"),
    ],
    ids=["not set", "away", "not migrated"],
)
def test_without_clickhouse(
    api: AdminApi,
    clickhouse_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    url: str,
    code: str,
    retry_after: str | None,
    fix: str,
) -> None:
    """503 names the setting and the fix, never a password; everything else is served."""
    setting = url.format(password=PASSWORD, free=free_port(), real=clickhouse_url)
    settings = {"LECTR_CLICKHOUSE_URL": setting} if setting else {}
    other = start_api(tmp_path_factory.mktemp("without_clickhouse"), api.redis_url, **settings)
    with running(other.process):
        other.wait()
        for one in ASKING:
            reply = ask(other, one)
            assert reply.told == (503, code, None), by_id(one)
            assert reply.headers["Retry-After"] == retry_after
            assert "LECTR_CLICKHOUSE_URL" in reply.json["error"]["message"]
            assert fix in reply.json["error"]["message"]
            assert PASSWORD.encode() not in reply.data
        assert other.ok("GET", "/orgs/acme")["org"] == "acme"
        assert other.ask("GET", "/readyz", secret=None).status == 200
        assert PASSWORD not in other.process.output
