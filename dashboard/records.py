"""An organisation as people and programs are shown it, and what its rules make of a request. Pure.

What the command line prints and the HTTP API answers is made here. Hashes of keys are never in it.
"""

from typing import Any

import msgspec

from shared.organisation import Org, Rule
from shared.rules import PassedOver, RuleTable, explain


class RuleTest(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a request."""

    rule: Rule | None
    """The rule that applies; without one the request goes where it was going."""
    passed_over: tuple[PassedOver, ...]
    """The first rules before it, each with the first reason why it does not apply."""
    more: int
    """How many other rules before it do not apply either."""
    missing_credentials: tuple[str, ...]
    """Providers that the rule sends to and that the organisation has no key of: those targets are left out."""


def record(org: Org) -> dict[str, Any]:
    """An organisation as plain values: everything but hashes."""
    shown: dict[str, Any] = msgspec.to_builtins(org, str_keys=True)
    for key in shown.get("keys", ()):
        key.pop("sha256", None)
    return {"org": org.org, "enabled": org.enabled, **{name: value for name, value in shown.items() if name != "org"}}


def rule_test(org: Org, *, feature: str, task: str, provider: str, model: str) -> RuleTest:
    """What would happen to a request that goes to `provider` for `model` without a rule."""
    found = explain(RuleTable(org.rules), feature, task, provider, model)
    return RuleTest(
        rule=found.rule,
        passed_over=found.passed_over,
        more=found.more,
        missing_credentials=() if found.rule is None else _missing_credentials(org, found.rule, provider),
    )


def _missing_credentials(org: Org, rule: Rule, provider: str) -> tuple[str, ...]:
    asked = {target.provider for target in (rule.target, *rule.failover) if target.provider}
    return tuple(sorted(needed for needed in asked if needed != provider and needed not in org.credentials))
