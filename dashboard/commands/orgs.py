"""`org`: organisations, and what becomes of their streams."""

import json

import click

from dashboard import edits, new_keys
from dashboard.commands.door import as_json, confirm, org_name, show, show_key, table, with_registry, yes
from dashboard.commands.keys import rotate_after_asking
from dashboard.records import record
from dashboard.registry import Registry
from shared.registry import DEFAULT_KEY


@click.group()
def org() -> None:
    """Organisations and their keys."""


@org.command("create")
@org_name
@as_json
@with_registry
def create(registry: Registry, *, name: str, as_json: bool) -> None:
    """Create an organisation and show its key, once."""
    show_key(new_keys.create_org(registry, name), as_json=as_json)


@org.command("rotate-key")
@org_name
@click.option("--key", "key_name", default=DEFAULT_KEY, show_default=True, help="Which of its keys.")
@yes
@as_json
@with_registry
def rotate_key(registry: Registry, *, name: str, key_name: str, yes: bool, as_json: bool) -> None:
    """Replace a key of an organisation and show the new one, once. The old one stops working at once."""
    rotate_after_asking(registry, name, key_name, yes=yes, as_json=as_json)


@org.command("disable")
@org_name
@yes
@as_json
@with_registry
def disable(registry: Registry, *, name: str, yes: bool, as_json: bool) -> None:
    """Refuse all requests of an organisation."""
    confirm(f"All clients of {name} will be refused until it is enabled again.", yes=yes)
    show(registry.edit(name, edits.switch(enabled=False), "disable org"), as_json=as_json, text=f"{name} is disabled")


@org.command("enable")
@org_name
@as_json
@with_registry
def enable(registry: Registry, *, name: str, as_json: bool) -> None:
    """Serve an organisation again."""
    show(registry.edit(name, edits.switch(enabled=True), "enable org"), as_json=as_json, text=f"{name} is enabled")


@org.command("on-disconnect")
@org_name
@click.argument("policy", type=click.Choice(["drain", "cancel"]))
@click.option("--feature", required=True, help="As in X-Lectr-Feature; '*' for all.")
@as_json
@with_registry
def on_disconnect(registry: Registry, *, name: str, policy: str, feature: str, as_json: bool) -> None:
    """What becomes of an answer whose client leaves.

    cancel (the default) stops the provider at once. drain reads on to the end, so that usage and cost are exact.
    """
    edit = edits.set_drain(feature, drain=policy == "drain")
    changed = registry.edit(name, edit, f"{policy} answers of feature {feature}")
    drained = ", ".join(changed.drain_features) or "no feature"
    show(changed, as_json=as_json, text=f"{name} drains: {drained}")


@org.command("usage")
@org_name
@click.argument("policy", type=click.Choice(["ask", "leave"]))
@click.option("--feature", required=True, help="As in X-Lectr-Feature; '*' for all.")
@as_json
@with_registry
def usage(registry: Registry, *, name: str, policy: str, feature: str, as_json: bool) -> None:
    """Whether streams are asked for their usage where the client did not say.

    leave (the default) changes no request, and such a stream's usage is estimated. ask adds include_usage to the
    stream_options of chat completions that stream, and takes out of the answer what this added. A client that says
    itself what it wants is left alone: one that sends include_usage, true or false, or stream_options: null. So are
    requests to Groq and Gemini, which tell it in any case.
    """
    edit = edits.set_usage(feature, ask=policy == "ask")
    changed = registry.edit(name, edit, f"{policy} usage of feature {feature}")
    asked = ", ".join(changed.usage_features) or "no feature"
    show(changed, as_json=as_json, text=f"{name} asks for the usage of: {asked}")


@org.command("list")
@as_json
@with_registry
def list_orgs(registry: Registry, *, as_json: bool) -> None:
    """List all organisations."""
    orgs = registry.orgs()
    if as_json:
        click.echo(json.dumps([record(org) for org in orgs]))
    elif not orgs:
        click.echo("no organisations yet; create one with: org create NAME")
    else:
        table(
            ("org", "state", "keys", "rules", "azure"),
            [
                (
                    org.org,
                    "enabled" if org.enabled else "disabled",
                    str(len(org.keys)),
                    str(len(org.rules)),
                    org.azure[0].endpoint if org.azure else "-",
                )
                for org in orgs
            ],
        )


@org.command("show")
@org_name
@with_registry
def show_org(registry: Registry, *, name: str) -> None:
    """All that is set for an organisation, as JSON; keys by their first characters."""
    click.echo(json.dumps(record(registry.org(name)), indent=2))
