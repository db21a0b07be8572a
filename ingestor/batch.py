"""Stream entries to a batch: which events, in which bounds, under which token. Pure.

In: raw stream entries and the partition's `done` marks. Out: decoded entries or poison, and a Batch whose token
follows from its content alone. The same entries and marks always give the same Batch, which is what a replay relies on.
Never reads a clock, never talks to Redis or ClickHouse.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from shared.event import Event
from shared.stream import (
    FIELD_COUNT,
    FIELD_FIRST_SEQ,
    FIELD_FRAME,
    FIELD_SOURCE,
    Frame,
    FrameFault,
    decode_frame,
)

_SOURCE_LIMIT: Final = 2**64
_SEQ_LIMIT: Final = 2**53
"""Lua compares the marks as doubles."""
MAX_FRAME_EVENTS_READ: Final = 500_000
"""A frame is never cut, so one larger than the largest batch could not be stored as one block."""

RawEntry = tuple[bytes, Mapping[bytes, bytes]]
"""A stream entry as Redis returns it: id, fields."""


class Decoded(msgspec.Struct, frozen=True):
    """A stream entry that is a readable frame."""

    entry_id: str
    frame: Frame
    data: bytes


class Poison(msgspec.Struct, frozen=True):
    """A stream entry that no batch can hold.

    `mark` is where its source goes on, (source, next seq), for a frame that was readable. What an unreadable entry
    claims moves no mark: a wrong claim would hide events that are still to come.
    """

    entry_id: str
    reason: str
    detail: str
    mark: tuple[int, int] | None = None


class Bounds(msgspec.Struct, frozen=True):
    """The record of a batch that is being inserted; a new owner rebuilds the batch from it."""

    first_id: str
    last_id: str
    entries: int
    rows: int
    crc: int
    token: str


class Segment(msgspec.Struct, frozen=True):
    """The events of one frame that are not in ClickHouse yet, in order of `seq`."""

    source: int
    gateway: str
    events: list[Event]


class Batch(msgspec.Struct, frozen=True):
    """Contiguous entries from the head of one partition, to be stored by one insert."""

    bounds: Bounds
    segments: list[Segment]
    repeated: int
    """Events left out because the marks say ClickHouse has them."""
    done: dict[int, int]
    """Per source: the mark after this batch."""


def decode_entry(entry: RawEntry) -> Decoded | Poison:
    """Read one stream entry; what cannot be read comes back as Poison with its reason, never as an exception."""
    entry_id, fields = entry[0].decode("ascii"), entry[1]
    try:
        data = fields.get(FIELD_FRAME)
        if data is None:
            raise FrameFault("missing", f"entry has no field {FIELD_FRAME.decode()!r}")  # noqa: TRY301 - one way out
        frame = decode_frame(data)
        _check(frame, fields)
    except FrameFault as fault:
        return Poison(entry_id, fault.reason, str(fault))
    return Decoded(entry_id, frame, data)


def build_batch(partition: int, entries: Sequence[Decoded], done: Mapping[int, int]) -> Batch:
    """The batch that these entries make, given the marks of their sources. `entries` is not empty."""
    marks: dict[int, int] = {}
    segments: list[Segment] = []
    crc = rows = repeated = 0
    for entry in entries:
        frame = entry.frame
        crc = zlib.crc32(entry.data, crc)
        mark = marks.get(frame.source, done.get(frame.source, 0))
        skip = min(max(mark - frame.first_seq, 0), len(frame.events))
        repeated += skip
        fresh = frame.events[skip:] if skip else frame.events
        if fresh:
            segments.append(Segment(frame.source, frame.gateway, fresh))
            rows += len(fresh)
        marks[frame.source] = max(mark, frame.first_seq + len(frame.events))
    first_id, last_id = entries[0].entry_id, entries[-1].entry_id
    token = f"{partition}:{first_id}-{last_id}:{rows}:{crc:08x}"
    return Batch(Bounds(first_id, last_id, len(entries), rows, crc, token), segments, repeated, marks)


def sources_of(entries: Iterable[Decoded]) -> list[int]:
    """The sources whose marks `build_batch` needs."""
    return sorted({entry.frame.source for entry in entries})


def _check(frame: Frame, fields: Mapping[bytes, bytes]) -> None:
    if not 0 <= frame.source < _SOURCE_LIMIT or not 0 <= frame.first_seq < _SEQ_LIMIT:
        raise FrameFault("inconsistent", f"source {frame.source} or sequence number {frame.first_seq} out of range")
    if len(frame.events) > MAX_FRAME_EVENTS_READ:
        raise FrameFault("oversized", f"{len(frame.events)} events in one frame, at most {MAX_FRAME_EVENTS_READ}")
    claims = ((FIELD_SOURCE, frame.source), (FIELD_FIRST_SEQ, frame.first_seq), (FIELD_COUNT, len(frame.events)))
    if any(fields.get(name, b"%d" % actual) != b"%d" % actual for name, actual in claims):
        raise FrameFault("inconsistent", "the entry's fields and its frame name different events")
