"""What all commands share: the registry opened and closed, faults as one line, tables for people, JSON for programs."""

import contextlib
import functools
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click

from dashboard.clickhouse import ClickHouse, ClickHouseFault
from dashboard.commands.names import complete_org
from dashboard.new_keys import NewKey
from dashboard.read_only import ReadOnlyRegistry, RegistryReadOnly
from dashboard.records import record
from dashboard.registry import Registry, RegistryUnavailable
from dashboard.settings import load_settings
from shared.environment import SettingsFault
from shared.organisation import Org
from shared.registry import RegistryFault

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value instead of text.")
org_name = click.argument("name", metavar="ORG", shell_complete=complete_org)
yes = click.option("--yes", is_flag=True, help="Do not ask; without a terminal nothing is done otherwise.")
_GAP: Final = "  "
_READ_ONLY: Final = "lectr.read_only"
"""Of a click context: the file that declares the organisations."""


def with_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Open the registry for a command, and turn what can go wrong into one line and exit code 2.

    Where a file declares the organisations, what the command would change is refused with the name of the file.
    """

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        with faults_told():
            settings = load_settings()
            path, actor = settings.registry_file, f"cli:{_user()}"
            clickhouse = ClickHouse.of(settings.clickhouse_url)
            click.get_current_context().meta[_READ_ONLY] = path
            registry = (
                ReadOnlyRegistry(settings.redis_url, actor=actor, path=path, clickhouse=clickhouse)
                if path
                else Registry(settings.redis_url, actor=actor, clickhouse=clickhouse)
            )
            with contextlib.closing(registry):
                command(registry, **arguments)

    return run


@contextlib.contextmanager
def faults_told() -> Iterator[None]:
    """Turn what can go wrong into lines on stderr, most often one, and exit code 2."""
    try:
        yield
    except (SettingsFault, RegistryFault, RegistryUnavailable, ClickHouseFault) as fault:
        for line in str(fault).splitlines():
            click.echo(f"lectr: {line}", err=True)
        sys.exit(2)


def confirm(what: str, *, yes: bool, done: str = "Nothing was done") -> None:
    """Ask a person before clients are refused, or something is gone. Whoever cannot be asked must have said --yes.

    `what` would happen then; `done` was before. Raises RegistryReadOnly, RegistryFault.
    """
    if path := click.get_current_context().meta.get(_READ_ONLY):
        raise RegistryReadOnly(path)
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise RegistryFault(f"{what} {done}: there is no terminal to ask at; say --yes to do it")
    # On stderr: a program may read stdout, for a key that is shown once.
    click.confirm(f"{what} Go on?", abort=True, err=True)


def show(org: Org, *, as_json: bool, text: str) -> None:
    """The record, or what a person wants to hear."""
    click.echo(json.dumps(record(org)) if as_json else text)


def show_key(made: NewKey, *, as_json: bool) -> None:
    """A new key, for the only time. Raises RegistryFault where it could not be written."""
    org = made.org.org
    text = (
        json.dumps({"org": org, "name": made.name, "key": made.key.reveal()})
        if as_json
        else f"org  {org}\nname {made.name}\nkey  {made.key.reveal()}\n"
        "Keep the key now: it is not stored and cannot be shown again."
    )
    reason = "standard output is closed" if sys.stdout is None else None
    try:
        click.echo(text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise RegistryFault(
            f"the key {made.name!r} of {org} was made, but could not be written ({reason}), and cannot be shown again; "
            f"replace it with: key rotate {org} {made.name}"
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
