"""`limit` and `budget`: how much an organisation, or one of its keys, may ask for and spend."""

import json
from typing import Any

import click
import msgspec

from dashboard import edits
from dashboard.commands.door import as_json, confirm, org_name, show, table, with_registry, yes
from dashboard.commands.values import amount, shown_amount
from dashboard.registry import Registry
from shared.organisation import Budget, Limits


@click.group()
def limit() -> None:
    """What each key may do in each gateway process."""


@limit.command("set")
@org_name
@click.option("--key", "key_name", help="Of this key alone; without it, of every key that has none of its own.")
@click.option("--requests-per-s", type=float, help="Requests per second.")
@click.option(
    "--burst-requests",
    type=int,
    help="With a rate: how many at once after a pause, if not as many as in a second.",
)
@click.option(
    "--concurrent-streams",
    type=int,
    help="Streams open at once. One that only its answer shows to be one is not refused, and takes its place from then"
    " on.",
)
@click.option(
    "--body-bytes",
    type=int,
    help="Largest JSON body; the gateway's own LECTR_MAX_BODY_BYTES, 2 MiB if not set, holds where it is smaller.",
)
@click.option(
    "--file-body-bytes",
    type=int,
    help="Largest body of an endpoint that takes files; the same with LECTR_MAX_FILE_BODY_BYTES, 512 MiB.",
)
@as_json
@with_registry
def set_limits(registry: Registry, *, name: str, key_name: str | None, as_json: bool, **fields: Any) -> None:
    """Set all limits at once: what is not named is not limited."""
    limits = edits.checked(Limits(**fields))
    edit = edits.set_limits(limits) if key_name is None else edits.change_key(key_name, limits=limits)
    whose = name if key_name is None else f"key {key_name} of {name}"
    changed = registry.edit(name, edit, f"set limits of {key_name or 'all keys'}")
    said = ", ".join(f"{field} {value}" for field, value in fields.items() if value is not None) or "none"
    show(changed, as_json=as_json, text=f"limits of {whose}: {said}")


@click.group()
def budget() -> None:
    """What may be spent in a UTC day or month, by all of an organisation or by one feature."""


@budget.command("set")
@org_name
@click.argument("budget_name", metavar="BUDGET")
@click.option("--limit-usd", required=True, help="US dollars, like 250.00")
@click.option("--period", type=click.Choice(["day", "month"]), default="month", show_default=True)
@click.option("--feature", help="Of this feature alone.")
@click.option("--action", type=click.Choice(["alert", "block"]), default="alert", show_default=True)
@as_json
@with_registry
def set_budget(
    registry: Registry, *, name: str, budget_name: str, limit_usd: str, as_json: bool, **fields: Any
) -> None:
    """Add a budget, or replace the one of this name."""
    made = Budget(name=budget_name, limit_usd=amount("limit_usd", limit_usd), **fields)
    changed = registry.edit(name, edits.put_budget(made), f"set budget {budget_name}")
    whose = f"feature {made.feature} of {name}" if made.feature else name
    spent = f"{shown_amount(made.limit_usd)} USD a {made.period}"
    text = f"budget {budget_name}: {whose} may spend {spent}; then {made.action}"
    show(changed, as_json=as_json, text=text)


@budget.command("list")
@org_name
@as_json
@with_registry
def list_budgets(registry: Registry, *, name: str, as_json: bool) -> None:
    """List the budgets of an organisation."""
    budgets = registry.org(name).budgets
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(budgets)))
        return
    table(
        ("budget", "feature", "USD", "per", "then"),
        [(one.name, one.feature or "all", shown_amount(one.limit_usd), one.period, one.action) for one in budgets],
    )


@budget.command("remove")
@org_name
@click.argument("budget_name", metavar="BUDGET")
@yes
@as_json
@with_registry
def remove_budget(registry: Registry, *, name: str, budget_name: str, yes: bool, as_json: bool) -> None:
    """Remove a budget."""
    confirm(f"Budget {budget_name!r} of {name} will be gone, and will stop nothing any more.", yes=yes)
    changed = registry.edit(name, edits.remove_budget(budget_name), f"remove budget {budget_name}")
    show(changed, as_json=as_json, text=f"budget {budget_name} of {name} is removed")
