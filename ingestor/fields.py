"""Events turned on their side: one list per field. Pure.

In: some events. Out: their fields as columns, which costs and rows are made of. An event is visited once, whole, and
some hundred at a time: visited again for every field, it would be fetched from memory again, as a batch is larger than
any cache.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from shared.event import Event, Usage

CHUNK_EVENTS: Final = 1_000
TOKEN_KINDS: Final = Usage.__struct_fields__[:11]
"""Seven of input, four of output."""
_INPUT_KINDS: Final = 7
_EVENT_FIELDS: Final = Event.__struct_fields__
_USAGE_FIELDS: Final = Usage.__struct_fields__


class Fields(msgspec.Struct, frozen=True):
    """Some events and their fields."""

    events: Sequence[Event]
    columns: dict[str, list[Any]]
    """By the names of Event and Usage: a value per event."""

    @property
    def tokens(self) -> list[list[int]]:
        """Counts by kind, in the order of TOKEN_KINDS."""
        return [self.columns[kind] for kind in TOKEN_KINDS]


class Sums(msgspec.Struct, frozen=True):
    """Tokens of input and of output per event."""

    inputs: list[int]
    outputs: list[int]


def fields_of(events: Sequence[Event]) -> Fields:
    """The fields of these events."""
    columns = dict(_columns(_EVENT_FIELDS, events))
    columns.update(_columns(_USAGE_FIELDS, columns["usage"]))
    return Fields(events, columns)


def _columns(names: Sequence[str], records: Iterable[Event] | Iterable[Usage]) -> Iterator[tuple[str, list[Any]]]:
    flat: list[Any] = []
    for record in records:
        flat += astuple(record)
    return ((name, flat[place :: len(names)]) for place, name in enumerate(names))


def sums_of(tokens: Sequence[list[int]]) -> Sums:
    """The sums of columns in the order of TOKEN_KINDS."""
    return Sums(_sum(tokens[:_INPUT_KINDS]), _sum(tokens[_INPUT_KINDS:]))


def _sum(columns: Sequence[list[int]]) -> list[int]:
    # Most kinds of tokens are zero for everybody, and those cost nothing.
    counted = [column for column in columns if any(column)] or [columns[0]]
    total = counted[0]
    for column in counted[1:]:
        total = list(map(add, total, column))
    return total


def chunks(parts: Iterable[Sequence[Event]]) -> Iterator[Sequence[Event]]:
    """The events of all parts in order, one to two times CHUNK_EVENTS at a time; the last may be fewer. Never empty."""
    gathered: list[Event] = []
    for part in parts:
        gathered.extend(part)
        while len(gathered) >= 2 * CHUNK_EVENTS:
            yield gathered[:CHUNK_EVENTS]
            del gathered[:CHUNK_EVENTS]
        if len(gathered) >= CHUNK_EVENTS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
