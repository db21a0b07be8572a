"""How much an organisation may ask for and spend, and what it pays."""

import msgspec

from dashboard import edits
from dashboard.api import answer_bodies as answers
from dashboard.api import request_bodies as bodies
from dashboard.api.calls import Answer, Call, record_of, same_name
from shared.organisation import Budget, Limits, Org, Price


def read_limits(call: Call) -> Answer:
    """Those of every key without its own."""
    return _limits(call.read())


def set_limits(call: Call) -> Answer:
    """All at once."""
    limits = record_of(call.body, Limits)
    return _limits(call.edit(edits.set_limits(limits), "set limits of all keys"))


def list_budgets(call: Call) -> Answer:
    """All of them."""
    org = call.read()
    return Answer(answers.Budgets(budgets=bodies.converted(org.budgets, tuple[answers.Budget, ...])), org.version)


def put_budget(call: Call) -> Answer:
    """Add one, or replace the one of this name."""
    body: bodies.BudgetPut = call.body
    name = call.path["budget"]
    same_name(body.name, name)
    budget = record_of(msgspec.structs.replace(body, name=name), Budget)
    org = call.edit(edits.put_budget(budget), f"set budget {name}")
    return Answer(bodies.converted(edits.named(org.budgets, name, "budget", org), answers.Budget), org.version)


def remove_budget(call: Call) -> Answer:
    """It is gone."""
    name = call.path["budget"]
    return Answer(version=call.edit(edits.remove_budget(name), f"remove budget {name}").version)


def list_prices(call: Call) -> Answer:
    """All of them."""
    return _prices(call.read())


def set_prices(call: Call) -> Answer:
    """All at once."""
    body: bodies.PricesPut = call.body
    prices = record_of(body.prices, tuple[Price, ...])
    return _prices(call.edit(edits.set_prices(prices), f"set all prices, {len(prices)} now"))


def _limits(org: Org) -> Answer:
    return Answer(bodies.converted(org.limits, bodies.Limits), org.version)


def _prices(org: Org) -> Answer:
    return Answer(answers.Prices(prices=bodies.converted(org.prices, tuple[answers.Price, ...])), org.version)
