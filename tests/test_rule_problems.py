"""What is wrong with rules taken together: errors must not be stored, warnings may not be meant."""

from typing import Any, Final

import pytest

from shared import rules as room
from shared.organisation import MOST_RULES, Rule, Target
from shared.rules import problems_of

CHEAP: Final = Target(model="cheap")


def rule(name: str, **conditions: Any) -> Rule:
    return Rule(name=name, target=CHEAP, **conditions)


def test_problems_name_the_rule_and_the_fix() -> None:
    """Errors are what must not be stored, warnings what may not be meant; good rules have neither."""
    rules = [
        rule("wide", model="gpt*", priority=1),
        rule("twice", model="gpt-5", priority=2),
        rule("twice", model="gp*", priority=2),
        rule("star", model="a*b", priority=3),
        Rule(name="idle", feature="f", priority=0),
        rule("asleep", model="gpt-5", enabled=False),
        rule("guarded", task=" Reasoning", model="o*", recommended=True),
        Rule(name="failover", feature="g", failover=(CHEAP,)),
    ]
    problems = problems_of(rules)
    assert problems.errors == [
        "2 rules are named 'twice': rename all but one",
        "rule 'star': model 'a*b' has a * before its end; only the last character may be one",
    ]
    idle, twice, guarded = problems.warnings
    assert idle == "rule 'idle' changes nothing, and keeps later rules off what it matches: set a target or a failover"
    assert twice.startswith("rule 'twice' never applies: 'wide' (priority 1) comes first and matches all that it ")
    assert twice.endswith("matches; put it before that one, or remove it")
    assert guarded == "rule 'guarded' never applies: it is recommended, and its task is 'reasoning'; remove it"
    assert problems_of([]) == problems_of([rules[0], rules[-1]]) == room.Problems([], [])


@pytest.mark.parametrize("model", ["*", "gpt-4o*", "a*b"])
@pytest.mark.parametrize("place", ["target", "failover"])
def test_a_target_is_one_model(place: str, model: str) -> None:
    """A * in it is an error: it would be asked for as it stands."""
    wanted = Target(model=model)
    made = Rule(name="r", target=wanted) if place == "target" else Rule(name="r", failover=(CHEAP, wanted))
    assert problems_of([made]).errors == [
        f"rule 'r': a target's model {model!r} has a *, and a request asks for one model: give its whole name"
    ]


@pytest.mark.parametrize(
    ("made", "warned"),
    [
        (Rule(name="r", target=Target(model="nosuch/gpt-4o")), ["nosuch/gpt-4o"]),
        (Rule(name="r", target=CHEAP, failover=(Target(model="openai/gpt-oss-120b"),)), ["openai/gpt-oss-120b"]),
        (Rule(name="r", target=Target(model="a/b"), failover=(Target(model="c/d"),)), ["a/b", "c/d"]),
        (Rule(name="r", target=Target(provider="groq", model="openai/gpt-oss-120b")), []),
        (Rule(name="r", provider="groq", target=Target(model="openai/gpt-oss-120b")), []),
        (Rule(name="r", model="meta-llama/*", target=Target(model="openai/gpt-oss-120b")), []),
        (Rule(name="r", target=Target(provider="groq")), []),
    ],
)
def test_a_model_that_reads_like_a_provider_too_is_a_warning(made: Rule, warned: list[str]) -> None:
    """Unless the rule says which provider has a model of that name; both fixes are named."""
    problems = problems_of([made])
    assert problems.errors == []
    for model, warning in zip(warned, problems.warnings, strict=True):
        assert f"'r': a target's model {model!r} goes to whatever provider the request was for" in warning
        assert f"if {model.split('/')[0]!r} is meant as one, give provider and model apart" in warning
        assert "if it is part of the model's name, give the provider that has the model" in warning


def test_a_time_for_tries_without_another_target_is_a_warning() -> None:
    """It would end nothing: the last target has all the time that the gateway gives."""
    problems = problems_of([rule("r", first_byte_timeout_s=2, failover=(CHEAP,)), rule("s", first_byte_timeout_s=2)])
    warning = "rule 's': first_byte_timeout_s ends no try, as no other target is left: set a failover"
    assert (problems.errors, problems.warnings[0]) == ([], warning)


def test_too_many_rules_are_one_error() -> None:
    """The most rules are no problem; one more is, and nothing else is said of so many."""
    rules = [rule(f"r{number}", feature=f"f{number}") for number in range(MOST_RULES)]
    assert problems_of(rules) == room.Problems([], [])
    problems = problems_of([*rules, rule("r0")])
    assert problems == room.Problems(["10001 rules, and an organisation may have 10000: remove some"], [])
