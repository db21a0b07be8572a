"""`rule`: where requests are sent instead, and where next if that fails."""

import json
from typing import Any

import click
import msgspec

from dashboard import checks, edits
from dashboard.commands.door import as_json, confirm, org_name, show, table, with_registry, yes
from dashboard.commands.targets import shown_target, target
from dashboard.commands.use import in_days, use_columns
from dashboard.in_use import rules_in_use
from dashboard.records import rule_test
from dashboard.registry import Registry
from dashboard.rule_guard import keeping_guard
from shared.event import UNTAGGED
from shared.organisation import REASONING, Rule, Target
from shared.rules import problems_of

_rule_name = click.argument("rule_name", metavar="RULE")


@click.group()
def rule() -> None:
    """Rules send requests to another model or provider. The first enabled one that matches applies."""


@rule.command("set")
@org_name
@_rule_name
@click.option("--priority", type=int, default=100, show_default=True, help="The lowest comes first.")
@click.option("--feature", help="Only requests with this X-Lectr-Feature; 'untagged' for those without.")
@click.option("--task", help="Only requests with this X-Lectr-Task.")
@click.option("--provider", help="Only requests to this provider.")
@click.option("--model", help="Only requests for this model; with a * at its end, for all that begin so.")
@click.option(
    "--to",
    "to",
    metavar="[PROVIDER/]MODEL",
    help="Where they go. 'groq/' keeps the model; '/openai/gpt-oss-120b', a model's name, keeps the provider.",
)
@click.option(
    "--failover",
    multiple=True,
    metavar="[PROVIDER/]MODEL",
    help="Where next, if that cannot be reached, is too slow or answers 429 or 5xx; repeatable.",
)
@click.option(
    "--first-byte-timeout-s",
    type=float,
    help="How long a target has until its answer begins, 0.1 to 600, as long as another one is left; the gateway's own"
    " LECTR_FIRST_BYTE_TIMEOUT_S holds where it is shorter.",
)
@click.option(
    "--recommended/--not-recommended",
    default=None,
    help="Made from a recommendation: it never applies to the task reasoning. Without either, as the rule was.",
)
@click.option("--disabled", is_flag=True, help="Keep it, but do not apply it.")
@as_json
@with_registry
def set_rule(
    registry: Registry,
    *,
    name: str,
    rule_name: str,
    to: str | None,
    failover: tuple[str, ...],
    recommended: bool | None,
    disabled: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Add a rule, or replace the one of this name."""
    made = edits.checked(
        Rule(
            name=rule_name,
            enabled=not disabled,
            target=Target() if to is None else target("--to", to),
            failover=tuple(target("--failover", one) for one in failover),
            recommended=bool(recommended),
            **fields,
        )
    )
    edit = keeping_guard(edits.put_rule(made), {rule_name} if recommended is None else ())
    changed = registry.edit(name, edit, f"set rule {rule_name}")
    made = edits.named(changed.rules, rule_name, "rule", changed)
    for problem in problems_of(changed.rules).warnings:
        click.echo(f"lectr: {problem}", err=True)
    show(changed, as_json=as_json, text=f"rule {rule_name} of {name}: {_conditions(made)} -> {_targets(made)}")


@rule.command("list")
@org_name
@in_days
@as_json
@with_registry
def list_rules(registry: Registry, *, name: str, days: int, as_json: bool) -> None:
    """List the rules of an organisation in the order in which they are looked at, and how often each applied."""
    rules = sorted(registry.org(name).rules, key=lambda one: one.priority)
    use = use_columns(registry, rules_in_use, "hits", name, days)
    if as_json:
        records = [{**msgspec.to_builtins(one), "recommended": one.recommended} for one in rules]
        click.echo(json.dumps([{**shown, **use.fields(shown["name"])} for shown in records]))
        return
    table(
        ("priority", "rule", "state", "if", "goes to", *use.heads),
        [
            (
                str(one.priority),
                one.name,
                "on" if one.enabled else "off",
                _conditions(one),
                _targets(one),
                *use.cells(one.name),
            )
            for one in rules
        ],
    )


@rule.command("test")
@org_name
@click.option("--feature", default=UNTAGGED, help="As in X-Lectr-Feature.")
@click.option("--task", default="", help="As in X-Lectr-Task.")
@click.option("--provider", required=True, help="The provider that the request would go to without a rule.")
@click.option("--model", required=True, help="The model that it asks for.")
@as_json
@with_registry
def test_rule(
    registry: Registry, *, name: str, feature: str, task: str, provider: str, model: str, as_json: bool
) -> None:
    """What would happen to a request."""
    checks.check_provider(provider)
    found = rule_test(registry.org(name), feature=feature, task=task, provider=provider, model=model)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
        return
    for passed in found.passed_over:
        click.echo(f"not {passed.rule.name}: {passed.reason}")
    if found.rule is None:
        click.echo(f"no rule applies: it goes to {provider} as it is")
        return
    click.echo(f"rule {found.rule.name} applies: it goes to {_targets(found.rule)}")
    for needed in found.missing_credentials:
        click.echo(f"but {name} has no {needed} key; set one with: credential set {name} {needed} env:NAME")


@rule.command("enable")
@org_name
@_rule_name
@as_json
@with_registry
def enable(registry: Registry, *, name: str, rule_name: str, as_json: bool) -> None:
    """Apply a rule."""
    changed = registry.edit(name, edits.switch_rule(rule_name, enabled=True), f"enable rule {rule_name}")
    show(changed, as_json=as_json, text=f"rule {rule_name} of {name} is on")


@rule.command("disable")
@org_name
@_rule_name
@as_json
@with_registry
def disable(registry: Registry, *, name: str, rule_name: str, as_json: bool) -> None:
    """Pass over a rule, and keep it."""
    changed = registry.edit(name, edits.switch_rule(rule_name, enabled=False), f"disable rule {rule_name}")
    show(changed, as_json=as_json, text=f"rule {rule_name} of {name} is off")


@rule.command("remove")
@org_name
@_rule_name
@yes
@as_json
@with_registry
def remove(registry: Registry, *, name: str, rule_name: str, yes: bool, as_json: bool) -> None:
    """Remove a rule."""
    confirm(f"Rule {rule_name!r} of {name} will be gone.", yes=yes)
    changed = registry.edit(name, edits.remove_rule(rule_name), f"remove rule {rule_name}")
    show(changed, as_json=as_json, text=f"rule {rule_name} of {name} is removed")


def _conditions(one: Rule) -> str:
    fields = ("feature", "task", "provider", "model")
    conditions = [f"{field} {value}" for field in fields if (value := getattr(one, field)) is not None] or ["any"]
    if one.recommended:
        conditions.append(f"not task {REASONING} (recommended)")
    return ", ".join(conditions)


def _targets(one: Rule) -> str:
    seconds = one.first_byte_timeout_s
    limit = "" if seconds is None else f", after {seconds:g} s without an answer"
    return f"{limit}, then ".join(map(shown_target, (one.target, *one.failover)))
