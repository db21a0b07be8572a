"""`price`: what an organisation negotiated, instead of the list's prices."""

import json
from typing import cast

import click
import msgspec

from dashboard import checks, edits
from dashboard.commands.door import as_json, confirm, org_name, show, table, with_registry, yes
from dashboard.commands.values import amount, moment_ms, shown_amount, shown_moment
from dashboard.registry import Registry
from shared.clock import unix_ms
from shared.organisation import Org, Price, Provider

_provider = click.argument("provider", metavar="PROVIDER")
_model = click.argument("model", metavar="MODEL")


@click.group()
def price() -> None:
    """Negotiated prices, in US dollars per million tokens, from a moment on.

    MODEL is the whole name as answers carry it, which the column model_actual has, like gpt-4o-2024-08-06; or the
    beginning of it and a *, where 'gpt-4o*' has gpt-4o-mini as well. A whole name comes before a beginning, a longer
    beginning before a shorter one. Costs of requests that are stored already do not change.
    """


@price.command("set")
@org_name
@_provider
@_model
@click.option("--input-usd", required=True, help="Per million input tokens.")
@click.option("--output-usd", required=True, help="Per million output tokens, reasoning included.")
@click.option("--cache-read-usd", help="Per million tokens read from a cache; else as input.")
@click.option("--cache-write-usd", help="Per million tokens written to a cache; else as input.")
@click.option(
    "--since", help="From this day on, UTC, like 2026-01-01; else for all requests that are still to be priced."
)
@as_json
@with_registry
def set_price(
    registry: Registry,
    *,
    name: str,
    provider: str,
    model: str,
    input_usd: str,
    output_usd: str,
    cache_read_usd: str | None,
    cache_write_usd: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Add a price, or replace the one of this model from this day on."""
    made = edits.checked(
        Price(
            provider=cast("Provider", checks.check_provider(provider)),
            model=model,
            since_ms=0 if since is None else moment_ms("--since", since),
            input_usd=amount("--input-usd", input_usd),
            output_usd=amount("--output-usd", output_usd),
            cache_read_usd=None if cache_read_usd is None else amount("--cache-read-usd", cache_read_usd),
            cache_write_usd=None if cache_write_usd is None else amount("--cache-write-usd", cache_write_usd),
        )
    )
    changed = registry.edit(name, edits.put_price(made), f"set price of {provider}/{model}")
    if later := _later(changed, made, unix_ms()):
        click.echo(f"lectr: from {_since(later)} on another price of {provider}/{model} applies", err=True)
    rates = f"{shown_amount(made.input_usd)} USD per million input tokens, {shown_amount(made.output_usd)} output"
    text = f"price of {provider}/{model} for {name}: {rates}, {'since ' if made.since_ms else ''}{_since(made)}"
    show(changed, as_json=as_json, text=text)


@price.command("list")
@org_name
@as_json
@with_registry
def list_prices(registry: Registry, *, name: str, as_json: bool) -> None:
    """List the negotiated prices of an organisation."""
    prices = sorted(registry.org(name).prices, key=lambda one: (one.provider, one.model, one.since_ms))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(prices)))
        return
    table(
        ("provider", "model", "since", "input", "output", "cache read", "cache write"),
        [
            (
                one.provider,
                one.model,
                _since(one),
                *map(shown_amount, (one.input_usd, one.output_usd, one.cache_read_usd, one.cache_write_usd)),
            )
            for one in prices
        ],
    )


@price.command("remove")
@org_name
@_provider
@_model
@click.option("--since", help="Only the one from this day on; without it, all of this model.")
@yes
@as_json
@with_registry
def remove_price(
    registry: Registry, *, name: str, provider: str, model: str, since: str | None, yes: bool, as_json: bool
) -> None:
    """Remove prices: requests that are still to be priced cost what the list says."""
    since_ms = None if since is None else moment_ms("--since", since)
    which = "All prices" if since is None else f"The price since {shown_moment(since_ms)}"
    confirm(f"{which} of {provider}/{model} for {name} will be gone.", yes=yes)
    changed = registry.edit(name, edits.remove_price(provider, model, since_ms), f"remove price of {provider}/{model}")
    show(changed, as_json=as_json, text=f"price of {provider}/{model} for {name} is removed")


def _later(org: Org, made: Price, now_ms: int) -> Price | None:
    """The price that takes the place of a new one before today."""
    places = [one for one in org.prices if (one.provider, one.model) == (made.provider, made.model)]
    later = [one for one in places if made.since_ms < one.since_ms <= now_ms]
    return min(later, key=lambda one: one.since_ms, default=None)


def _since(one: Price) -> str:
    return shown_moment(one.since_ms) if one.since_ms else "always"
