"""`python -m tests.faulty_rules`: the gateway with defects in its rules, each for the requests of one feature."""

from typing import Any

from gateway import attempts, directory
from gateway.__main__ import main
from shared.rules import RuleTable

FAULTS: dict[str, type[Exception]] = {
    "find": ZeroDivisionError,
    "plan": KeyError,
    "deployed": RecursionError,
    "edit": MemoryError,
}
"""By feature: where it goes wrong is named like it."""
UNBUILDABLE = "unbuildable"
"""Rules cannot be indexed where one is named so."""


def fail(feature: str, where: str) -> None:
    if feature == where:
        raise FAULTS[where]("sk-canary: what an exception says may quote the request")


class FaultyTable(RuleTable):
    def __init__(self, rules: Any) -> None:
        if any(rule.name == UNBUILDABLE for rule in rules):
            raise AssertionError(UNBUILDABLE)
        super().__init__(rules)

    def find(self, feature: str, *more: Any) -> Any:
        fail(feature, "find")
        return super().find(feature, *more)


def arm() -> None:
    """Put the defects in."""
    place: Any = attempts
    plan, as_deployed = place.plan, place.as_deployed

    def faulty_plan(router: Any, rule: Any, asked: Any) -> Any:
        fail(asked.head.feature, "plan")
        found = plan(router, rule, asked)
        fail(asked.head.feature, "edit")
        return found

    def faulty_as_deployed(step: Any, asked: Any) -> Any:
        fail(asked.head.feature, "deployed")
        return as_deployed(step, asked)

    place.plan, place.as_deployed = faulty_plan, faulty_as_deployed
    place = directory
    place.RuleTable = FaultyTable


if __name__ == "__main__":
    arm()
    main()
