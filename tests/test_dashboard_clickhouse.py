"""What the dashboard reads from ClickHouse: every question on a migrated database, one clear line without an answer."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dashboard import edits
from dashboard.__main__ import main
from dashboard.api.registry_calls import RegistryCalls
from dashboard.changes import Change, changes, logged_versions
from dashboard.clickhouse import ClickHouse, ClickHouseFault, ClickHouseRefused, ClickHouseUnavailable, NotMigrated
from dashboard.commands.values import shown_moment
from dashboard.in_use import Use, keys_in_use, rules_in_use
from dashboard.registry import Registry, RegistryIncomplete, RegistryUnavailable, UnknownOrg
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.organisation import Org, Rule, Target
from shared.registry import COMPLETE_KEY, ORGS_KEY, VERSIONS_KEY, encode_org
from tests.ingestor_process import new_database
from tests.parts import execute, free_port
from tests.registry_operator import Operator

DAY_MS = 86_400_000
PASSWORD = "hunter2-velvet"


@dataclass
class Site:
    """A migrated database and a registry; commands as a person runs them."""

    clickhouse_url: str
    redis_url: str
    clickhouse: ClickHouse
    operator: Operator
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    def rows(self, *arguments: str) -> list[list[str]]:
        """A table, its cells apart."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stderr) == (0, ""), done.stderr
        return [[cell.strip() for cell in line.split("  ") if cell] for line in done.stdout.splitlines()]

    def point_to(self, clickhouse_url: str | None) -> None:
        if clickhouse_url is None:
            self.monkeypatch.delenv("LECTR_CLICKHOUSE_URL", raising=False)
        else:
            self.monkeypatch.setenv("LECTR_CLICKHOUSE_URL", clickhouse_url)

    def log(self, org: str, version: int, at_ms: int, action: str = "create org", actor: str = "cli:ann") -> None:
        values = f"('{org}', {version}, fromUnixTimestamp64Milli({at_ms}, 'UTC'), '{actor}', '{action}', '{{}}')"
        execute(self.clickhouse_url, f"INSERT INTO lectr.registry_log VALUES {values}")

    def request(self, at_ms: int, *, org: str = "acme", key: str = "", rule: str = "") -> None:
        row = f"(fromUnixTimestamp64Milli({at_ms}, 'UTC'), '{org}', '{key}', '{rule}')"
        execute(self.clickhouse_url, f"INSERT INTO lectr.requests (ts, org, key, rule) VALUES {row}")

    def registry(self) -> Registry:
        return Registry(SecretUrl(self.redis_url), actor="test", clickhouse=self.clickhouse)


@pytest.fixture(scope="module")
def migrated_url(clickhouse_url: str) -> str:
    new_database(clickhouse_url)
    return clickhouse_url


@pytest.fixture
def site(migrated_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("registry_log", "requests"):
        execute(migrated_url, f"TRUNCATE TABLE lectr.{name} SYNC")
    clickhouse = ClickHouse.of(SecretUrl(f"{migrated_url}/lectr"))
    assert clickhouse is not None
    operator = Operator(redis_url)
    operator._redis.flushall()
    monkeypatch.setenv("LECTR_REDIS_URL", redis_url)
    made = Site(migrated_url, redis_url, clickhouse, operator, monkeypatch)
    made.point_to(f"{migrated_url}/lectr")
    yield made
    operator.close()
    clickhouse.close()


def test_changes_the_latest_first(site: Site) -> None:
    """Of all organisations or one, since a moment, no more than asked for."""
    made = [Change(1_000 * n, f"org-{n % 2}", n, "cli:ann", f"change {n}") for n in range(1, 6)]
    for one in made:
        site.log(one.org, one.version, one.at_ms, one.action)
    assert changes(site.clickhouse, limit=10) == made[::-1]
    assert changes(site.clickhouse, limit=2) == [made[4], made[3]]
    assert changes(site.clickhouse, org="org-0", limit=10) == [made[3], made[1]]
    assert changes(site.clickhouse, org="org-1", since_ms=3_000, limit=10) == [made[4], made[2]]
    assert changes(site.clickhouse, org="' OR 1", limit=10) == []
    assert logged_versions(site.clickhouse) == {"org-0": 4, "org-1": 5}
    assert logged_versions(site.clickhouse, "org-0") == {"org-0": 4}
    assert logged_versions(site.clickhouse, "org-2") == {}


def test_audit(site: Site) -> None:
    """Who changed what and when; an escape sequence in a name is none on the terminal."""
    site.log("acme", 1, 1_795_000_000_000)
    site.log("beta", 2, 1_795_000_060_000, "set price of \x1b[2J", "api:bob")
    head = ["when", "org", "who", "what"]
    first = ["2026-11-18 11:06 UTC", "acme", "cli:ann", "create org"]
    assert site.rows("audit") == [head, ["2026-11-18 11:07 UTC", "beta", "api:bob", "set price of ?[2J"], first]
    assert site.rows("audit", "acme") == [head, first]
    assert site.rows("audit", "--since", "2026-11-19") == [head]
    assert len(site.rows("audit", "--limit", "1")) == 2
    assert '"version": 2' in site.run("audit", "--limit", "1", "--json").stdout


def test_use_of_keys_and_rules(site: Site) -> None:
    """How often and when last, within the window and of this organisation alone."""
    now_ms = unix_ms()
    for ago_ms, key, rule in ((5_000, "web", "cheap"), (9_000, "web", ""), (2 * DAY_MS, "batch", "cheap")):
        site.request(now_ms - ago_ms, key=key, rule=rule)
    site.request(now_ms - 31 * DAY_MS, key="old", rule="old")
    site.request(now_ms - 1_000, org="other", key="web", rule="cheap")
    site.request(now_ms)
    web, batch = Use(2, now_ms - 5_000), Use(1, now_ms - 2 * DAY_MS)
    assert keys_in_use(site.clickhouse, "acme", now_ms) == {"web": web, "batch": batch}
    assert keys_in_use(site.clickhouse, "acme", now_ms, days=1) == {"web": web}
    assert set(keys_in_use(site.clickhouse, "acme", now_ms, days=40)) == {"web", "batch", "old"}
    assert rules_in_use(site.clickhouse, "acme", now_ms) == {"cheap": Use(2, now_ms - 5_000)}
    assert keys_in_use(site.clickhouse, "' OR '1", now_ms) == {}


def made_with_a_rule(site: Site) -> Org:
    site.operator.create_org("acme")
    rule = Rule(name="cheap", model="gpt-4o", target=Target(model="gpt-4o-mini"))
    return site.operator.edit("acme", edits.put_rule(rule), "set rule")


@pytest.mark.parametrize(
    ("command", "heads", "name"),
    [("key", ["last used", "requests (30 d)"], "default"), ("rule", ["last used", "hits (30 d)"], "cheap")],
)
def test_lists_say_what_is_in_use(site: Site, command: str, heads: list[str], name: str) -> None:
    """Two columns where ClickHouse is known; none where it is not; dashes and one line where it does not answer."""
    made_with_a_rule(site)
    last_ms = unix_ms() - 40 * DAY_MS
    site.request(last_ms, key="default", rule="cheap")
    unused, used = site.rows(command, "list", "acme"), site.rows(command, "list", "acme", "--days", "366")
    assert (unused[0][-2:], unused[1][-2:]) == (heads, ["not in 30 d", "0"])
    assert used[1][-2:] == [shown_moment(last_ms), "1"]
    expected = f'"use": {{"days": 366, "requests": 1, "last_ms": {last_ms}}}'
    assert expected in site.run(command, "list", "acme", "--days", "366", "--json").stdout
    site.point_to(None)
    plain = site.rows(command, "list", "acme")
    assert [plain[0], plain[1]] == [unused[0][:-2], unused[1][:-2]]
    assert '"use"' not in site.run(command, "list", "acme", "--json").stdout
    site.point_to(f"http://user:{PASSWORD}@127.0.0.1:{free_port()}/lectr")
    for arguments, shown in (((), "-"), (("--json",), '"use": null')):
        done = site.run(command, "list", "acme", *arguments)
        assert done.exit_code == 0
        assert name in done.stdout
        assert shown in done.stdout
        [line] = done.stderr.splitlines()
        assert line.startswith("lectr: what is in use is not known: LECTR_CLICKHOUSE_URL=http://***@127.0.0.1:")
        assert PASSWORD not in line


def test_what_redis_lost_is_not_made_anew(site: Site) -> None:
    """While it is on its way back from the log nothing takes its place; what was not lost can be made and changed."""
    site.log("acme", 1, 1_000)
    registry = site.registry()
    asks: tuple[Callable[[], Org], ...] = (
        lambda: registry.create(Org(org="acme", version=0), "create org"),
        lambda: registry.edit("acme", edits.switch(enabled=False), "switch"),
        lambda: registry.org("acme"),
    )
    for ask in asks:
        with pytest.raises(RegistryIncomplete, match=r"^Redis has lost organisations \(1: 'acme'\); an ingestor fills"):
            ask()
    assert registry.create(Org(org="fresh", version=0), "create org").org == "fresh"
    assert not registry.edit("fresh", edits.switch(enabled=False), "switch").enabled
    with pytest.raises(UnknownOrg, match=r"^org 'nobody' does not exist; create it with: org create nobody"):
        registry.org("nobody")


@pytest.mark.parametrize("back", [0, 1], ids=["gone", "older"])
def test_half_a_registry_is_not_taken_for_all(site: Site, tmp_path: Path, back: int) -> None:
    """Lists, exports and plans of a Redis that lost organisations, or changes, say so; told again, once all is back."""
    old, key = site.operator.create_org("acme")
    new = site.operator.set_enabled("acme", enabled=False)
    site.log("acme", new.version, 1_000)
    file = tmp_path / "orgs.yaml"
    redis = site.operator._redis
    redis.set(COMPLETE_KEY, "whole")
    file.write_text(site.run("export").stdout)
    whole: list[Any] = [redis.dump(ORGS_KEY), redis.dump(VERSIONS_KEY)]
    redis.flushall()
    if back:
        redis.hset(ORGS_KEY, "acme", encode_org(old))
        redis.zadd(VERSIONS_KEY, {"acme": old.version})
    questions = (("org", "list"), ("org", "list", "--json"), ("export",), ("plan", str(file)), ("apply", str(file)))
    for question in questions:
        done = site.run(*question)
        assert (done.exit_code, done.stdout) == (2, ""), question
        assert done.stderr.startswith("lectr: Redis has lost organisations (1: 'acme'); an ingestor"), done.stderr
    with pytest.raises(RegistryIncomplete):
        site.registry().page("", 10)
    for name, dumped in zip((ORGS_KEY, VERSIONS_KEY), whole, strict=True):
        redis.restore(name, 0, dumped, replace=True)
    assert site.run("plan", str(file)).exit_code == 0
    assert site.rows("org", "list")[1][:2] == ["acme", "disabled"]
    assert key not in file.read_text()


def test_an_organisation_on_its_way_back_is_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes back between two looks at Redis is not told to be none."""
    org, _ = site.operator.create_org("acme")
    site.operator._redis.flushall()
    registry = site.registry()
    hget = registry._redis.hget

    def late(*arguments: Any) -> Any:
        found = hget(*arguments)
        if found is None:
            site.operator._redis.hset(ORGS_KEY, "acme", encode_org(org))
            site.operator._redis.set(COMPLETE_KEY, "whole")
        return found

    monkeypatch.setattr(registry._redis, "hget", late)
    assert registry.org("acme") == org


async def test_nor_through_the_http_api(site: Site) -> None:
    """Its threads ask the log as the command line does."""
    site.log("acme", 1, 1_000)
    calls = RegistryCalls(SecretUrl(site.redis_url), actor="api", clickhouse=site.clickhouse)
    with pytest.raises(RegistryIncomplete, match="has lost organisations"):
        await calls.run(lambda registry: registry.create(Org(org="acme", version=0), "create org"))
    await calls.close()


def test_a_whole_redis_is_believed(site: Site) -> None:
    """With its mark what is not there does not exist, and the log is not asked."""
    site.log("acme", 1, 1_000)
    site.operator._redis.set(COMPLETE_KEY, "whole")
    assert site.registry().create(Org(org="acme", version=0), "create org").version > 1


@pytest.mark.parametrize("question", [("org", "create", "acme"), ("org", "list"), ("key", "add", "acme", "web")])
def test_without_the_log_nobody_knows(site: Site, question: tuple[str, ...]) -> None:
    """A Redis without its mark, and no log that could be asked: refused in one line that says what to do."""
    for url, fix in (
        (None, "set LECTR_CLICKHOUSE_URL"),
        (f"http://127.0.0.1:{free_port()}/x", "LECTR_CLICKHOUSE_URL="),
    ):
        site.point_to(url)
        done = site.run(*question)
        assert (done.exit_code, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("lectr: Redis lacks the mark that its registry is whole: it is new, or was emptied")
        assert fix in line


def test_a_new_installation_has_no_log(site: Site) -> None:
    """Where nothing was migrated yet nothing could be lost; a database that is not there may be a slip in its name."""
    site.point_to(f"{site.clickhouse_url}/not_there_yet")
    refused = site.run("org", "create", "acme")
    assert refused.exit_code == 2
    assert "run: python -m ingestor migrate, or correct the database's name" in refused.stderr
    execute(site.clickhouse_url, "CREATE DATABASE IF NOT EXISTS empty")
    site.point_to(f"{site.clickhouse_url}/empty")
    assert site.run("org", "create", "acme").exit_code == 0


def test_audit_needs_the_setting(site: Site) -> None:
    """It names the variable, and the form that its value has."""
    site.point_to(None)
    assert site.run("audit").stderr.startswith("lectr: LECTR_CLICKHOUSE_URL: not set; ")
    site.point_to(f"http://user:{PASSWORD}@127.0.0.1/a/b?c")
    refused = site.run("org", "list")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert PASSWORD not in refused.stderr


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO requests (org) VALUES ('x')", "DROP TABLE requests", "SELECT 1 SETTINGS max_execution_time = 999"],
)
def test_nothing_is_written(site: Site, sql: str) -> None:
    """The server refuses whatever is no question, and a question that would lift its bound."""
    with pytest.raises(ClickHouseRefused) as refused:
        site.clickhouse.query(sql, {})
    assert refused.value.code == 164


def test_refusals_are_told_apart(site: Site) -> None:
    """What is not migrated names the command; what the server refuses has its number."""
    with pytest.raises(NotMigrated, match="run: python -m ingestor migrate"):
        site.clickhouse.query("SELECT * FROM nowhere", {})
    with pytest.raises(ClickHouseRefused) as refused:
        site.clickhouse.query("SELECT nothing FROM requests", {})
    assert refused.value.code == 47
    assert len(str(refused.value)) < 600


class _Odd(http.server.BaseHTTPRequestHandler):
    status, body = 200, b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST  # noqa: N815 - as the library names it

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"hello"), (200, b""), (200, b"\x00\xff" * 99), (404, b"<html>"), (500, b"")]
)
def test_what_is_no_clickhouse_is_a_fault(status: int, body: bytes) -> None:
    """Another server at that address is told like one that is away, in one line without the password."""
    handler = type("Handler", (_Odd,), {"status": status, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            clickhouse = ClickHouse.of(SecretUrl(f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}/lectr"))
            assert clickhouse is not None
            with pytest.raises(ClickHouseUnavailable) as told:
                clickhouse.query("SELECT 1", {})
        finally:
            server.shutdown()
            thread.join()
    assert len(str(told.value).splitlines()) == 1
    assert PASSWORD not in str(told.value)


def test_every_fault_has_a_name_of_its_own() -> None:
    """The family is closed: callers tell its members apart by class, counters by label."""
    family: list[type[ClickHouseFault]] = [ClickHouseFault, ClickHouseUnavailable, ClickHouseRefused, NotMigrated]
    assert len({fault.label for fault in family}) == len(family)


def test_a_refill_ends_the_wait(site: Site) -> None:
    """Once the mark is there again, the organisation can be changed as ever."""
    site.log("acme", 1, 1_000)
    registry = site.registry()
    with pytest.raises(RegistryIncomplete):
        registry.org("acme")
    site.operator.create_org("acme")
    assert registry.edit("acme", edits.switch(enabled=False), "switch").enabled is False


def test_redis_away_is_said_as_ever(site: Site) -> None:
    """Asking the log does not hide which of the two is away."""
    registry = Registry(SecretUrl(f"redis://127.0.0.1:{free_port()}/0"), actor="test", clickhouse=site.clickhouse)
    with pytest.raises(RegistryUnavailable, match=r"^Redis at "):
        registry.create(Org(org="acme", version=0), "create org")
