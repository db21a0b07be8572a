"""What many rules cost a request is counted, not timed: finding one of 10,000 calls as many functions as one of ten."""

import pytest

from gateway.auth import authenticate
from gateway.directory import Directory
from shared.organisation import MOST_RULES, Key, Org
from shared.registry import hash_key
from shared.rules import RuleTable
from tests.bench.rules import MIXTURES, Mixture, fresh
from tests.test_registry_size import calls_of

ASKED = 200
MOST_CALLS = 40
"""Eight look-ups and eight bisections, and what turns a request into numbers."""


def calls_of_finding(mixture: Mixture, rules: int) -> list[int]:
    """Of each question, to so many rules."""
    table = RuleTable([mixture.rule(number) for number in range(rules)])
    questions = [fresh(mixture.question(number, rules)) for number in range(ASKED)]
    return [calls_of(lambda asked=question: table.find(*asked)) for question in questions]  # type: ignore[misc]


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda mixture: mixture.name)
def test_a_rule_is_found_as_fast_among_any_number(mixture: Mixture) -> None:
    """However rules are mixed: never more than a fixed number of calls, and ten times as many rules add none."""
    few, many, most = (max(calls_of_finding(mixture, rules)) for rules in (10, MOST_RULES // 10, MOST_RULES))
    assert few <= many == most <= MOST_CALLS


def test_a_request_does_not_count_the_rules_of_its_organisation() -> None:
    """From the key to the rule, as a gateway asks: as many calls with 10,000 rules as with ten, of which none applies.

    What is made of a record is made when the first request needs it.
    """
    mixture = next(one for one in MIXTURES if one.name == "usual: nothing applies")
    called = []
    for rules in (10, MOST_RULES):
        key = hash_key(f"key of {rules}")
        made = tuple(mixture.rule(number) for number in range(rules))
        directory = Directory()
        directory.merge([Org(org="acme", version=1, keys=(Key(name="default", sha256=key),), rules=made)])

        def ask(at: Directory = directory, with_key: str = key) -> None:
            table = authenticate(with_key, at).account.rules
            assert all(table.find(*mixture.question(number, 10)) is None for number in range(ASKED))

        ask()
        called.append(calls_of(ask))
    assert len(set(called)) == 1
