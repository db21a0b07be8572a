"""`python -m dashboard`: the command line for organisations, keys and Azure endpoints."""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from dashboard.registry import Registry, RegistryUnavailable
from dashboard.settings import load_settings
from shared.environment import SettingsFault
from shared.registry import Org, RegistryFault

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
_name = click.argument("name")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Manage a Lectr installation. LECTR_REDIS_URL says where its registry lives."""


@main.group()
def org() -> None:
    """Organisations and their keys."""


@main.group()
def azure() -> None:
    """Where an organisation's Azure OpenAI resource is."""


def _with_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Open the registry for a command, and turn what can go wrong into one line and exit code 2."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        try:
            registry = Registry(load_settings().redis_url)
            try:
                command(registry, **arguments)
            finally:
                registry.close()
        except (SettingsFault, RegistryFault, RegistryUnavailable) as fault:
            click.echo(f"lectr: {fault}", err=True)
            sys.exit(2)

    return run


def _record(org: Org) -> dict[str, object]:
    endpoint = org.azure and {"endpoint": org.azure.endpoint, "api_version": org.azure.api_version}
    return {
        "org": org.org,
        "enabled": org.enabled,
        "azure": endpoint,
        "drain_features": list(org.drain_features),
        "version": org.version,
    }


def _show_key(org: Org, key: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"org": org.org, "key": key}))
    else:
        click.echo(f"org  {org.org}\nkey  {key}\nKeep the key now: it is not stored and cannot be shown again.")


def _show(org: Org, *, as_json: bool, text: str) -> None:
    click.echo(json.dumps(_record(org)) if as_json else text)


@org.command("create")
@_name
@_as_json
@_with_registry
def create(registry: Registry, *, name: str, as_json: bool) -> None:
    """Create an organisation and show its key, once."""
    made, key = registry.create(name)
    _show_key(made, key, as_json=as_json)


@org.command("rotate-key")
@_name
@_as_json
@_with_registry
def rotate_key(registry: Registry, *, name: str, as_json: bool) -> None:
    """Replace the key of an organisation and show the new one, once."""
    changed, key = registry.rotate_key(name)
    _show_key(changed, key, as_json=as_json)


@org.command("disable")
@_name
@_as_json
@_with_registry
def disable(registry: Registry, *, name: str, as_json: bool) -> None:
    """Refuse all requests of an organisation."""
    _show(registry.set_enabled(name, enabled=False), as_json=as_json, text=f"{name} is disabled")


@org.command("enable")
@_name
@_as_json
@_with_registry
def enable(registry: Registry, *, name: str, as_json: bool) -> None:
    """Serve an organisation again."""
    _show(registry.set_enabled(name, enabled=True), as_json=as_json, text=f"{name} is enabled")


@org.command("on-disconnect")
@_name
@click.argument("policy", type=click.Choice(["drain", "cancel"]))
@click.option("--feature", required=True, help="As in X-Lectr-Feature; '*' for all.")
@_as_json
@_with_registry
def on_disconnect(registry: Registry, *, name: str, policy: str, feature: str, as_json: bool) -> None:
    """What becomes of an answer whose client leaves.

    cancel (the default) stops the provider at once. drain reads on to the end, so that usage and cost are exact.
    """
    changed = registry.set_on_disconnect(name, feature, drain=policy == "drain")
    drained = ", ".join(changed.drain_features) or "no feature"
    _show(changed, as_json=as_json, text=f"{name} drains: {drained}")


@org.command("list")
@_as_json
@_with_registry
def list_orgs(registry: Registry, *, as_json: bool) -> None:
    """List all organisations."""
    orgs = registry.orgs()
    if as_json:
        click.echo(json.dumps([_record(org) for org in orgs]))
        return
    for known in orgs:
        place = known.azure.endpoint if known.azure else "-"
        click.echo(f"{known.org:<32} {'enabled' if known.enabled else 'disabled':<9} azure {place}")
    if not orgs:
        click.echo("no organisations yet; create one with: org create NAME")


@azure.command("set")
@_name
@click.option("--endpoint", required=True, help="Scheme and host: https://NAME.openai.azure.com")
@click.option("--api-version", default="", help="Like 2024-10-21; leave out for the v1 surface, which needs none.")
@_as_json
@_with_registry
def set_azure(registry: Registry, *, name: str, endpoint: str, api_version: str, as_json: bool) -> None:
    """Set the Azure endpoint of an organisation."""
    changed = registry.set_azure(name, endpoint, api_version)
    _show(changed, as_json=as_json, text=f"{name} sends Azure traffic to {changed.azure and changed.azure.endpoint}")


if __name__ == "__main__":
    main(prog_name="python -m dashboard")
