"""`python -m ingestor` runs the worker, `python -m ingestor migrate` creates and updates the tables."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO, Any, TypeVar

import click

from ingestor.app import run
from ingestor.faults import IngestorFault, MigrationFault
from ingestor.migrate import migrate
from ingestor.redrive import list_dead_letters, redrive
from ingestor.rollup import check_rollup
from ingestor.settings import Settings, clickhouse_of, load_settings
from shared.environment import SettingsFault, show_settings
from shared.logs import get_log, start_logs

T = TypeVar("T")
_LONGEST_FAULT = 600
"""ClickHouse lists everything that it would have understood."""


class CannotRun(click.ClickException):
    """Ends the process with one line and exit code 2, as every process of ours does."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Name the process before the fault."""
        click.echo(f"lectr ingestor: {self.format_message()}", file=file, err=True)


@click.group(invoke_without_command=True)
@click.option("--print-settings", is_flag=True, help="Show the effective settings, secrets starred, and exit.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Bring the tables up to date before working.")
@click.pass_context
def main(context: click.Context, *, print_settings: bool, migrate_first: bool) -> None:
    """Store events from the stream in ClickHouse. Settings are LECTR_ environment variables."""
    try:
        settings = load_settings()
    except SettingsFault as fault:
        raise CannotRun(str(fault)) from None
    if print_settings:
        click.echo(show_settings(settings))
        context.exit()
    start_logs("ingestor", settings.log_level)
    if context.invoked_subcommand is not None:
        return
    try:
        if migrate_first:
            asyncio.run(migrate(clickhouse_of(settings)))
        asyncio.run(run(settings))
    except IngestorFault as fault:
        get_log("app").error("cannot start", fault=fault.label, detail=str(fault))
        raise CannotRun(_named(fault)) from None
    except SettingsFault as fault:
        raise CannotRun(str(fault)) from None
    except OSError as error:
        raise CannotRun(
            f"LECTR_OPS_LISTEN={settings.ops_listen}: cannot listen there ({error.strerror or error}); "
            "stop what uses the port, or choose another"
        ) from None


def _named(fault: IngestorFault) -> str:
    """The fault with the setting that it concerns; one of a migration file concerns none."""
    if isinstance(fault, MigrationFault):
        return f"migration {str(fault)[:_LONGEST_FAULT]}"
    return f"LECTR_CLICKHOUSE_URL={fault}"


@main.command("migrate")
def migrate_command() -> None:
    """Create or update the tables and views, then exit."""
    try:
        applied = asyncio.run(migrate(clickhouse_of(load_settings())))
    except SettingsFault as fault:
        raise CannotRun(str(fault)) from None
    except IngestorFault as fault:
        raise CannotRun(_named(fault)) from None
    click.echo(f"applied: {', '.join(applied)}" if applied else "nothing to apply, the database is up to date")


@main.command("rollup")
@click.option("--rebuild", is_flag=True, help="Make the hours that differ anew from the table, if they are over.")
def rollup_command(*, rebuild: bool) -> None:
    """List the hours in which requests_hourly and requests disagree."""
    try:
        found = asyncio.run(check_rollup(clickhouse_of(load_settings()), rebuild=rebuild))
    except SettingsFault as fault:
        raise CannotRun(str(fault)) from None
    except IngestorFault as fault:
        raise CannotRun(_named(fault)) from None
    for differing in found:
        said = "may still change" if differing.is_open else "made anew" if rebuild else "to be made anew: --rebuild"
        click.echo(f"{differing.hour}  requests {differing.stored}  rollup {differing.rolled}  {said}")
    if not found:
        click.echo("no hour differs")


@main.command("dead-letters")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def dead_letters_command(*, as_json: bool) -> None:
    """List the entries that could not be stored, with their reasons."""
    found = _ask_redis(list_dead_letters)
    for letter in found:
        click.echo(json.dumps(letter) if as_json else "  ".join(f"{name}={value}" for name, value in letter.items()))
    if not found and not as_json:
        click.echo("no dead letters")


@main.command("redrive")
@click.option("--reason", default="", help="Only those with this reason.")
@click.argument("ids", nargs=-1)
def redrive_command(ids: tuple[str, ...], reason: str) -> None:
    """Put dead letters back onto the stream, all or those with these IDS. What is stored is not stored again."""
    click.echo(f"put back: {_ask_redis(partial(redrive, ids=frozenset(ids), reason=reason))}")


def _ask_redis(question: Callable[[Settings], Awaitable[T]]) -> T:
    try:
        return asyncio.run(_awaited(question(load_settings())))
    except SettingsFault as fault:
        raise CannotRun(str(fault)) from None
    except IngestorFault as fault:
        raise CannotRun(f"LECTR_REDIS_URL: {fault}") from None


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


if __name__ == "__main__":
    sys.exit(main())
