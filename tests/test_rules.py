"""Which rule applies to a request, and why."""

import random
import string
from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared import rules as room
from shared.organisation import MOST_RULES, Rule, Target
from shared.rules import MOST_EXPLAINED, PassedOver, RuleTable, explain, is_reasoning, problems_of

Request = tuple[str, str, str, str]
ASKED: Final = {"feature": "checkout", "task": "extraction", "provider": "openai", "model": "gpt-5-mini"}
OTHER: Final = {"feature": "search", "task": "generation", "provider": "groq", "model": "gpt-5"}
CHEAP: Final = Target(model="cheap")


def rule(name: str = "r", **conditions: Any) -> Rule:
    return Rule(name=name, target=CHEAP, **conditions)


def numbered(*rules: dict[str, Any]) -> list[Rule]:
    return [rule(f"r{number}", **conditions) for number, conditions in enumerate(rules)]


def found(rules: Sequence[Rule], feature: str = "", task: str = "", provider: str = "openai", model: str = "") -> str:
    """The name of the rule that applies; empty if none does."""
    applies = RuleTable(rules).find(feature, task, provider, model)
    return applies.name if applies else ""


def applies_alone(rule: Rule, request: Request) -> bool:
    """Whether a rule applies where it is the only one: the sentence in the specification, word by word."""
    feature, task, provider, model = request
    if not rule.enabled or (rule.recommended and task.strip().lower() == "reasoning"):
        return False
    wanted = ((rule.feature, feature), (rule.task, task), (rule.provider, provider))
    if any(condition is not None and condition != value for condition, value in wanted):
        return False
    if rule.model is None:
        return True
    return model.startswith(rule.model[:-1]) if rule.model.endswith("*") else model == rule.model


def scanned(rules: Sequence[Rule], request: Request) -> Rule | None:
    """The first that applies, by looking at one after the other."""
    return next((rule for rule in sorted(rules, key=lambda one: one.priority) if applies_alone(rule, request)), None)


@pytest.mark.parametrize("conditions", list(product([True, False], repeat=4)))
def test_all_conditions_that_are_set_must_hold(conditions: tuple[bool, ...]) -> None:
    """Each of the 16 choices of conditions applies to what meets it, and to nothing that misses one of them."""
    chosen = [name for name, is_set in zip(ASKED, conditions, strict=True) if is_set]
    rules = [rule("r", **{name: ASKED[name] for name in chosen})]
    for misses in product([True, False], repeat=4):
        request = {name: OTHER[name] if miss else ASKED[name] for name, miss in zip(ASKED, misses, strict=True)}
        expected = "r" if all(request[name] == ASKED[name] for name in chosen) else ""
        assert found(rules, **request) == expected, (chosen, request)


def test_no_rules_match_nothing() -> None:
    """An empty table, and one in which nothing is enabled, have no rule for any request."""
    assert RuleTable([]).find("untagged", "", "openai", "gpt-5") is None
    assert found([rule(enabled=False), rule(enabled=False, recommended=True, model="*")]) == ""


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"priority": 2}, {"priority": 1}], "r1"),
        ([{"priority": 1}, {"priority": 1}], "r0"),
        ([{"priority": 0, "model": "*"}, {"priority": 0}], "r0"),
        ([{}, {"priority": 99, "feature": "f"}], "r1"),
        ([{"model": "gpt*"}, {"model": "gpt-5"}, {"model": "*"}, {}], "r0"),
        ([{"model": "gpt-5"}, {"model": "gpt*", "priority": 99}], "r1"),
        ([{"enabled": False, "priority": 0}, {"priority": 5}], "r1"),
        ([{"feature": "f", "task": "t", "provider": "openai", "model": "gpt-5"}, {"priority": 0, "task": "t"}], "r1"),
        ([{"feature": "f"}, {"task": "t"}, {"provider": "openai"}, {"model": "gpt-5"}], "r0"),
        ([{"feature": "x"}, {"task": "x"}, {"provider": "azure"}, {"model": "x"}, {"provider": "openai"}], "r4"),
    ],
)
def test_the_lowest_priority_comes_first_and_then_the_first(rules: list[dict[str, Any]], expected: str) -> None:
    """Priority decides, then where a rule stands; how much it asks for does not matter, nor does a disabled rule."""
    assert found(numbered(*rules), "f", "t", "openai", "gpt-5") == expected


@pytest.mark.parametrize(
    ("condition", "matching", "others"),
    [
        ("gpt-5", ["gpt-5"], ["gpt-5-mini", "gpt-", "GPT-5", " gpt-5", "gpt-5\0", "gpt-5*", ""]),
        ("gpt-5*", ["gpt-5", "gpt-5-mini", "gpt-5*", "gpt-5\U0010ffff", "gpt-5\0"], ["gpt-", "gpt-6", "Gpt-5", ""]),
        ("*", ["", "x", "*", "\0", "\U0010ffff"], []),
        ("", [""], ["x", "\0"]),
        ("\0", ["\0"], ["", "\0\0"]),
        ("\0*", ["\0", "\0\0", "\0x"], ["", "x"]),
        ("\u7530*", ["\u7530", "\u7530x"], ["\u752f", "\u7531", "\u75300"[1:]]),
        ("caf\u00e9*", ["caf\u00e9", "caf\u00e9-1"], ["cafe\u0301", "caf\u00ea"]),
        ("\U0010ffff*", ["\U0010ffff", "\U0010ffff\U0010ffff"], ["\U0010fffe", "\uffff"]),
        ("\ud800*", ["\ud800", "\ud800x"], ["\ud801", "\ue000"]),
        ("\x7f*", ["\x7f", "\x7f\u0080"], ["\u0080", "~"]),
        ("**", ["*", "*x"], ["", "x"]),
        ("a*b", ["a*b"], ["aab", "ab"]),
    ],
)
def test_a_model_is_a_whole_name_or_a_beginning(condition: str, matching: list[str], others: list[str]) -> None:
    """A trailing star stands for any end, an empty one too; everything else is compared letter by letter."""
    assert {model: found([rule(model=condition)], model=model) for model in matching} == dict.fromkeys(matching, "r")
    assert {model: found([rule(model=condition)], model=model) for model in others} == dict.fromkeys(others, "")


@pytest.mark.parametrize("name", ["feature", "task"])
@pytest.mark.parametrize("value", ["untagged", "", "*", "Caf\u00e9", "\u7530", "a" * 1024, "\udcff"])
def test_feature_and_task_are_compared_exactly(name: str, value: str) -> None:
    """`untagged`, `*` and the empty value are values like any other; case, blanks and prefixes count."""
    rules = [rule(**{name: value})]
    assert found(rules, **{name: value}) == "r"
    for other in (value.swapcase() + "x", value + " ", f" {value}", value[1:] or "y"):
        assert found(rules, **{name: other}) == ""


def test_a_long_model_is_compared_to_its_end() -> None:
    """A name longer than every condition is the whole name of none, and still begins with some."""
    long = "gpt-5" * 4000
    assert found(numbered({"model": "gpt-5"}, {"model": "gpt-5*"}), model=long) == "r1"
    assert found(numbered({"model": "gpt-5"}, {"model": "gpt-5\0"}), model="gpt-5\0x") == ""
    assert found(numbered({"model": "\u00e9\u00e9"}), model="\u00e9\u00e9\u00e9") == ""
    assert found(numbered({"model": long}), model=long) == "r0"


@pytest.mark.parametrize("task", ["reasoning", "Reasoning", " Reasoning", "REASONING\t", "\u3000reasoning "])
def test_a_recommended_rule_leaves_reasoning_alone(task: str) -> None:
    """However the task is written and whatever the rule asks for, a recommendation does not apply to it."""
    assert is_reasoning(task)
    for conditions in ({}, {"task": task}, {"model": "*"}, {"feature": "f", "model": "gpt*"}):
        rules = numbered({"recommended": True, **conditions}, {"priority": 999, **conditions})
        assert found(rules[:1], "f", task, "openai", "gpt-5") == ""
        assert found(rules, "f", task, "openai", "gpt-5") == "r1"
        assert explain(RuleTable(rules), "f", task, "openai", "gpt-5").passed_over == (
            PassedOver(rules[0], "reasoning"),
        )


@pytest.mark.parametrize("task", ["", "generation", "reason", "reasoning2", "reaso ning", "generatio", "\u0130" * 9])
def test_the_guard_is_for_reasoning_alone(task: str) -> None:
    """Any other task, a missing one too, is a recommendation's to route; an operator's own rule routes reasoning."""
    assert found([rule(recommended=True)], task=task) == "r"
    assert found([rule()], task="reasoning") == "r"


def test_the_guard_stands_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table, explanation and problems all ask the same function: what it guards is guarded everywhere."""
    monkeypatch.setattr(room, "is_reasoning", lambda task: task in {"secret", "reasoning"})
    rules = numbered({"recommended": True}, {"recommended": True, "task": "secret"})
    assert found(rules, task="secret") == ""
    assert [one.reason for one in explain(RuleTable(rules), "", "secret", "", "").passed_over] == ["reasoning"] * 2
    assert len(problems_of(rules).warnings) == 1


TEXTS: Final = st.sampled_from(["", "a", "b", "untagged", "reasoning", " Reasoning", "\u00e9"])
NAMES: Final = st.text(alphabet="ab\0\u00ff\u7530\U0001f600\udcff*", max_size=5)
CHAINS: Final = st.builds(lambda length, end: "a" * length + end, st.integers(0, 40), st.sampled_from(["", "b", "\0"]))
MODELS: Final = NAMES | CHAINS
CONDITIONS: Final = st.none() | MODELS | MODELS.map(lambda model: model + "*")
RULES: Final = st.lists(
    st.builds(
        rule,
        st.just("r"),
        priority=st.integers(0, 3),
        enabled=st.sampled_from([True, True, True, False]),
        feature=st.none() | TEXTS,
        task=st.none() | TEXTS,
        provider=st.sampled_from([None, "openai", "groq"]),
        model=CONDITIONS,
        recommended=st.booleans(),
    ),
    max_size=30,
)
REQUESTS: Final = st.tuples(TEXTS, TEXTS, st.sampled_from(["openai", "groq", "gemini"]), MODELS)


@given(RULES, st.lists(REQUESTS, min_size=1, max_size=10))
@example([rule(feature="a"), rule(provider="openai")], [("a", "", "groq", "")])
def test_the_index_finds_what_a_scan_finds(rules: list[Rule], requests: list[Request]) -> None:
    """For any rules and any request the answer is the very rule that looking at all of them would give."""
    table = RuleTable(rules)
    # What rules themselves name is where spans begin and end.
    requests += [(one.feature or "", one.task or "", one.provider or "groq", one.model or "") for one in rules]
    for request in requests:
        assert table.find(*request) is scanned(rules, request)


@given(RULES, REQUESTS)
def test_an_explanation_agrees_with_the_rules(rules: list[Rule], request: Request) -> None:
    """It names the rule that applies and all before it in order, none of which applies by itself."""
    table = RuleTable(rules)
    explained = explain(table, *request)
    ordered = sorted(rules, key=lambda one: one.priority)
    before = next((at for at, one in enumerate(ordered) if applies_alone(one, request)), len(ordered))
    assert explained.rule is scanned(rules, request)
    assert len(explained.passed_over) == min(before, MOST_EXPLAINED)
    assert explained.more == before - len(explained.passed_over)
    wanted = dict(zip(("feature", "task", "provider"), request[:3], strict=True))
    for passed, one in zip(explained.passed_over, ordered, strict=False):
        assert passed.rule is one
        assert not applies_alone(one, request)
        if passed.reason in wanted:
            assert getattr(one, passed.reason) not in {None, wanted[passed.reason]}
        elif passed.reason == "disabled":
            assert not one.enabled
        elif passed.reason == "model":
            assert not applies_alone(Rule(name="m", model=one.model), request)
        else:
            assert one.recommended
            assert is_reasoning(request[1])


@pytest.mark.parametrize(
    ("earlier", "later", "taken"),
    [
        ({}, {"feature": "f", "task": "t", "provider": "groq", "model": "m"}, True),
        ({}, {}, True),
        ({"model": "*"}, {}, True),
        ({}, {"model": "*"}, True),
        ({"feature": "f"}, {"feature": "f", "model": "m*"}, True),
        ({"feature": "f"}, {"model": "m"}, False),
        ({"feature": "f"}, {"feature": "g"}, False),
        ({"task": "t"}, {"feature": "t"}, False),
        ({"provider": "groq"}, {"provider": "groq", "task": "t"}, True),
        ({"model": "gpt*"}, {"model": "gpt-5*"}, True),
        ({"model": "gpt*"}, {"model": "gpt*"}, True),
        ({"model": "gpt*"}, {"model": "gpt"}, True),
        ({"model": "gpt*"}, {"model": "gp*"}, False),
        ({"model": "gpt*"}, {}, False),
        ({"model": "gpt"}, {"model": "gpt*"}, False),
        ({"model": "gpt"}, {"model": "gpt"}, True),
        ({"model": ""}, {"model": "*"}, False),
        ({"model": "\U0010ffff*"}, {}, False),
        ({"model": "gpt\U0010ffff*"}, {"model": "gpt*"}, False),
        ({"enabled": False}, {}, False),
        ({"recommended": True}, {}, False),
        ({"recommended": True}, {"task": "Reasoning"}, False),
        ({"recommended": True}, {"task": "generation"}, True),
        ({"recommended": True}, {"recommended": True}, True),
        ({}, {"recommended": True}, True),
    ],
)
def test_a_rule_that_asks_for_no_more_takes_all(earlier: dict[str, Any], later: dict[str, Any], *, taken: bool) -> None:
    """A later rule never applies if everything that it matches is an earlier one's; part of it is not enough."""
    first, second = rule("first", **earlier), rule("second", **later)
    assert RuleTable([first, second]).taken_by(1) is (first if taken else None)
    # Another order, another rule that might be taken; priorities count, not where they stand.
    behind = [rule("first", priority=2, **earlier), rule("second", priority=1, **later)]
    assert RuleTable(behind).taken_by(0) is None


@given(RULES, st.lists(REQUESTS, max_size=20))
def test_a_rule_is_called_shadowed_exactly_when_another_one_covers_it(
    rules: list[Rule], requests: list[Request]
) -> None:
    """A rule that is said never to apply does not; and it is said whenever an earlier one asks for no more."""
    table = RuleTable(rules)
    for place, one in enumerate(table.ordered):
        if not one.enabled or (one.recommended and is_reasoning(one.task or "")):
            continue
        covering = [earlier for earlier in table.ordered[:place] if covers(earlier, one)]
        taken = table.taken_by(place)
        assert taken is (covering[0] if covering else None)
        if taken:
            assert all(table.find(*request) is not one for request in requests)


def covers(earlier: Rule, later: Rule) -> bool:
    """Whether each condition of the earlier rule holds wherever that of the later one does."""
    if not earlier.enabled or any(
        getattr(earlier, name) not in {None, getattr(later, name)} for name in ("feature", "task", "provider")
    ):
        return False
    if earlier.recommended and not later.recommended and (later.task is None or is_reasoning(later.task)):
        return False
    if earlier.model is None or earlier.model == "*":
        return True
    if later.model is None:
        return False
    if not earlier.model.endswith("*"):
        return earlier.model == later.model
    return later.model.removesuffix("*").startswith(earlier.model[:-1])


def many() -> dict[str, list[Rule]]:
    """Sets of the most rules that there may be, each of a kind that some index is bad at."""
    draw = random.Random(7)
    order = draw.sample(range(MOST_RULES), MOST_RULES)
    chains = [string.ascii_letters[at // 1000] * (at % 1000 + 1) for at in range(MOST_RULES)]
    some = ["a", "b", "reasoning"]
    return {
        "nested": [rule(priority=order[at], model=chain + "*") for at, chain in enumerate(chains)],
        "features": [rule(feature=f"f{at}") for at in range(MOST_RULES)],
        "mixed": [
            rule(
                priority=order[at],
                feature=draw.choice([None, *some]),
                task=draw.choice([None, *some]),
                provider=draw.choice([None, "openai", "groq"]),
                model=draw.choice([None, "*", chain, chain + "*", chain + "b"]),
                recommended=at % 2 == 0,
            )
            for at, chain in enumerate(chains)
        ],
    }


@pytest.mark.parametrize("kind", ["nested", "features", "mixed"])
def test_the_most_rules_are_found_like_few(kind: str) -> None:
    """With 10,000 rules, prefixes nested a thousand deep among them, answers are those of a scan."""
    rules = many()[kind]
    table = RuleTable(rules)
    draw = random.Random(8)
    for one in draw.sample(rules, 100):
        model = (one.model or "c").removesuffix("*") + draw.choice(["", "b", "c", "*"])
        request = (one.feature or "a", one.task or "b", one.provider or "gemini", model)
        assert table.find(*request) is scanned(rules, request)


@pytest.mark.parametrize("kind", ["nested", "features", "mixed"])
def test_an_index_is_as_large_as_its_rules(kind: str) -> None:
    """Two edges a rule and two strips, nested or not; a flood of questions leaves nothing behind."""
    table = RuleTable(many()[kind])

    def size() -> list[int]:
        strips = [index._strips for index in (table._all, table._for_reasoning)]
        return [
            len(table._edges),
            *(len(names) for names in (table._features, table._tasks, table._providers)),
            *(sum(len(starts) + len(places) for starts, places in groups.values()) for groups in strips),
        ]

    before = size()
    assert max(before) <= 5 * MOST_RULES
    for number in range(20_000):
        table.find(f"flood-{number}", f"flood-{number}", "openai", f"flood-{number}")
    assert size() == before
