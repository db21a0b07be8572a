"""The columns that the tables of an ingestor must have, and what is said of those that are not as they should be. Pure.

In: the statements of the migrations, the one place that names them, and the columns that are there. Out: problems, each
with the statement that cures it. Columns beside these, of users or of a newer release, are none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from ingestor.cluster import alter_statement

_COLUMN: Final = (
    r"(?P<name>[a-z0-9_]+) (?P<definition>(?P<kind>[A-Z].*?)(?: (?:CODEC|DEFAULT|ALIAS)\b.*?)?)"
    r"(?: (?:COMMENT|AFTER)\b.*)?,?$"
)
_MADE: Final = re.compile(rf"^ {{4}}{_COLUMN}", re.MULTILINE)
_ADDED: Final = re.compile(rf"\bADD COLUMN IF NOT EXISTS {_COLUMN}", re.MULTILINE)
_TABLE: Final = re.compile(r"(?:CREATE TABLE IF NOT EXISTS|ALTER TABLE) (?P<name>[a-z_]+)\b")
_MOST: Final = 2
"""How many problems are told in full: somebody has to read them."""


class Column(msgspec.Struct, frozen=True):
    """A column as the migrations make it."""

    name: str
    kind: str
    definition: str
    """What stands behind its name, but for the comment."""
    added: bool
    """By a file behind the one that made its table: a migration that is due brings it."""

    @property
    def stored(self) -> bool:
        """Whether rows carry it; an alias is worked out when it is asked for."""
        return " ALIAS " not in self.definition


Columns = Mapping[str, Sequence[Column]]
"""By table."""


def columns_in(statements: Sequence[str], tables: Sequence[str]) -> Columns:
    """The columns that the statements give to these tables, as far as they make them."""
    found: dict[str, list[Column]] = {}
    for statement in statements:
        table = _TABLE.match(statement)
        if table and table["name"] in tables:
            added = statement.startswith("ALTER")
            found.setdefault(table["name"], []).extend(
                Column(column["name"], column["kind"], column["definition"], added)
                for column in (_ADDED if added else _MADE).finditer(statement)
            )
    return found


def none_due(columns: Columns) -> Columns:
    """The same where every migration is applied, so that none brings a column that is missing."""
    return {
        table: [msgspec.structs.replace(column, added=False) for column in found] for table, found in columns.items()
    }


def column_problem(needed: Columns, found: Mapping[str, Mapping[str, str]], *, database: str, cluster: str) -> str:
    """What is wrong with the columns that are there, name and type by table, and what cures it; empty if nothing is."""
    problems = [
        problem
        for table, columns in needed.items()
        for column in columns
        for problem in _problems_of(column, table, found.get(table, {}).get(column.name), database, cluster)
    ]
    more = f"; and {len(problems) - _MOST} more columns" if len(problems) > _MOST else ""
    return "; ".join(problems[:_MOST]) + more


def _problems_of(column: Column, table: str, kind: str | None, database: str, cluster: str) -> Iterator[str]:
    if kind is None:
        change = f"ADD COLUMN {column.name} {column.definition}"
        migrate = "run: python -m ingestor migrate; if it is missing after that, " if column.added else ""
        yield (
            f"{table} has no column {column.name}; {migrate}rename it back if it was renamed, else add it, which fills "
            f"older rows with its default: {alter_statement(database, table, cluster, change)}"
        )
    # Servers differ in how they space what is in parentheses.
    elif column.stored and kind.replace(" ", "") != column.kind.replace(" ", ""):
        change = f"MODIFY COLUMN {column.name} {column.kind}"
        yield (
            f"{table}.{column.name} is {kind}, expected {column.kind}; "
            f"run: {alter_statement(database, table, cluster, change)}"
        )
