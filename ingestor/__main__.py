"""`python -m ingestor` runs the worker, `python -m ingestor migrate` creates and updates the tables."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import IO, Any, TypeVar

import click

from ingestor.app import run
from ingestor.clickhouse import BOOTS, FILLED, FILLER, TABLE
from ingestor.faults import ACCOUNT_CODES, ClickHouseFault, IngestorFault, MigrationFault, RebuildRefused, SchemaFault
from ingestor.gateways import NotGone, give_up, list_gateways
from ingestor.migrate import Outcome, migrate
from ingestor.redrive import list_dead_letters, redrive
from ingestor.rollup import check_rollup
from ingestor.rollup_diff import Differing
from ingestor.settings import Settings, clickhouse_of, load_settings
from shared.environment import SettingsFault, show_settings
from shared.logs import get_log, start_logs

T = TypeVar("T")
_LONGEST_FAULT = 1_000
"""ClickHouse lists everything that it would have understood."""
_LETTER_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


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
            for line in _lines_of(asyncio.run(migrate(clickhouse_of(settings)))):
                get_log("migrate").info(line)
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
    """The fault with the setting that it concerns and a fix; one of a migration file concerns no setting."""
    if isinstance(fault, MigrationFault):
        return f"migration {str(fault)[:_LONGEST_FAULT]}"
    fix = ""
    if isinstance(fault, ClickHouseFault) and fault.code is None:
        fix = "; start ClickHouse there, or correct the address"
    elif isinstance(fault, ClickHouseFault) and fault.code in ACCOUNT_CODES:
        fix = "; correct user and password in the URL"
    return f"LECTR_CLICKHOUSE_URL={str(fault)[:_LONGEST_FAULT]}{fix}"


def _lines_of(outcome: Outcome) -> list[str]:
    """What a migration did, for people."""
    lines = [f"made again: {part.file} ({', '.join(part.names)})" for part in outcome.again]
    again = {name for part in outcome.again for name in part.names}
    if TABLE in again:
        lines.append(
            f"{TABLE} is empty now: rows that it had under another name or in a backup are for you to bring back; "
            "until then rollup --rebuild --drop-surplus would make the hour of this change anew without them"
        )
    elif again & {FILLED, FILLER}:
        lines.append(f"{FILLED} may lack rows that were stored before; run: python -m ingestor rollup --rebuild")
    if BOOTS in again:
        lines.append(
            f"{BOOTS} is empty now: the ends of gateways' runs before are forgotten, and event_gaps no longer lists "
            "gaps at them"
        )
    if outcome.applied:
        lines.append(f"applied: {', '.join(outcome.applied)}")
    if not lines and not outcome.unfit:
        lines.append("nothing to apply, the database is up to date")
    return lines


@main.command("migrate")
def migrate_command() -> None:
    """Create or update the tables and views, then exit. What is gone is made again, a table without its rows.

    Exit code 2: it could not be done, or a column was changed that is to be put back by the statement that is named.
    """
    outcome = _ask(lambda settings: migrate(clickhouse_of(settings)))
    for line in _lines_of(outcome):
        click.echo(line)
    if outcome.unfit:
        raise CannotRun(f"LECTR_CLICKHOUSE_URL={outcome.unfit}")


@main.command("rollup")
@click.option("--rebuild", is_flag=True, help="Make the hours that differ anew from the table, if they are over.")
@click.option(
    "--drop-surplus",
    is_flag=True,
    help="With --rebuild: also those of which the rollup has more. What it alone knows of is gone then.",
)
@click.pass_context
def rollup_command(context: click.Context, *, rebuild: bool, drop_surplus: bool) -> None:
    """List the hours in which requests_hourly and requests disagree.

    Compared are requests, cost, input and output tokens of every hour, group by group; shown are the hour's sums.

    An hour may change for two hours after its start; --rebuild leaves it alone until then. It also leaves alone an hour
    of which the rollup has more than requests, if only in one group: rows may have been removed on purpose, or have
    expired, and the rollup alone knows of them; --drop-surplus makes it anew without them. One that requests has no
    rows of at all is left alone for ever. --rebuild needs Redis: one runs at a time, and none while a batch is in
    doubt, for which it waits half a minute.

    Exit code 0: no hour that is over differs, or all such were made anew. 1: one differs, or was left alone. 2: the
    question could not be asked, or nothing may be made anew now.
    """
    if drop_surplus and not rebuild:
        raise click.UsageError("--drop-surplus says what --rebuild is to do")
    say = partial(click.echo, err=True)
    found = _ask(partial(check_rollup, rebuild=rebuild, drop_surplus=drop_surplus, say=say))
    for differing in found:
        said = _said_of(differing, rebuild=rebuild, drop_surplus=drop_surplus)
        click.echo(f"{differing.hour}  {_sums_of(differing)}  {said}")
    if not found:
        click.echo("no hour differs")
    context.exit(1 if any(not differing.is_open and not differing.made_anew for differing in found) else 0)


def _said_of(differing: Differing, *, rebuild: bool, drop_surplus: bool) -> str:
    """What became of an hour, or what can be done about it."""
    if differing.made_anew:
        return "made anew"
    if differing.is_open:
        return "may still change"
    if differing.without_rows:
        return "left alone: requests has no rows of it to make it from"
    if differing.doubled:
        return "counts twice what came meanwhile; once nothing comes any more: --rebuild --drop-surplus"
    if not (differing.is_short or drop_surplus):
        return "left alone: the rollup alone may know of rows that were removed; --rebuild --drop-surplus drops these"
    return "still differs, try again" if rebuild else "to be made anew: --rebuild"


def _sums_of(differing: Differing) -> str:
    return "  ".join(
        # Groups that have more and groups that have less: the sums alone would not show it.
        f"{name} {sums.table} rollup {sums.rollup}" + (f" ({sums.surplus} more in groups)" if sums.is_mixed else "")
        for name, sums in differing.sums.items()
        if sums.differ
    )


@main.command("dead-letters")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def dead_letters_command(*, as_json: bool) -> None:
    """List the entries that could not be stored, with their reasons."""
    found = _ask(list_dead_letters)
    for letter in found:
        click.echo(json.dumps(letter) if as_json else "  ".join(f"{name}={value}" for name, value in letter.items()))
    if not found and not as_json:
        click.echo("no dead letters")


@main.command("redrive")
@click.option("--reason", default="", help="Only those with this reason.")
@click.argument("ids", nargs=-1)
@click.pass_context
def redrive_command(context: click.Context, ids: tuple[str, ...], reason: str) -> None:
    """Put dead letters back onto the stream, all or those with these IDS. What is stored is not stored again.

    Exit code 1: of those asked for by id or reason, one or all were not there; the others are put back.
    """
    if wrong := [letter for letter in ids if not _LETTER_ID.fullmatch(letter)]:
        raise click.BadParameter(
            f"{', '.join(map(repr, wrong))}: no id of a dead letter, which is like 1764072000000-0; "
            "python -m ingestor dead-letters lists them",
            param_hint="IDS",
        )
    done = _ask(partial(redrive, ids=frozenset(ids), reason=reason))
    click.echo(f"put back: {done.put_back}")
    if done.left:
        click.echo(
            f"no dead letter{f' with the reason {reason!r}' if reason else ''}: {', '.join(done.left)}", err=True
        )
    elif reason and not done.put_back:
        there = ", ".join(done.reasons) or "none, there are no dead letters"
        click.echo(f"no dead letter with the reason {reason!r}; reasons there are: {there}", err=True)
    else:
        return
    context.exit(1)


@main.command("gateways")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def gateways_command(*, as_json: bool) -> None:
    """List the runs of gateways that have not ended, the longest silent first.

    One that is gone without an end holds up data_freshness, until a gateway finds its journal or it is given up.
    """
    found = _ask(list_gateways)
    for one in found:
        click.echo(json.dumps(one) if as_json else "  ".join(f"{name}={value}" for name, value in one.items()))
    if not found and not as_json:
        click.echo("no gateways")


@main.command("give-up")
@click.argument("gateway_boot", type=click.IntRange(0, 2**64 - 1))
def give_up_command(gateway_boot: int) -> None:
    """Wait no more for a run of a gateway whose host is lost. Should its journal be found, it is still stored."""
    _ask(partial(give_up, source=gateway_boot))
    click.echo(f"given up: {gateway_boot}")


def _ask(question: Callable[[Settings], Awaitable[T]]) -> T:
    url: object = ""
    try:
        settings = load_settings()
        url = settings.redis_url
        return asyncio.run(_awaited(question(settings)))
    except (SettingsFault, NotGone, RebuildRefused) as fault:
        raise CannotRun(str(fault)) from None
    except (ClickHouseFault, SchemaFault, MigrationFault) as fault:
        raise CannotRun(_named(fault)) from None
    except IngestorFault as fault:
        raise CannotRun(
            f"LECTR_REDIS_URL={url}: {str(fault)[:_LONGEST_FAULT]}; "
            "see that Redis runs there, and that address, user and password are right"
        ) from None


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer


if __name__ == "__main__":
    sys.exit(main())
