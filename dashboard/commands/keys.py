"""`key`: the keys of an organisation."""

import json

import click
import msgspec

from dashboard import edits, new_keys
from dashboard.commands.door import (
    as_json,
    confirm,
    faults_told,
    org_name,
    show,
    show_key,
    table,
    with_registry,
    yes,
)
from dashboard.commands.use import in_days, use_columns
from dashboard.commands.values import shown_moment
from dashboard.in_use import keys_in_use
from dashboard.records import record
from dashboard.registry import Registry
from shared.clock import unix_ms
from shared.organisation import Key
from shared.registry import DEFAULT_KEY, new_key

_key_name = click.argument("key_name", metavar="KEY")


@click.group()
def key() -> None:
    """Keys of an organisation: one each for an application can be limited, disabled and replaced alone."""


@key.command("add")
@org_name
@_key_name
@as_json
@with_registry
def add(registry: Registry, *, name: str, key_name: str, as_json: bool) -> None:
    """Make a key and show it, once."""
    show_key(new_keys.add_key(registry, name, key_name), as_json=as_json)


@key.command("rotate")
@org_name
@_key_name
@yes
@as_json
@with_registry
def rotate(registry: Registry, *, name: str, key_name: str, yes: bool, as_json: bool) -> None:
    """Replace a key and show the new one, once. The old one stops working at once."""
    rotate_after_asking(registry, name, key_name, yes=yes, as_json=as_json)


def rotate_after_asking(registry: Registry, name: str, key_name: str, *, yes: bool, as_json: bool) -> None:
    """Another key under the same name, if whoever sits there wants that."""
    confirm(f"Clients with the key {key_name!r} of {name} will be refused until they have the new one.", yes=yes)
    show_key(new_keys.rotate_key(registry, name, key_name), as_json=as_json)


@key.command("new")
@click.argument("key_name", metavar="[KEY]", default=DEFAULT_KEY)
@as_json
def new(*, key_name: str, as_json: bool) -> None:
    """Make a key for a file that declares organisations, and show it, once. Nothing is stored."""
    secret = new_key()
    with faults_told():
        made = msgspec.to_builtins(edits.new_key_record(key_name, secret, unix_ms()))
    if as_json:
        click.echo(json.dumps({"key": secret, **made}))
        return
    click.echo(
        f"key  {secret}\nKeep the key now: it is stored nowhere and cannot be shown again. For the file, under keys:"
    )
    click.echo(f"- {json.dumps(made)}")


@key.command("list")
@org_name
@in_days
@as_json
@with_registry
def list_keys(registry: Registry, *, name: str, days: int, as_json: bool) -> None:
    """List the keys of an organisation, and when each was used last."""
    org = registry.org(name)
    use = use_columns(registry, keys_in_use, "requests", name, days)
    if as_json:
        click.echo(json.dumps([{**one, **use.fields(one["name"])} for one in record(org).get("keys", ())]))
        return
    table(
        ("key", "begins with", "state", "created", *use.heads),
        [
            (one.name, one.shown or "?", "enabled" if one.enabled else "disabled", _day(one), *use.cells(one.name))
            for one in org.keys
        ],
    )


@key.command("disable")
@org_name
@_key_name
@yes
@as_json
@with_registry
def disable(registry: Registry, *, name: str, key_name: str, yes: bool, as_json: bool) -> None:
    """Refuse requests with this key."""
    confirm(f"Clients with the key {key_name!r} of {name} will be refused until it is enabled again.", yes=yes)
    changed = registry.edit(name, edits.change_key(key_name, enabled=False), f"disable key {key_name}")
    show(changed, as_json=as_json, text=f"key {key_name} of {name} is disabled")


@key.command("enable")
@org_name
@_key_name
@as_json
@with_registry
def enable(registry: Registry, *, name: str, key_name: str, as_json: bool) -> None:
    """Serve requests with this key again."""
    changed = registry.edit(name, edits.change_key(key_name, enabled=True), f"enable key {key_name}")
    show(changed, as_json=as_json, text=f"key {key_name} of {name} is enabled")


@key.command("remove")
@org_name
@_key_name
@yes
@as_json
@with_registry
def remove(registry: Registry, *, name: str, key_name: str, yes: bool, as_json: bool) -> None:
    """Remove a key for good."""
    confirm(f"Clients with the key {key_name!r} of {name} will be refused for good.", yes=yes)
    changed = registry.edit(name, edits.remove_key(key_name), f"remove key {key_name}")
    show(changed, as_json=as_json, text=f"key {key_name} of {name} is removed")


def _day(one: Key) -> str:
    return shown_moment(one.created_ms) if one.created_ms else "?"
