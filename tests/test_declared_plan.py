"""What would have to be done for the registry to hold what a file declares, decided without a registry."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from dashboard.declared.differences import FieldChange, differences
from dashboard.declared.faults import DeclarationFault
from dashboard.declared.plan import Plan, PlanFault, plan
from dashboard.declared.records import read_document
from shared.organisation import Azure, Budget, Key, Limits, Org, Price, Rule, Target
from tests.declared_orgs import ACME, ONE, REGISTRIES, TWO

THREE = "3" * 63 + "c"


def org(name: str, *hashes: str, version: int = 0, **more: Any) -> Org:
    keys = tuple(Key(name=f"key-{sha256[0]}", sha256=sha256) for sha256 in hashes)
    return Org(org=name, version=version, keys=keys, **more)


def known(record: Org, version: int = 7) -> Org:
    return msgspec.structs.replace(record, version=version)


def told(planned: Plan) -> list[tuple[str, str]]:
    return [(change.doing, change.org) for change in planned.changes]


def test_create_change_disable_and_leave_alone() -> None:
    """Each organisation is created, changed, disabled as it is not declared, or left alone; each at its version."""
    before = [known(org("same")), known(org("other"), 8), known(org("gone"), 9), known(org("off", enabled=False))]
    declared = [org("other", enabled=False), org("same"), org("new", ONE)]
    planned = plan(declared, before, prune=True)
    assert told(planned) == [("create", "new"), ("change", "other"), ("disable", "gone")]
    assert [change.wanted.version for change in planned.changes] == [0, 8, 9]
    assert [change.wanted.enabled for change in planned.changes] == [True, False, False]
    assert [change.fields for change in planned.changes] == [(), *[(FieldChange("enabled", "true", "false"),)] * 2]
    assert (planned.unchanged, planned.undeclared) == (("same",), ("off",))
    kept = plan(declared, before, prune=False)
    assert told(kept) == [("create", "new"), ("change", "other")]
    assert kept.undeclared == ("gone", "off")


@settings(max_examples=20)
@given(REGISTRIES, REGISTRIES)
def test_a_plan_that_was_followed_leaves_nothing_to_do(declared: list[Org], before: list[Org]) -> None:
    """After the changes, the same file asks for nothing, and every organisation is as declared or disabled."""
    records = {record.org: known(record) for record in before}
    if not declared:
        return
    for change in plan(declared, records.values(), prune=True).changes:
        assert change.fields or change.doing == "create"
        records[change.org] = known(change.wanted, 8)
    assert plan(declared, records.values(), prune=True).changes == ()
    names = {record.org for record in declared}
    assert not [record for record in records.values() if record.enabled and record.org not in names]
    assert set(records) >= names
    hashes = [key.sha256 for record in records.values() for key in record.keys]
    assert len(set(hashes)) == len(hashes)


def test_a_record_that_no_gateway_would_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is done, with its organisation and its size."""
    monkeypatch.setattr("dashboard.declared.checks.MOST_RECORD_BYTES", 40)
    with pytest.raises(DeclarationFault, match=r"beta: it takes \d+ bytes, and 40 is the most: leave rules out"):
        read_document({"orgs": {"acme": {}, "beta": {"drain_features": ["search"]}}}, "orgs.yaml")


@pytest.mark.parametrize("before", [[], [known(org("acme", ONE))]])
def test_nothing_is_pruned_to_nothing(before: list[Org]) -> None:
    """A file without organisations disables none: it looks like a template that failed; how to mean it is said."""
    with pytest.raises(PlanFault, match="to disable an organisation, declare it with enabled: false"):
        plan([], before, prune=True)
    assert plan([], before, prune=False).changes == ()


def test_what_a_file_leaves_out_of_a_key_is_kept() -> None:
    """A key whose hash is known keeps its first characters and its date; another hash does not take them over."""
    key = Key(name="a", sha256=ONE, shown="lc_key_abcdef", created_ms=5)
    before = known(msgspec.structs.replace(org("acme"), keys=(key,)))
    assert (
        plan([msgspec.structs.replace(before, keys=(Key(name="a", sha256=ONE),))], [before], prune=True).changes == ()
    )
    renamed = msgspec.structs.replace(before, keys=(Key(name="b", sha256=ONE, created_ms=6),))
    [change] = plan([renamed], [before], prune=True).changes
    assert change.wanted.keys == (Key(name="b", sha256=ONE, shown="lc_key_abcdef", created_ms=6),)
    replaced = msgspec.structs.replace(before, keys=(Key(name="a", sha256=TWO),))
    [change] = plan([replaced], [before], prune=True).changes
    assert change.wanted.keys == (Key(name="a", sha256=TWO),)


def test_a_key_moves_to_another_organisation() -> None:
    """It is given before it is taken away; who is not declared any more gives it up, so that it is nobody's twice."""
    moved = plan([org("a", TWO), org("b", ONE)], [known(org("a", ONE)), known(org("b", TWO))], prune=True)
    assert {change.org: change.shuts_out for change in moved.changes} == {"a": ("key-1",), "b": ("key-2",)}
    given = plan([org("a"), org("b", ONE)], [known(org("a", ONE)), known(org("b"))], prune=True)
    assert told(given) == [("change", "b"), ("change", "a")]
    renamed = plan([org("acme-eu", ONE)], [known(org("acme", ONE, TWO))], prune=True)
    assert told(renamed) == [("create", "acme-eu"), ("disable", "acme")]
    assert [key.sha256 for key in renamed.changes[1].wanted.keys] == [TWO]
    off = plan([org("acme-eu", ONE)], [known(org("acme", ONE, enabled=False))], prune=True)
    assert told(off) == [("create", "acme-eu"), ("disable", "acme")]
    with pytest.raises(
        PlanFault, match="key 'key-1' of org 'acme', which is not declared, has the hash of a key of 'b'"
    ):
        plan([org("b", ONE)], [known(org("acme", ONE))], prune=False)


@pytest.mark.parametrize(
    ("before", "after", "shut_out"),
    [
        (org("a", ONE, TWO), org("a", ONE), ("key-2",)),
        (org("a", ONE), org("a", THREE), ("key-1",)),
        (org("a", ONE), org("a", ONE, enabled=False), ("org",)),
        (org("a", ONE, enabled=False), org("a"), ()),
        (org("a", ONE), org("a", ONE, TWO), ()),
        (
            Org(org="a", version=0, keys=(Key(name="x", sha256=ONE),)),
            Org(org="a", version=0, keys=(Key(name="x", sha256=ONE, enabled=False),)),
            ("x",),
        ),
        (
            Org(org="a", version=0, keys=(Key(name="x", sha256=ONE, enabled=False),)),
            Org(org="a", version=0),
            (),
        ),
    ],
)
def test_who_is_refused_afterwards_is_known_before(before: Org, after: Org, shut_out: tuple[str, ...]) -> None:
    """A change says which keys, or whether the whole organisation, were served and will not be."""
    [change] = plan([after], [known(before)], prune=True).changes
    assert change.shuts_out == shut_out


def test_the_log_of_changes_says_what_was_done() -> None:
    """The action names the fields, never a value, and is not longer than a line."""
    after = org("a", TWO, limits=Limits(body_bytes=1))
    [change] = plan([after], [known(org("a", ONE))], prune=True).changes
    assert change.action == "declare keys[key-1], keys[key-2], limits.body_bytes"
    assert plan([after], [], prune=True).changes[0].action == "create from file"
    assert plan([org("b")], [known(org("a"))], prune=True).changes[1].action == "disable org, not declared"
    moved = plan([org("b", ONE)], [known(org("a", ONE)), known(org("c", TWO))], prune=True)
    assert {change.org: change.action for change in moved.changes if change.doing == "disable"} == {
        "a": "disable org and take keys[key-1] away, not declared",
        "c": "disable org, not declared",
    }
    off = plan([org("b", ONE)], [known(org("a", ONE, enabled=False))], prune=True)
    assert off.changes[1].action == "take keys[key-1] away, not declared"
    many = tuple(Rule(name=f"rule-{n}") for n in range(100))
    [change] = plan([org("a", rules=many)], [known(org("a"))], prune=True).changes
    assert len(change.action) == 303


def changed(**fields: Any) -> list[FieldChange]:
    return [*differences(ACME, msgspec.structs.replace(ACME, **fields))]


def test_differences_name_the_field() -> None:
    """What differs is said by name, the old value and the new one, in short; a hash by its first digits."""
    [default, ci] = ACME.keys
    [rule] = ACME.rules
    assert changed() == []
    assert changed(version=9) == []
    assert changed(enabled=False) == [FieldChange("enabled", "true", "false")]
    assert changed(limits=Limits(body_bytes=5)) == [
        FieldChange("limits.requests_per_s", "0.5", None),
        FieldChange("limits.body_bytes", None, "5"),
    ]
    assert changed(keys=(ci,)) == [FieldChange("keys[default]", '{"name":"default","sha256":"11111111..."}', None)]
    assert changed(keys=(msgspec.structs.replace(default, sha256=TWO), ci)) == [
        FieldChange("keys[default].sha256", "11111111...", "22222222...")
    ]
    assert changed(keys=(msgspec.structs.replace(default, shown="lc_key_ab-_12\n"), ci)) == [
        FieldChange("keys[default].shown", "", "lc_key_ab-_12\\n")
    ]
    assert changed(keys=(ci, default)) == [FieldChange("keys", "default, ci", "ci, default")]
    assert changed(rules=(msgspec.structs.replace(rule, target=Target(model="x"), failover=()),)) == [
        FieldChange("rules[cheap].target.model", "gpt-4o-mini", "x"),
        FieldChange("rules[cheap].failover", '[{"provider":"groq"}]', "[]"),
    ]
    assert changed(budgets=(Budget(name="month", limit_usd=Decimal("250.1")), *ACME.budgets[2:])) == [
        FieldChange("budgets[day]", '{"name":"day","limit_usd":"0.1","period":"day","action":"block"}', None)
    ]
    assert changed(azure=(Azure(endpoint="https://b.example"),)) == [
        FieldChange("azure[default].endpoint", "https://acme.openai.azure.com", "https://b.example"),
        FieldChange("azure[default].api_version", "2024-10-21", ""),
        FieldChange("azure[default].deployments[gpt-4o]", "team", None),
    ]
    assert changed(base_urls={"groq": "https://g.example/v1"}) == [
        FieldChange("base_urls[openai]", "https://llm.example.com/v1", None),
        FieldChange("base_urls[groq]", None, "https://g.example/v1"),
    ]
    price = Price(provider="openai", model="gpt-4o", input_usd=Decimal(3), output_usd=Decimal(10))
    assert changed(prices=(price,)) == [FieldChange("prices[openai/gpt-4o since 0].input_usd", "2.50", "3")]
    assert changed(drain_features=()) == [FieldChange("drain_features", '["*"]', "[]")]
    [long] = changed(credentials={"groq": "file:/" + "x" * 500})
    assert len(str(long.new)) == 83
