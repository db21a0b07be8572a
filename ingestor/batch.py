"""Frames to a batch: which entries, which of their events, under which token. Pure.

In: stream entries and what is taken care of already, per source. Out: a Batch with bounds, or Poison for an entry that
is no frame of ours. The same entries and marks always give the same Batch, which is what a replay relies on.
Never reads a clock, never talks to Redis or ClickHouse.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ingestor.marks import Marks, Range, runs_of
from shared.event import Event
from shared.stream import (
    FIELD_COUNT,
    FIELD_END,
    FIELD_EXPECTED,
    FIELD_FIRST_SEQ,
    FIELD_FLOOR,
    FIELD_FRAME,
    FIELD_REDRIVEN,
    FIELD_SOURCE,
    BootEnd,
    Frame,
    FrameFault,
    decode_boot_end,
    decode_frame,
)

_SOURCE_LIMIT: Final = 2**64
_SEQ_LIMIT: Final = 2**53
"""Lua compares the marks as doubles."""
MAX_FRAME_EVENTS_READ: Final = 500_000
"""A frame is never cut, so one larger than the largest batch could not be stored as one block."""

NOTHING_STORED: Final[Mapping[int, Marks]] = {}

RawEntry = tuple[bytes, Mapping[bytes, bytes]]
"""A stream entry as Redis returns it: id, fields."""


class Decoded(msgspec.Struct, frozen=True):
    """A stream entry that is a readable frame."""

    entry_id: str
    frame: Frame
    data: bytes
    covers: tuple[Range, ...]
    """The numbers that are taken care of once it is stored: its events, what belongs to no event, what was before."""
    redriven: bool = False
    """It was a dead letter, so its numbers are among the marks: what is stored is the only measure."""

    @property
    def source(self) -> int:
        """Whose it is."""
        return self.frame.source

    @property
    def size(self) -> int:
        """Events in it."""
        return len(self.frame.events)


class Ending(msgspec.Struct, frozen=True):
    """A stream entry that says how a source ended."""

    entry_id: str
    source: int
    end: BootEnd
    data: bytes
    covers: tuple[Range, ...]
    size: int = 0
    redriven: bool = False


Entry = Decoded | Ending


class Poison(msgspec.Struct, frozen=True):
    """A stream entry that no batch can hold.

    `claim` is what its fields say it carries, (source, first seq, end seq), if they can be read: with the entry kept
    aside, these are taken care of, and its source need not send them again.
    """

    entry_id: str
    reason: str
    detail: str
    claim: tuple[int, int, int] | None = None


def is_newer(poison: Poison) -> bool:
    """Whether nothing is wrong with the entry, and only this release cannot read it."""
    return poison.reason == "version"


class Bounds(msgspec.Struct, frozen=True):
    """The record of a batch that is being inserted; a new owner rebuilds the batch from it."""

    first_id: str
    last_id: str
    entries: int
    rows: int
    crc: int
    token: str
    marks: dict[str, str] = {}
    """What was taken care of before it, per source: a replay must leave out the same events."""
    stored: dict[str, str] = {}
    """What was in ClickHouse before it, of sources with entries that had been dead letters."""

    def marks_before(self) -> dict[int, Marks]:
        """`marks`, decoded. Raises ValueError."""
        return {int(source): Marks.parse(text) for source, text in self.marks.items()}

    def stored_before(self) -> dict[int, Marks]:
        """`stored`, decoded. Raises ValueError."""
        return {int(source): Marks.parse(text) for source, text in self.stored.items()}


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
    """Events left out because the marks say that they are taken care of."""
    done: dict[int, Marks]
    """Per source: the marks after this batch."""
    ends: dict[int, BootEnd]
    """Sources that ended, and of which nothing is missing."""

    def ended_ms(self) -> dict[int, int]:
        """Per source of which nothing is missing: when the last of its requests here ended, Unix ms."""
        return {
            segment.source: _end_ms(segment.events[-1])
            for segment in self.segments
            if not self.done[segment.source].missing
        }


def _end_ms(event: Event) -> int:
    return event.ts_ms + max(event.latency_us, 0) // 1_000


def decode_entry(entry: RawEntry) -> Entry | Poison:
    """Read one stream entry; what cannot be read comes back as Poison with its reason, never as an exception."""
    entry_id, fields = entry[0].decode("ascii"), entry[1]
    try:
        if FIELD_END in fields:
            return _decode_end(entry_id, fields)
        data = fields.get(FIELD_FRAME)
        if data is None:
            raise FrameFault("missing", f"entry has no field {FIELD_FRAME.decode()!r}")  # noqa: TRY301 - one way out
        frame = decode_frame(data)
        covers = _covers(frame, fields)
    except FrameFault as fault:
        return Poison(entry_id, fault.reason, str(fault), _claim(fields))
    return Decoded(entry_id, frame, data, covers, redriven=FIELD_REDRIVEN in fields)


def build_batch(
    partition: int, entries: Sequence[Entry], before: Mapping[int, Marks], stored: Mapping[int, Marks] = NOTHING_STORED
) -> Batch:
    """The batch that these entries make, given the marks of their sources; `entries` is not empty.

    `stored` is what ClickHouse has of the sources of redriven entries.
    """
    marks, kept_now = dict(before), dict(stored)
    segments: list[Segment] = []
    ends: dict[int, BootEnd] = {}
    crc = rows = repeated = 0
    for entry in entries:
        crc = zlib.crc32(entry.data, crc)
        mark = marks[entry.source].with_ranges(*entry.covers[:1])
        if isinstance(entry, Ending):
            if mark.end_of_first >= entry.covers[-1][0]:
                ends[entry.source] = entry.end
        else:
            events = _fresh(entry, kept_now[entry.source] if entry.redriven else mark)
            repeated += entry.size - len(events)
            if events:
                segments.append(Segment(entry.source, entry.frame.gateway, events))
                rows += len(events)
        marks[entry.source] = mark.with_ranges(*entry.covers[1:])
        if entry.source in kept_now:
            kept_now[entry.source] = kept_now[entry.source].with_ranges(*entry.covers[2:])
    first_id, last_id = entries[0].entry_id, entries[-1].entry_id
    token = f"{partition}:{first_id}-{last_id}:{rows}:{crc:08x}"
    encoded = {str(source): before[source].encode() for source in sources_of(entries)}
    known = {str(source): mark.encode() for source, mark in stored.items()}
    bounds = Bounds(first_id, last_id, len(entries), rows, crc, token, encoded, known)
    return Batch(bounds, segments, repeated, marks, ends)


def _fresh(entry: Decoded, known: Marks) -> list[Event]:
    """Its events that are not among what is known. Mostly all, and then none is looked at: they are far in memory."""
    events = entry.frame.events
    if not known.overlaps(entry.covers[2:]):
        return events
    return [events[place] for place in known.fresh(entry.frame.seqs)]


def sources_of(entries: Iterable[Entry]) -> list[int]:
    """The sources whose marks `build_batch` needs."""
    return sorted({entry.source for entry in entries})


def _decode_end(entry_id: str, fields: Mapping[bytes, bytes]) -> Ending:
    claim = _claim(fields)
    if claim is None:
        raise FrameFault("inconsistent", "the record of an end does not say whose")
    source, end_seq, _ = claim
    expected_seq, floor = _before(fields, end_seq)
    end = decode_boot_end(fields[FIELD_END])
    return Ending(entry_id, source, end, fields[FIELD_END], ((0, floor), (expected_seq, end_seq)))


def _covers(frame: Frame, fields: Mapping[bytes, bytes]) -> tuple[Range, ...]:
    """What a frame takes care of, first what was before it. Raises FrameFault when it and its entry disagree."""
    if not 0 <= frame.source < _SOURCE_LIMIT or not 0 <= frame.first_seq < _SEQ_LIMIT:
        raise FrameFault("inconsistent", f"source {frame.source} or sequence number {frame.first_seq} out of range")
    count = len(frame.events)
    if count > MAX_FRAME_EVENTS_READ:
        raise FrameFault("oversized", f"{count} events in one frame, at most {MAX_FRAME_EVENTS_READ}")
    claimed = _number(fields, FIELD_COUNT, count)
    runs = runs_of(frame.seqs)
    last = runs[-1][1] if runs else frame.first_seq
    claims = ((FIELD_SOURCE, frame.source), (FIELD_FIRST_SEQ, frame.first_seq))
    if any(_number(fields, name, actual) != actual for name, actual in claims) or last > frame.first_seq + claimed:
        raise FrameFault("inconsistent", "the entry's fields and its frame name different events")
    # A gateway of a release without a journal says neither: what it left out is of no event.
    expected_seq, floor = _before(fields, frame.first_seq)
    return ((0, floor), (expected_seq, frame.first_seq), *runs)


def _before(fields: Mapping[bytes, bytes], first_seq: int) -> tuple[int, int]:
    """What an entry says of the numbers before it. Raises FrameFault for what would hide events behind it."""
    expected_seq = _number(fields, FIELD_EXPECTED, first_seq)
    floor = _number(fields, FIELD_FLOOR, 0)
    if not floor <= expected_seq <= first_seq:
        raise FrameFault("inconsistent", f"floor {floor}, expected {expected_seq} and first {first_seq} disagree")
    return expected_seq, floor


def _claim(fields: Mapping[bytes, bytes]) -> tuple[int, int, int] | None:
    try:
        source, first, count = (int(fields[name]) for name in (FIELD_SOURCE, FIELD_FIRST_SEQ, FIELD_COUNT))
    except (KeyError, ValueError):
        return None
    readable = 0 <= source < _SOURCE_LIMIT and 0 <= first < _SEQ_LIMIT and 0 <= count <= MAX_FRAME_EVENTS_READ
    return (source, first, first + count) if readable else None


def _number(fields: Mapping[bytes, bytes], name: bytes, otherwise: int) -> int:
    text = fields.get(name)
    if text is None:
        return otherwise
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < _SOURCE_LIMIT:
        raise FrameFault("inconsistent", f"field {name.decode()!r} is no number of an event")
    return number
