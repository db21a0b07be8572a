"""What a database has lost of what its applied migrations made, and the statements that make it again. Pure.

In: statements of applied files, and the tables and views that are there. Out: the statements to be repeated, by file.
A lost object is made by its statements alone, not by its whole file: others of the file may have a newer form by now.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from ingestor.cluster import tables_in

_ALTERED: Final = re.compile(r"ALTER TABLE (?P<name>[a-z_]+)\b")
_SOURCE: Final = re.compile(r"\bFROM (?P<name>[a-z_]+)\b")

Found = Mapping[str, AbstractSet[str]]
"""The tables and views of a database, each with the materialized views that its inserts feed."""


class Again(msgspec.Struct, frozen=True):
    """What is made again by statements of one file."""

    file: str
    names: list[str]
    statements: list[str]


def lost_in(statements: Sequence[str], found: Found) -> frozenset[str]:
    """Tables and views that the statements make and that are not there, or that are there and fed by nothing.

    A materialized view stays with its source when that is renamed, and is not fed by the next one of the old name.
    """
    lost: set[str] = set()
    for statement in statements:
        for name in tables_in([statement]):
            source = _SOURCE.search(statement) if statement.startswith("CREATE MATERIALIZED VIEW") else None
            if name not in found or (source is not None and name not in found.get(source["name"], frozenset())):
                lost.add(name)
    return frozenset(lost)


def make_again(files: Mapping[str, Sequence[str]], lost: AbstractSet[str]) -> list[Again]:
    """What makes lost objects again, in the files' order: a table with all its changes, a view in its last form."""
    last = {
        name: statement
        for statements in files.values()
        for statement in statements
        if statement.startswith("CREATE OR REPLACE")
        for name in tables_in([statement])
    }
    found: list[Again] = []
    for file, statements in files.items():
        chosen = {
            statement: name
            for statement in statements
            if (name := _object_of(statement)) in lost and last.get(name, statement) == statement
        }
        if chosen:
            found.append(Again(file, list(dict.fromkeys(chosen.values())), list(chosen)))
    return found


def _object_of(statement: str) -> str:
    """The table or view that a statement makes or changes; empty if it does neither."""
    if altered := _ALTERED.match(statement):
        return altered["name"]
    return next(iter(tables_in([statement])), "")
