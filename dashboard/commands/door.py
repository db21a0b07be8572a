"""What all commands share: the registry opened and closed, faults as one line, tables for people, JSON for programs."""

import functools
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import msgspec

from dashboard.clickhouse import ClickHouse, ClickHouseFault
from dashboard.registry import Registry, RegistryUnavailable
from dashboard.settings import load_settings
from shared.environment import SettingsFault
from shared.organisation import Org
from shared.registry import RegistryFault

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
org_name = click.argument("name", metavar="ORG")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
_GAP: Final = "  "


def with_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Open the registry for a command, and turn what can go wrong into one line and exit code 2."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        try:
            settings = load_settings()
            clickhouse = ClickHouse.of(settings.clickhouse_url)
            registry = Registry(settings.redis_url, actor=f"cli:{_user()}", clickhouse=clickhouse)
            try:
                command(registry, **arguments)
            finally:
                registry.close()
        except (SettingsFault, RegistryFault, RegistryUnavailable, ClickHouseFault) as fault:
            click.echo(f"lectr: {fault}", err=True)
            sys.exit(2)

    return run


def confirm(what: str, *, yes: bool) -> None:
    """Ask a person before something that cannot be undone; a script is not asked."""
    if not yes and sys.stdin.isatty():
        click.confirm(what, abort=True)


def record(org: Org) -> dict[str, Any]:
    """An organisation for people and programs: everything but hashes."""
    shown: dict[str, Any] = msgspec.to_builtins(org, str_keys=True)
    for key in shown.get("keys", ()):
        key.pop("sha256", None)
    return {"org": org.org, "enabled": org.enabled, **{name: value for name, value in shown.items() if name != "org"}}


def show(org: Org, *, as_json: bool, text: str) -> None:
    """The record, or what a person wants to hear."""
    click.echo(json.dumps(record(org)) if as_json else text)


def show_key(org: Org, name: str, key: str, *, as_json: bool) -> None:
    """A new key, for the only time."""
    if as_json:
        click.echo(json.dumps({"org": org.org, "name": name, "key": key}))
    else:
        click.echo(
            f"org  {org.org}\nname {name}\nkey  {key}\nKeep the key now: it is not stored and cannot be shown again."
        )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        click.echo(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in containers
        return "unknown"
