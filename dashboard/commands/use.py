"""Columns of lists that say what is in use, where LECTR_CLICKHOUSE_URL is set."""

from collections.abc import Callable
from typing import Any

import click

from dashboard.clickhouse import ClickHouse, ClickHouseFault
from dashboard.commands.values import shown_moment
from dashboard.in_use import MOST_DAYS, WINDOW_DAYS, Uses
from dashboard.registry import Registry
from shared.clock import unix_ms

in_days = click.option(
    "--days",
    type=click.IntRange(1, MOST_DAYS),
    default=WINDOW_DAYS,
    show_default=True,
    help="How far back to look for use, where LECTR_CLICKHOUSE_URL is set.",
)
Question = Callable[[ClickHouse, str, int, int], Uses]
_UNKNOWN = "-"


class UseColumns:
    """Two cells for each name, or none where nobody was asked; dashes where there was no answer."""

    def __init__(self, heads: tuple[str, ...], uses: Uses | None, days: int) -> None:
        self.heads = heads
        self._uses = uses
        self._days = days

    def cells(self, name: str) -> tuple[str, ...]:
        """For people."""
        if not self.heads:
            return ()
        if self._uses is None:
            return _UNKNOWN, _UNKNOWN
        use = self._uses.get(name)
        return (shown_moment(use.last_ms), str(use.requests)) if use else (f"not in {self._days} d", "0")

    def fields(self, name: str) -> dict[str, Any]:
        """For programs: `use` is null where there was no answer, and not there where nobody was asked."""
        if not self.heads:
            return {}
        if self._uses is None:
            return {"use": None}
        use = self._uses.get(name)
        return {
            "use": {
                "days": self._days,
                "requests": use.requests if use else 0,
                "last_ms": use.last_ms if use else None,
            }
        }


def use_columns(registry: Registry, question: Question, counted: str, org: str, days: int) -> UseColumns:
    """Ask ClickHouse. A fault is said in one line: the list is shown all the same."""
    if registry.clickhouse is None:
        return UseColumns((), None, days)
    heads = "last used", f"{counted} ({days} d)"
    try:
        return UseColumns(heads, question(registry.clickhouse, org, unix_ms(), days), days)
    except ClickHouseFault as fault:
        click.echo(f"lectr: what is in use is not known: {fault}", err=True)
        return UseColumns(heads, None, days)
