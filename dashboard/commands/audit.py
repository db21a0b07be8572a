"""`audit`: who changed what, and when."""

import json

import click
import msgspec

from dashboard.changes import MOST_CHANGES, changes
from dashboard.commands.door import as_json, table, with_registry
from dashboard.commands.values import moment_ms, shown_moment
from dashboard.registry import Registry
from shared.environment import SettingsFault
from shared.registry import check_org_name


@click.command("audit")
@click.argument("name", metavar="[ORG]", default="")
@click.option("--limit", type=click.IntRange(1, MOST_CHANGES), default=50, show_default=True, help="How many at most.")
@click.option("--since", help="From this day on, UTC, like 2026-01-01, or 2026-01-01T12:30.")
@as_json
@with_registry
def audit(registry: Registry, *, name: str, limit: int, since: str | None, as_json: bool) -> None:
    """The last changes of one organisation or of all, the latest first.

    Read from the log in ClickHouse (LECTR_CLICKHOUSE_URL), where an ingestor stores each change within a second.
    """
    if registry.clickhouse is None:
        raise SettingsFault("LECTR_CLICKHOUSE_URL: not set; the log of changes is kept there")
    since_ms = 0 if since is None else moment_ms("--since", since)
    found = changes(registry.clickhouse, org=name and check_org_name(name), since_ms=since_ms, limit=limit)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
        return
    table(
        ("when", "org", "who", "what"),
        [(shown_moment(one.at_ms), one.org, _plain(one.actor), _plain(one.action)) for one in found],
    )


def _plain(text: str) -> str:
    """Without what a terminal would take for an order."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
