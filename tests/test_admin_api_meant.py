"""What the admin API takes without a doubt: rules, limits and amounts that mean something, and are read as stored."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import pytest

from dashboard import edits
from shared.organisation import Budget
from tests.admin_api import AdminApi, admin_apis

BURST: Final = {"limits": {"burst_requests": 5}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_api_meant")) as made:
        yield made


def test_targets_of_rules(api: AdminApi) -> None:
    """A * in a target's model is refused; a model that reads like provider and model is warned of."""
    api.ok("POST", "/orgs", {"org": "ruled"})
    star, ok = {"model": "gpt-4o*"}, {"model": "gpt-4o"}
    for wrong, field in (({"target": star}, "target.model"), ({"failover": [ok, star]}, "failover[1].model")):
        assert api.refused("PUT", "/orgs/ruled/rules/r", wrong) == (422, "invalid_value", field)
        rules = [{"name": "good"}, {"name": "wrong", **wrong}]
        assert api.refused("PUT", "/orgs/ruled/rules", {"rules": rules}) == (422, "invalid_value", f"rules[1].{field}")
    [warning] = api.ok("PUT", "/orgs/ruled/rules/r", {"target": {"model": "grok/x"}})["warnings"]
    assert warning.startswith("rule 'r': a target's model 'grok/x' goes to whatever provider")
    known = {"target": {"provider": "groq", "model": "openai/gpt-oss-120b"}}
    assert api.ok("PUT", "/orgs/ruled/rules/r", known)["warnings"] == []


def test_a_recommended_rule_stays_one(api: AdminApi) -> None:
    """A change that does not speak of it keeps the guard of reasoning, of one rule or of all; one that does decides."""
    api.ok("POST", "/orgs", {"org": "guarded"})
    rule, rules = "/orgs/guarded/rules/r", "/orgs/guarded/rules"
    assert api.ok("PUT", rule, {"model": "a"})["rule"]["recommended"] is False
    for said, kept in (({}, False), ({"recommended": True}, True), ({}, True), ({"recommended": False}, False)):
        changed = api.ok("PUT", rule, {"model": "b", **said})["rule"]
        assert (changed["model"], changed["recommended"]) == ("b", kept)
    assert api.refused("PUT", rule, {"recommended": None}) == (422, "invalid_value", "recommended")
    for said, kept in (({"recommended": True}, True), ({}, True), ({"recommended": False}, False), ({}, False)):
        wanted = {"rules": [{"name": "new"}, {"name": "r", "priority": 1, **said}]}
        assert [one["recommended"] for one in api.ok("PUT", rules, wanted)["rules"]] == [False, kept]
        assert api.ok("PUT", rules, {"rules": api.ok("GET", rules)["rules"]})["rules"][1]["recommended"] is kept


def test_a_burst_is_one_of_a_rate(api: AdminApi) -> None:
    """Without one it is refused; that of a key may be the organisation's, which cannot be taken away from it."""
    api.ok("POST", "/orgs", {"org": "limited"})
    limits, keys = "/orgs/limited/limits", "/orgs/limited/keys"
    assert api.refused("PUT", limits, BURST["limits"]) == (422, "invalid_value", "burst_requests")
    assert api.refused("PATCH", f"{keys}/default", BURST) == (422, "invalid_value", "limits.burst_requests")
    assert api.refused("POST", keys, {"name": "b", **BURST}) == (422, "invalid_value", "limits.burst_requests")
    api.ok("PUT", limits, {"requests_per_s": 1})
    assert api.ok("PATCH", f"{keys}/default", BURST)["limits"]["burst_requests"] == 5
    assert api.refused("PUT", limits, {"body_bytes": 1}) == (422, "invalid_value", "requests_per_s")


@pytest.mark.parametrize(("amount", "shown"), [("1e3", "1000"), ("1e-18", "1E-18"), ("0.10", "0.10")])
def test_an_amount_can_be_sent_back(api: AdminApi, amount: str, shown: str) -> None:
    """Whatever door it came through, and however small it is."""
    name = f"spends-{shown.lower()}"
    api.ok("POST", "/orgs", {"org": name})
    operator = api.operator()
    operator.edit(name, edits.put_budget(Budget(name="all", limit_usd=Decimal(amount))), "another door")
    operator.close()
    [read] = api.ok("GET", f"/orgs/{name}/budgets")["budgets"]
    assert read["limit_usd"] == shown
    assert api.ok("PUT", f"/orgs/{name}/budgets/all", read) == read
