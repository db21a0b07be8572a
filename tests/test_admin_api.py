"""Every operation of the admin HTTP API on real parts: what it answers, and what the registry then has."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec
import pytest

from dashboard import edits
from shared.organisation import Azure, Budget, Key, Limits, Org, Price, Rule, Target
from shared.registry import LOG_KEY, hash_key
from tests.admin_api import PREFIX, AdminApi, admin_apis
from tests.registry_operator import Operator

KEY = re.compile(r"lc_key_[A-Za-z0-9_-]{43,}")
NO_LIMITS = {
    "requests_per_s": None,
    "burst_requests": None,
    "concurrent_streams": None,
    "body_bytes": None,
    "file_body_bytes": None,
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_api")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(api: AdminApi) -> Iterator[Operator]:
    """Another way to the same registry."""
    made = api.operator()
    yield made
    made.close()


class Site:
    """One organisation of a test's own."""

    def __init__(self, api: AdminApi, operator: Operator, name: str) -> None:
        self.api, self.operator, self.name = api, operator, name
        self.key = operator.create_org(name)[1]

    @property
    def stored(self) -> Org:
        return self.operator.org(self.name)

    def ok(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        return self.api.ok(method, f"/orgs/{self.name}{path}", body, **headers)

    def refused(self, method: str, path: str = "", body: Any = None, **headers: str) -> tuple[int, str, str | None]:
        return self.api.refused(method, f"/orgs/{self.name}{path}", body, **headers)


_numbers = count()


@pytest.fixture
def site(api: AdminApi, operator: Operator) -> Site:
    return Site(api, operator, f"org-{next(_numbers)}")


def test_an_organisation_is_made(api: AdminApi, operator: Operator) -> None:
    """201 with the key, once, and where the organisation is; only a hash is stored; a second time is a conflict."""
    reply = api.ask("POST", f"{PREFIX}/orgs", {"org": "made"})
    assert (reply.status, reply.headers["Location"]) == (201, f"{PREFIX}/orgs/made")
    assert reply.json == {"org": "made", "name": "default", "key": reply.json["key"]}
    assert KEY.fullmatch(reply.json["key"])
    stored = operator.org("made")
    assert [key.sha256 for key in stored.keys] == [hash_key(reply.json["key"])]
    assert reply.headers["ETag"] == f'"{stored.version}"'
    assert api.refused("POST", "/orgs", {"org": "made"}) == (409, "org_exists", None)


def test_an_organisation_is_shown_whole(site: Site) -> None:
    """Every field is there, set or not; a key by its first characters, never by its hash."""
    shown = site.ok("GET")
    stored = site.stored
    assert set(shown) == set(Org.__struct_fields__)
    assert shown["keys"] == [
        {
            "name": "default",
            "shown": site.key[:13],
            "created_ms": stored.keys[0].created_ms,
            "enabled": True,
            "limits": NO_LIMITS,
        }
    ]
    assert (shown["org"], shown["version"], shown["limits"]) == (site.name, stored.version, NO_LIMITS)


def test_an_organisation_is_switched(site: Site) -> None:
    """Off and on again."""
    for enabled in (False, True):
        assert site.ok("PATCH", "", {"enabled": enabled})["enabled"] is enabled
        assert site.stored.enabled is enabled


def test_pages(api: AdminApi, operator: Operator) -> None:
    """Following `next` from page to page gives every organisation once, by name, with how much is set for it."""
    names = sorted(f"page-{number}" for number in range(7))
    for name in names:
        operator.create_org(name)
    seen, after = [], "page"
    while after is not None:
        page = api.ok("GET", f"/orgs?after={after}&limit=3")
        assert len(page["orgs"]) <= 3
        seen += page["orgs"]
        after = page["next"]
    assert [one["org"] for one in seen if one["org"].startswith("page-")] == names
    first = next(one for one in seen if one["org"] == names[0])
    version = operator.org(names[0]).version
    assert first == {"org": names[0], "version": version, "enabled": True, "keys": 1, "rules": 0, "budgets": 0}
    assert api.ok("GET", "/orgs?after=zzz") == {"orgs": [], "next": None}


def test_keys(site: Site) -> None:
    """Made, listed, limited, switched, replaced and removed, each alone; a new secret is shown once."""
    made = site.ok("POST", "/keys", {"name": "web app", "limits": {"requests_per_s": 2.5}})
    assert made == {"org": site.name, "name": "web app", "key": made["key"]}
    assert [key["name"] for key in site.ok("GET", "/keys")["keys"]] == ["default", "web app"]
    assert site.stored.keys[1].limits == Limits(requests_per_s=2.5)
    assert site.refused("POST", "/keys", {"name": "web app"}) == (409, "record_exists", "name")
    changed = site.ok("PATCH", "/keys/web%20app", {"enabled": False})
    assert (changed["enabled"], changed["limits"]["requests_per_s"]) == (False, 2.5)
    changed = site.ok("PATCH", "/keys/web%20app", {"limits": {"concurrent_streams": 3}})
    assert changed["limits"] == {**NO_LIMITS, "concurrent_streams": 3}
    rotated = site.ok("POST", "/keys/web%20app/rotate")
    assert rotated["key"] != made["key"]
    assert site.stored.keys[1] == Key(
        name="web app",
        sha256=hash_key(rotated["key"]),
        shown=rotated["key"][:13],
        created_ms=site.stored.keys[1].created_ms,
        enabled=False,
        limits=Limits(concurrent_streams=3),
    )
    site.ok("DELETE", "/keys/web%20app")
    assert [key.name for key in site.stored.keys] == ["default"]
    for method, path in (("DELETE", ""), ("PATCH", ""), ("POST", "/rotate")):
        body = {"enabled": True} if method == "PATCH" else None
        assert site.refused(method, f"/keys/web%20app{path}", body) == (404, "record_not_found", None)


def test_a_new_key_says_where_it_is(api: AdminApi, site: Site) -> None:
    """Location is a path that the API takes."""
    reply = api.ask("POST", f"{PREFIX}/orgs/{site.name}/keys", {"name": "a b"})
    assert api.ask("PATCH", reply.headers["Location"], {"enabled": True}).json["name"] == "a b"


def test_rules(site: Site) -> None:
    """Added, replaced in place, switched, removed; what was read can be sent back."""
    for name in ("first", "second"):
        site.ok("PUT", f"/rules/{name}", {"feature": name, "target": {"model": "gpt-4o-mini"}})
    first = {"priority": 7, "model": "gpt-4o*", "failover": [{"provider": "groq"}], "first_byte_timeout_s": 2}
    changed = site.ok("PUT", "/rules/first", first)
    assert changed["warnings"] == []
    assert site.stored.rules == (
        Rule(name="first", priority=7, model="gpt-4o*", failover=(Target(provider="groq"),), first_byte_timeout_s=2),
        Rule(name="second", feature="second", target=Target(model="gpt-4o-mini")),
    )
    assert site.ok("PUT", "/rules/first", changed["rule"]) == changed
    assert site.ok("PATCH", "/rules/first", {"enabled": False})["rule"]["enabled"] is False
    assert site.stored.rules[0].enabled is False
    site.ok("DELETE", "/rules/first")
    assert [rule["name"] for rule in site.ok("GET", "/rules")["rules"]] == ["second"]
    for method, body in (("DELETE", None), ("PATCH", {"enabled": True})):
        assert site.refused(method, "/rules/first", body) == (404, "record_not_found", None)
    assert site.refused("PUT", "/rules/first", {"name": "other"}) == (422, "invalid_value", "name")
    wrong = {"first_byte_timeout_s": 601}
    assert site.refused("PUT", "/rules/first", wrong) == (422, "invalid_value", "first_byte_timeout_s")


def test_all_rules_at_once(site: Site) -> None:
    """The whole list is replaced, in its order; what may not be meant is a warning, what must not be an error."""
    rules = [{"name": "all", "target": {"model": "a"}}, {"name": "never", "model": "b", "target": {"model": "c"}}]
    answer = site.ok("PUT", "/rules", {"rules": rules})
    assert [rule["name"] for rule in answer["rules"]] == ["all", "never"]
    [warning] = answer["warnings"]
    assert warning.startswith("rule 'never' never applies: 'all' (priority 100) comes first and matches all")
    assert site.ok("GET", "/rules") == answer
    assert site.ok("PUT", "/rules", {"rules": answer["rules"]}) == answer
    stored = site.stored
    assert site.refused("PUT", "/rules", {"rules": [*rules, rules[0]]}) == (422, "invalid_value", "rules")
    assert site.refused("PUT", "/rules/x", {"model": "a*b"}) == (422, "invalid_value", "model")
    assert site.stored == stored
    assert site.ok("PUT", "/rules", {"rules": []})["rules"] == []
    assert site.stored.rules == ()


def test_ten_thousand_rules_fit(site: Site) -> None:
    """As many rules as an organisation may have, with names of full length and long models, in one request."""
    rules = [
        {"name": f"{number:063d}", "model": f"{number:06d}{'m' * 250}", "target": {"model": "gpt-4o-mini"}}
        for number in range(10_000)
    ]
    assert len(site.ok("PUT", "/rules", {"rules": rules})["rules"]) == 10_000
    assert len(site.stored.rules) == 10_000
    rules.append({"name": "one more", "target": {"model": "x"}})
    assert site.refused("PUT", "/rules", {"rules": rules}) == (422, "invalid_value", "rules")
    assert site.refused("PUT", "/rules/more", {"target": {"model": "x"}}) == (422, "invalid_value", "rules")


def test_a_rule_is_tried(site: Site) -> None:
    """What would happen to a request: the rule, those before it and why not, and whose key is missing."""
    site.ok("PUT", "/rules/chat", {"priority": 1, "feature": "chat", "target": {"model": "x"}})
    site.ok("PUT", "/rules/test", {"target": {"provider": "groq"}, "failover": [{"provider": "gemini"}]})
    question = {"provider": "openai", "model": "gpt-4o"}
    found = site.ok("POST", "/rules/test", question)
    assert (found["rule"]["name"], found["more"]) == ("test", 0)
    assert [(one["rule"]["name"], one["reason"]) for one in found["passed_over"]] == [("chat", "feature")]
    assert found["missing_credentials"] == ["gemini", "groq"]
    site.ok("PUT", "/credentials/groq", {"reference": "env:GROQ_KEY"})
    assert site.ok("POST", "/rules/test", question)["missing_credentials"] == ["gemini"]
    assert site.ok("POST", "/rules/test", {**question, "feature": "chat"})["rule"]["name"] == "chat"
    site.ok("PUT", "/rules", {"rules": []})
    assert site.ok("POST", "/rules/test", question)["rule"] is None


def test_limits(site: Site) -> None:
    """All at once: what is not named is not limited."""
    assert site.ok("GET", "/limits") == NO_LIMITS
    set_to = {
        "requests_per_s": 0.5,
        "burst_requests": 4,
        "concurrent_streams": 3,
        "body_bytes": 9,
        "file_body_bytes": 8,
    }
    assert site.ok("PUT", "/limits", set_to) == set_to
    assert site.stored.limits == msgspec.convert(set_to, Limits)
    assert site.ok("PUT", "/limits", {"body_bytes": 1}) == {**NO_LIMITS, "body_bytes": 1}
    assert site.ok("GET", "/limits") == {**NO_LIMITS, "body_bytes": 1}
    assert site.refused("PUT", "/limits", {"body_bytes": 0}) == (422, "invalid_value", "body_bytes")
    assert site.refused("PUT", "/limits", {"bodybytes": 1}) == (422, "invalid_value", "bodybytes")


def test_budgets(site: Site) -> None:
    """Added, replaced, listed, removed; amounts stay what they were, to the last digit."""
    made = site.ok("PUT", "/budgets/all", {"limit_usd": "0.10"})
    assert made == {"name": "all", "limit_usd": "0.10", "period": "month", "feature": None, "action": "alert"}
    more = {"limit_usd": "123456789.000000000000000001", "period": "day", "feature": "chat", "action": "block"}
    site.ok("PUT", "/budgets/all", more)
    assert site.stored.budgets == (
        Budget(
            name="all", limit_usd=Decimal("123456789.000000000000000001"), period="day", feature="chat", action="block"
        ),
    )
    assert site.ok("GET", "/budgets") == {"budgets": [{"name": "all", **more}]}
    site.ok("DELETE", "/budgets/all")
    assert not site.stored.budgets
    assert site.refused("DELETE", "/budgets/all") == (404, "record_not_found", None)


@pytest.mark.parametrize(
    "amount", ["0", "0.000", "-1", "1e3", "NaN", "Infinity", "1_0", " 1", "", "12345678901", 1, 0.1]
)
def test_what_is_no_amount(site: Site, amount: Any) -> None:
    """Only digits, as text, and more than 0: nothing is rounded, and nothing is without end."""
    assert site.refused("PUT", "/budgets/all", {"limit_usd": amount}) == (422, "invalid_value", "limit_usd")
    assert site.stored.budgets == ()


def test_prices(site: Site) -> None:
    """The whole list at once."""
    price = {"provider": "openai", "model": "gpt-4o*", "since_ms": 5, "input_usd": "1.25", "output_usd": "0"}
    answer = site.ok("PUT", "/prices", {"prices": [price]})
    assert answer == {"prices": [{**price, "cache_read_usd": None, "cache_write_usd": None}]}
    assert site.ok("GET", "/prices") == answer
    assert site.stored.prices == (
        Price(provider="openai", model="gpt-4o*", since_ms=5, input_usd=Decimal("1.25"), output_usd=Decimal(0)),
    )
    assert site.ok("PUT", "/prices", answer) == answer
    for field, value in (("input_usd", "-1"), ("since_ms", 4_102_444_800_001), ("model", "")):
        wrong = {"prices": [price, {**price, field: value}]}
        assert site.refused("PUT", "/prices", wrong) == (422, "invalid_value", f"prices[1].{field}")
    assert site.refused("PUT", "/prices", {"prices": [price, price]}) == (422, "invalid_value", "prices")


def test_policies(site: Site) -> None:
    """Both lists at once."""
    assert site.ok("GET", "/policies") == {"drain_features": [], "usage_features": []}
    lists = {"drain_features": ["chat", "*"], "usage_features": ["söka"]}
    assert site.ok("PUT", "/policies", lists) == lists
    assert (site.stored.drain_features, site.stored.usage_features) == (("chat", "*"), ("söka",))
    twice = {"drain_features": ["a", "a"], "usage_features": []}
    assert site.refused("PUT", "/policies", twice) == (422, "invalid_value", "drain_features")
    odd = {"drain_features": [], "usage_features": ["a\nb"]}
    assert site.refused("PUT", "/policies", odd) == (422, "invalid_value", "usage_features")


def test_azure(site: Site) -> None:
    """Resources are added, replaced in place, listed and removed."""
    endpoint = "https://one.openai.azure.com"
    made = site.ok("PUT", "/azure/default", {"endpoint": f"{endpoint}/", "api_version": "2024-10-21"})
    assert made == {"name": "default", "endpoint": endpoint, "api_version": "2024-10-21", "deployments": {}}
    site.ok("PUT", "/azure/second", {"endpoint": endpoint, "deployments": {"gpt-4o": "chat"}})
    site.ok("PUT", "/azure/default", {"endpoint": endpoint})
    assert site.stored.azure == (
        Azure(endpoint=endpoint),
        Azure(name="second", endpoint=endpoint, deployments={"gpt-4o": "chat"}),
    )
    assert [one["name"] for one in site.ok("GET", "/azure")["azure"]] == ["default", "second"]
    site.ok("DELETE", "/azure/default")
    assert [one.name for one in site.stored.azure] == ["second"]
    assert site.refused("DELETE", "/azure/default") == (404, "record_not_found", None)
    assert site.refused("PUT", "/azure/a", {"endpoint": "http://x.test"}) == (422, "invalid_value", "endpoint")
    wrong = {"endpoint": endpoint, "api_version": "new"}
    assert site.refused("PUT", "/azure/a", wrong) == (422, "invalid_value", "api_version")


def test_base_urls(site: Site) -> None:
    """Set, listed and removed, by provider; removing what is not there is no fault."""
    url = "https://llm.example.com/v1"
    assert site.ok("PUT", "/base-urls/openai", {"url": f"{url}/"}) == {"provider": "openai", "url": url}
    assert site.stored.base_urls == {"openai": url}
    assert site.ok("GET", "/base-urls") == {"base_urls": {"openai": url}}
    for _ in range(2):
        site.ok("DELETE", "/base-urls/openai")
        assert site.stored.base_urls == {}
    assert site.refused("PUT", "/base-urls/openai", {"url": "nowhere"}) == (422, "invalid_value", "url")
    assert site.refused("PUT", "/base-urls/azure", {"url": url}) == (400, "invalid_request", "provider")


def test_credentials(site: Site) -> None:
    """References by provider; a key itself is refused and not repeated."""
    assert site.ok("PUT", "/credentials/azure", {"reference": "file:/run/key"})["reference"] == "file:/run/key"
    assert site.stored.credentials == {"azure": "file:/run/key"}
    assert site.ok("GET", "/credentials") == {"credentials": {"azure": "file:/run/key"}}
    for _ in range(2):
        site.ok("DELETE", "/credentials/azure")
        assert site.stored.credentials == {}
    reply = site.api.ask("PUT", f"{PREFIX}/orgs/{site.name}/credentials/openai", {"reference": "sk-a-real-key"})
    assert reply.told == (422, "invalid_value", "reference")
    assert b"sk-a-real-key" not in reply.data


def test_what_changes_nothing_makes_no_version(api: AdminApi, site: Site) -> None:
    """The same again is the same version, and nothing in the log of changes."""
    path = f"{PREFIX}/orgs/{site.name}/rules/same"
    tags = {api.ask("PUT", path, {"target": {"model": "x"}}).headers["ETag"] for _ in range(3)}
    assert tags == {f'"{site.stored.version}"'}


@pytest.mark.parametrize(
    ("sent", "actor"), [(None, "api"), ("deploy bot", "api:deploy bot"), ("a" * 100, "api:" + "a" * 100)]
)
def test_the_log_tells_who_changed_what(site: Site, sent: str | None, actor: str) -> None:
    """Each change is in the log with its actor and what was done."""
    headers = {} if sent is None else {"X_Lectr_Actor": sent}
    site.ok("PATCH", "", {"enabled": False}, **headers)
    last: Any = site.operator._redis.xrevrange(LOG_KEY, count=1)
    [(_, fields)] = last
    assert (fields[b"actor"].decode(), fields[b"action"], fields[b"org"].decode()) == (actor, b"disable org", site.name)


def test_two_admins_at_once_lose_nothing(site: Site) -> None:
    """A hundred edits each of two admins, on one organisation at the same time: all of them are there."""

    def admin(name: str) -> None:
        for number in range(100):
            site.ok("PUT", f"/budgets/{name}-{number}", {"limit_usd": "1"})

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(admin, ("one", "two")))
    assert {budget.name for budget in site.stored.budgets} == {
        f"{name}-{number}" for name in ("one", "two") for number in range(100)
    }


def test_the_api_and_another_door_at_once_lose_nothing(site: Site) -> None:
    """The same for the API and the command line's own edits."""

    def other() -> None:
        for number in range(50):
            edit = edits.put_budget(Budget(name=f"other-{number}", limit_usd=Decimal(1)))
            site.operator.edit(site.name, edit, "put budget")

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(other)
        for number in range(50):
            site.ok("PUT", f"/rules/rule-{number}", {"target": {"model": "x"}})
        running.result()
    assert (len(site.stored.budgets), len(site.stored.rules)) == (50, 50)
