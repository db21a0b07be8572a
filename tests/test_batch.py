"""Entries to batches: what is new, in which bounds, under which token."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.batch import Decoded, Poison, build_batch, decode_entry, sources_of
from shared.stream import FRAME_VERSION, encode_event, encode_frame
from tests.ingestor_process import event


def frame_of(source: int, first_seq: int, count: int) -> bytes:
    return encode_frame(source, first_seq, "gw", [encode_event(event(first_seq + i)) for i in range(count)])


def entry(number: int, source: int, first_seq: int, count: int) -> Decoded:
    fields = {
        b"s": b"%d" % source,
        b"a": b"%d" % first_seq,
        b"n": b"%d" % count,
        b"f": frame_of(source, first_seq, count),
    }
    decoded = decode_entry((b"%d-0" % number, fields))
    assert isinstance(decoded, Decoded)
    return decoded


def test_bounds_and_token_name_the_content() -> None:
    """A batch's record holds its first and last entry, its rows and a checksum, and the token holds them all."""
    batch = build_batch(3, [entry(1, 7, 0, 2), entry(2, 7, 2, 3)], {})
    bounds = batch.bounds
    assert (bounds.first_id, bounds.last_id, bounds.entries, bounds.rows) == ("1-0", "2-0", 2, 5)
    assert bounds.token == f"3:1-0-2-0:5:{bounds.crc:08x}"
    assert batch.done == {7: 5}
    assert batch.repeated == 0


def test_other_content_has_another_token() -> None:
    """The same bounds over other bytes give another token: ClickHouse would drop the second insert unseen."""
    one = build_batch(0, [entry(1, 7, 0, 2)], {})
    changed = Decoded("1-0", entry(1, 7, 0, 2).frame, frame_of(7, 0, 2) + b"\xc0")
    assert build_batch(0, [changed], {}).bounds.token != one.bounds.token


def test_events_below_the_mark_are_left_out() -> None:
    """What the marks call done is skipped and counted, also when a frame is done in part."""
    batch = build_batch(0, [entry(1, 7, 0, 4), entry(2, 7, 4, 4)], {7: 6})
    assert [item.seq for part in batch.segments for item in part.events] == [6, 7]
    assert (batch.repeated, batch.bounds.rows, batch.done) == (6, 2, {7: 8})


def test_a_frame_that_overlaps_its_predecessor_adds_only_what_is_new() -> None:
    """Two frames with common events in one batch give each event once."""
    batch = build_batch(0, [entry(1, 7, 0, 4), entry(2, 7, 2, 4), entry(3, 7, 0, 3)], {})
    assert [item.seq for part in batch.segments for item in part.events] == [0, 1, 2, 3, 4, 5]
    assert batch.done == {7: 6}


def test_sources_do_not_hide_each_other() -> None:
    """Marks are per source; a hole in the sequence numbers of one is stored as it is."""
    entries = [entry(1, 7, 0, 2), entry(2, 8, 10, 2), entry(3, 7, 5, 1)]
    batch = build_batch(0, entries, {8: 11})
    assert [(part.source, [item.seq for item in part.events]) for part in batch.segments] == [
        (7, [0, 1]),
        (8, [11]),
        (7, [5]),
    ]
    assert sources_of(entries) == [7, 8]
    assert batch.done == {7: 6, 8: 12}


@given(
    frames=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=12),
    marks=st.dictionaries(st.integers(1, 3), st.integers(0, 12)),
)
def test_the_same_entries_always_make_the_same_batch(frames: list[tuple[int, int, int]], marks: dict[int, int]) -> None:
    """A replay rebuilds bounds, token and events exactly; no event is in it twice or below its mark."""
    entries = [entry(number, *frame) for number, frame in enumerate(frames, 1)]
    first, second = build_batch(0, entries, marks), build_batch(0, entries, marks)
    assert first == second
    stored = [(part.source, item.seq) for part in first.segments for item in part.events]
    assert len(stored) == len(set(stored)) == first.bounds.rows
    assert all(seq >= marks.get(source, 0) for source, seq in stored)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({b"x": b"1"}, "missing"),
        ({b"f": b"\xff\xff garbage"}, "undecodable"),
        ({b"f": b""}, "undecodable"),
        ({b"f": msgspec.msgpack.encode([FRAME_VERSION + 1, 7, 0, "gw", []])}, "version"),
        ({b"f": frame_of(7, 0, 2)[:-5]}, "undecodable"),
        ({b"f": encode_frame(7, 1, "gw", [encode_event(event(0))])}, "inconsistent"),
        ({b"f": encode_frame(-7, 0, "gw", [])}, "inconsistent"),
        ({b"f": encode_frame(7, 2**60, "gw", [])}, "inconsistent"),
        ({b"f": frame_of(7, 0, 2), b"s": b"8"}, "inconsistent"),
        ({b"f": frame_of(7, 0, 2), b"a": b"1"}, "inconsistent"),
        ({b"f": frame_of(7, 0, 2), b"n": b"3"}, "inconsistent"),
    ],
)
def test_what_is_no_frame_is_poison_with_a_reason(fields: dict[bytes, bytes], reason: str) -> None:
    """Unreadable entries come back as poison; nothing is raised and nothing is guessed."""
    poison = decode_entry((b"5-1", fields))
    assert isinstance(poison, Poison)
    assert (poison.entry_id, poison.reason) == ("5-1", reason)


def test_what_poison_claims_moves_no_mark() -> None:
    """An unreadable entry may claim any sequence number; believing it would hide events that are still to come."""
    poison = decode_entry((b"5-1", {b"s": b"7", b"a": b"0", b"n": b"999999999", b"f": b"\xff"}))
    assert isinstance(poison, Poison)
    assert poison.mark is None


def test_an_empty_frame_is_no_poison() -> None:
    """A frame without events makes a batch without rows."""
    batch = build_batch(0, [entry(1, 7, 3, 0)], {7: 3})
    assert (batch.bounds.rows, batch.segments, batch.done) == (0, [], {7: 3})
