"""Budgets, totals and questions about them, at noon of a day in November."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.budgets import Budgets, OrgBudgets, Verdict
from shared.organisation import Budget
from shared.spending import Spend

MAX_AGE_MS = 300_000
DAY_MS = 86_400_000


def ms(text: str) -> int:
    """A UTC time as Unix ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOON = ms("2026-11-27T12:00")
DAY = ms("2026-11-27")
MONTH = ms("2026-11-01")


def budget(name: str = "b", usd: str = "10", **other: Any) -> Budget:
    return Budget(name=name, limit_usd=Decimal(usd), **{"period": "day", "action": "block", **other})


def spend(total: str, **other: Any) -> Spend:
    mean = other.pop("mean", None)
    fields = {"org": "acme", "period": "day", "start_ms": DAY, "as_of_ms": NOON - 10_000, **other}
    return Spend(total_usd=Decimal(total), mean_usd=None if mean is None else Decimal(mean), **fields)


def known(*spends: Spend, now_ms: int = NOON) -> Budgets:
    budgets = Budgets(max_age_ms=MAX_AGE_MS)
    for each in spends:
        budgets.learn(each, now_ms)
    return budgets


def ask(budgets: Budgets, *set_: Budget, feature: str = "chat", now_ms: int = NOON) -> Verdict:
    return budgets.decide(OrgBudgets("acme", set_), feature, now_ms)


def monthly(name: str, **other: Any) -> Budget:
    return budget(name, period="month", **other)
