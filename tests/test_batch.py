"""Frames on the stream, once each, and entries to batches: what is new, in which bounds, under which token."""

from collections.abc import Iterable, Mapping

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal import new_source
from ingestor.batch import (
    MAX_FRAME_EVENTS_READ,
    Batch,
    Decoded,
    Ending,
    Entry,
    Poison,
    build_batch,
    decode_entry,
    sources_of,
)
from ingestor.marks import Marks
from shared.stream import FRAME_VERSION, BootEnd, Partition, encode_boot_end, encode_event, encode_frame
from tests.ingestor_process import event
from tests.journal_site import INSTANCE
from tests.parts import ROOT
from tests.shipper_site import ends, entries, frames

P0 = Partition(0)
END = BootEnd("gw", 1, 2, 7, 0, killed=True)
NEW: dict[int, Marks] = {7: Marks(), 8: Marks(), 9: Marks()}


def frame_of(source: int, first_seq: int, count: int, missing: Iterable[int] = ()) -> bytes:
    seqs = [seq for seq in range(first_seq, first_seq + count) if seq not in set(missing)]
    return encode_frame(source, first_seq, "gw", [encode_event(event(seq)) for seq in seqs])


def fields_of(source: int, first_seq: int, count: int, missing: Iterable[int] = ()) -> dict[bytes, bytes]:
    return {
        b"s": b"%d" % source,
        b"a": b"%d" % first_seq,
        b"n": b"%d" % count,
        b"f": frame_of(source, first_seq, count, missing),
    }


def entry(
    number: int,
    source: int,
    first_seq: int,
    count: int,
    *,
    missing: Iterable[int] = (),
    expected_seq: int | None = None,
    floor: int = 0,
    **more: bytes,
) -> Decoded:
    """A frame as a gateway puts it on the stream; `missing` are numbers whose events somebody took out."""
    said = {b"p": b"%d" % (first_seq if expected_seq is None else expected_seq), b"o": b"%d" % floor}
    fields = fields_of(source, first_seq, count, missing) | said | {name.encode(): text for name, text in more.items()}
    decoded = decode_entry((b"%d-0" % number, fields))
    assert isinstance(decoded, Decoded)
    return decoded


def ending(number: int, source: int, expected_seq: int, end_seq: int, *, floor: int = 0) -> Ending:
    numbers = {b"s": source, b"o": floor, b"p": expected_seq, b"a": end_seq, b"n": 0}
    fields = {name: b"%d" % value for name, value in numbers.items()} | {b"e": encode_boot_end(END)}
    decoded = decode_entry((b"%d-0" % number, fields))
    assert isinstance(decoded, Ending)
    assert (decoded.source, decoded.end, decoded.size) == (source, END, 0)
    return decoded


def up_to(seq: int) -> Marks:
    return Marks.of([(0, seq)])


def stored(batch: Batch) -> list[tuple[int, int]]:
    return [(part.source, item.seq) for part in batch.segments for item in part.events]


def test_bounds_and_token_name_the_content() -> None:
    """A batch's record holds its first and last entry, its rows, a checksum and the marks before it."""
    batch = build_batch(3, [entry(1, 7, 2, 2), entry(2, 7, 4, 3)], {7: up_to(2)})
    bounds = batch.bounds
    assert (bounds.first_id, bounds.last_id, bounds.entries, bounds.rows) == ("1-0", "2-0", 2, 5)
    assert bounds.token == f"3:1-0-2-0:5:{bounds.crc:08x}"
    assert bounds.marks == {"7": "2"}
    assert batch.done == {7: up_to(7)}
    assert batch.repeated == 0


def test_other_content_has_another_token() -> None:
    """The same bounds over other bytes give another token: ClickHouse would drop the second insert unseen."""
    one = entry(1, 7, 0, 2)
    changed = msgspec.structs.replace(one, data=one.data + b"\xc0")
    assert build_batch(0, [changed], NEW).bounds.token != build_batch(0, [one], NEW).bounds.token
    end = ending(1, 7, 0, 7)
    other = msgspec.structs.replace(end, data=encode_boot_end(msgspec.structs.replace(END, killed=False)))
    assert build_batch(0, [other], NEW).bounds.token != build_batch(0, [end], NEW).bounds.token


def test_events_below_the_mark_are_left_out() -> None:
    """What the marks call done is skipped and counted, also when a frame is done in part."""
    batch = build_batch(0, [entry(1, 7, 0, 4), entry(2, 7, 4, 4)], {7: up_to(6)})
    assert stored(batch) == [(7, 6), (7, 7)]
    assert (batch.repeated, batch.bounds.rows, batch.done) == (6, 2, {7: up_to(8)})


def test_only_what_is_missing_is_taken() -> None:
    """Of marks with a hole, what lies in the hole is new, and the rest is not, before and behind it."""
    batch = build_batch(0, [entry(1, 7, 0, 10)], {7: Marks.of([(0, 3), (5, 8)])})
    assert stored(batch) == [(7, 3), (7, 4), (7, 8), (7, 9)]
    assert (batch.repeated, batch.done) == (6, {7: up_to(10)})


def test_a_frame_that_overlaps_its_predecessor_adds_only_what_is_new() -> None:
    """Two frames with common events in one batch give each event once."""
    batch = build_batch(0, [entry(1, 7, 0, 4), entry(2, 7, 2, 4), entry(3, 7, 0, 3)], {7: Marks()})
    assert stored(batch) == [(7, seq) for seq in range(6)]
    assert batch.done == {7: up_to(6)}


def test_sources_do_not_hide_each_other() -> None:
    """Marks are per source; what is missing of one is missing from its marks alone."""
    found = [entry(1, 7, 0, 2), entry(2, 8, 10, 2), entry(3, 7, 5, 1)]
    batch = build_batch(0, found, {7: Marks(), 8: up_to(11)})
    assert stored(batch) == [(7, 0), (7, 1), (8, 11), (7, 5)]
    assert [part.source for part in batch.segments] == [7, 8, 7]
    assert sources_of(found) == [7, 8]
    assert batch.done == {7: Marks.of([(0, 2), (5, 6)]), 8: up_to(12)}
    assert batch.done[7].missing == 3


def test_numbers_of_no_event_are_taken_care_of() -> None:
    """What lies between the number that a frame follows and its own first belongs to no event, and is not missing."""
    batch = build_batch(0, [entry(1, 7, 0, 2), entry(2, 7, 5, 2, expected_seq=2)], {7: Marks()})
    assert stored(batch) == [(7, 0), (7, 1), (7, 5), (7, 6)]
    assert batch.done == {7: up_to(7)}


def test_numbers_below_the_floor_are_taken_care_of() -> None:
    """What the gateway knows to be in ClickHouse is not stored again, even if nothing else is known of the source."""
    batch = build_batch(0, [entry(1, 7, 50, 10, floor=50), entry(2, 7, 40, 21)], {7: Marks()})
    assert stored(batch) == [(7, seq) for seq in range(50, 61)]
    assert (batch.repeated, batch.done) == (20, {7: up_to(61)})


def test_a_release_without_a_journal_declares_nothing() -> None:
    """A frame without the fields p and o takes care of its events, and of nothing before them."""
    decoded = decode_entry((b"1-0", fields_of(7, 5, 2)))
    assert isinstance(decoded, Decoded)
    assert build_batch(0, [decoded], {7: Marks()}).done == {7: Marks.of([(5, 7)])}


@pytest.mark.parametrize("missing", [{2}, {0}, {4}, {1, 3}, {0, 1, 2}, {0, 1, 2, 3, 4}])
def test_an_event_taken_out_of_a_frame_costs_itself_alone(missing: set[int]) -> None:
    """A hole within a frame keeps the other events, and its number stays out of the marks: it may still come."""
    rest = [seq for seq in range(5) if seq not in missing]
    batch = build_batch(0, [entry(1, 7, 0, 5, missing=missing)], {7: Marks()})
    assert stored(batch) == [(7, seq) for seq in rest]
    assert batch.done == {7: Marks.of([(seq, seq + 1) for seq in rest])}
    later = build_batch(0, [entry(2, 7, 0, 5)], batch.done)
    assert stored(later) == [(7, seq) for seq in sorted(missing)]
    assert later.done == {7: up_to(5)}


def test_an_end_with_everything_before_it() -> None:
    """A source has ended once everything before its end is taken care of, here or earlier; the rest is of no event."""
    batch = build_batch(0, [entry(1, 7, 3, 2), ending(2, 7, 5, 7)], {7: up_to(3)})
    assert (batch.ends, batch.done, batch.bounds.rows) == ({7: END}, {7: up_to(7)}, 2)
    assert build_batch(0, [ending(2, 7, 5, 7)], {7: up_to(5)}).ends == {7: END}
    assert build_batch(0, [ending(2, 7, 5, 7, floor=5)], {7: Marks()}).ends == {7: END}, "its gateway knows"
    assert build_batch(0, [ending(2, 7, 0, 0)], {7: Marks()}).ends == {7: END}, "it never had an event"


def test_an_end_with_something_missing_before_it() -> None:
    """A source of which something is still missing has not ended; its end comes again."""
    batch = build_batch(0, [entry(1, 7, 0, 5, missing={3}), ending(2, 7, 5, 7), ending(3, 8, 1, 1)], NEW)
    assert batch.ends == {}
    assert batch.done == NEW | {7: Marks.of([(0, 3), (4, 7)])}
    again = build_batch(0, [entry(4, 7, 3, 1), ending(5, 7, 5, 7)], batch.done)
    assert (again.ends, again.done[7]) == ({7: END}, up_to(7))


def test_a_redriven_frame_is_measured_by_what_is_stored() -> None:
    """A dead letter that is tried again has its numbers among the marks: what ClickHouse has decides instead."""
    found = [entry(1, 7, 0, 5, r=b"1"), entry(2, 7, 0, 5, r=b"1"), entry(3, 7, 5, 2)]
    batch = build_batch(0, found, {7: up_to(5)}, {7: Marks.of([(1, 2), (4, 5)])})
    assert stored(batch) == [(7, 0), (7, 2), (7, 3), (7, 5), (7, 6)]
    assert batch.done == {7: up_to(7)}
    bounds = batch.bounds
    assert build_batch(0, found, bounds.marks_before(), bounds.stored_before()) == batch


ranges = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=3)
marks = st.fixed_dictionaries({source: ranges.map(Marks.of) for source in (7, 8, 9)})


@st.composite
def streams(draw: st.DrawFn) -> list[Entry]:
    """Frames with and without holes, and ends, as nobody would send them together."""
    found: list[Entry] = []
    for number in range(1, draw(st.integers(2, 10))):
        source, first, count, before = (draw(st.integers(*span)) for span in ((7, 9), (0, 12), (0, 5), (0, 3)))
        expected_seq, floor = max(first - before, 0), draw(st.sampled_from((0, 0, max(first - 4, 0))))
        if draw(st.integers(0, 5)):
            missing = draw(st.sets(st.integers(first, first + 5), max_size=2))
            found.append(entry(number, source, first, count, missing=missing, expected_seq=expected_seq, floor=floor))
        else:
            found.append(ending(number, source, expected_seq, first, floor=floor))
    return found


@given(streams(), marks)
def test_the_same_entries_always_make_the_same_batch(found: list[Entry], before: dict[int, Marks]) -> None:
    """A replay with the recorded marks rebuilds bounds, token and events exactly; afterwards nothing is new."""
    first = build_batch(0, found, before)
    replay = build_batch(0, found, first.bounds.marks_before())
    assert replay.bounds == first.bounds
    assert (replay.segments, replay.repeated, replay.ends) == (first.segments, first.repeated, first.ends)
    assert replay.done == {source: first.done[source] for source in sources_of(found)}
    after = build_batch(0, found, first.done)
    assert (after.segments, after.done, after.bounds.rows) == ([], first.done, 0)


@given(streams(), marks)
def test_a_batch_is_what_plain_sets_say(found: list[Entry], before: Mapping[int, Marks]) -> None:
    """Each event is taken if and only if its number was not taken care of before, and is afterwards."""
    known = {source: numbers_in(mark) for source, mark in before.items()}
    expected: list[tuple[int, int]] = []
    for item in found:
        here = known[item.source]
        here |= numbers_in(Marks.of(item.covers[:1]))
        seqs = item.frame.seqs if isinstance(item, Decoded) else []
        expected += [(item.source, seq) for seq in seqs if seq not in here]
        here |= numbers_in(Marks.of(item.covers))
    batch = build_batch(0, found, before)
    assert stored(batch) == expected
    assert {source: numbers_in(mark) for source, mark in batch.done.items()} == known
    assert len(set(expected)) == len(expected) == batch.bounds.rows
    assert batch.repeated + batch.bounds.rows == sum(item.size for item in found)


def numbers_in(mark: Marks) -> set[int]:
    return {seq for first, end in mark.ranges for seq in range(first, end)}


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
        ({b"f": encode_frame(2**64 - 1, 2**53, "gw", [])}, "inconsistent"),
        ({b"f": encode_frame(7, -1, "gw", [encode_event(event(-1))])}, "inconsistent"),
        ({b"f": encode_frame(7, 0, "gw", [encode_event(event(0)), encode_event(event(2))])}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"s": b"8"}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"a": b"1"}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"n": b"1"}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"n": b"many"}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"p": b"-1"}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"o": b""}, "inconsistent"),
        (fields_of(7, 0, 2) | {b"o": b"%d" % 2**64}, "inconsistent"),
        ({b"e": b"\xff", b"s": b"7", b"a": b"0", b"n": b"0"}, "undecodable"),
        ({b"e": encode_boot_end(END), b"a": b"0", b"n": b"0"}, "inconsistent"),
        ({b"e": encode_boot_end(END), b"s": b"7", b"a": b"%d" % 2**53, b"n": b"0"}, "inconsistent"),
        ({b"e": encode_boot_end(END), b"s": b"7", b"a": b"0", b"n": b"0", b"o": b"x"}, "inconsistent"),
    ],
)
def test_what_is_no_frame_is_poison_with_a_reason(fields: dict[bytes, bytes], reason: str) -> None:
    """Unreadable entries come back as poison; nothing is raised and nothing is guessed."""
    poison = decode_entry((b"5-1", fields))
    assert isinstance(poison, Poison)
    assert (poison.entry_id, poison.reason) == ("5-1", reason)


@pytest.mark.parametrize("name", [b"o", b"p"])
@pytest.mark.parametrize("number", [3, 2**53])
def test_a_frame_does_not_begin_before_its_floor(name: bytes, number: int) -> None:
    """A floor or an expected number above a frame's first says what no gateway says: believed, it hides what comes."""
    assert isinstance(decode_entry((b"5-1", fields_of(7, 0, 2) | {name: b"%d" % number})), Poison)


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ({b"s": b"7", b"a": b"3", b"n": b"2"}, (7, 3, 5)),
        ({b"s": b"7", b"a": b"3", b"n": b"%d" % MAX_FRAME_EVENTS_READ}, (7, 3, 3 + MAX_FRAME_EVENTS_READ)),
        ({b"s": b"7", b"a": b"3", b"n": b"%d" % (MAX_FRAME_EVENTS_READ + 1)}, None),
        ({b"s": b"7", b"a": b"%d" % 2**53, b"n": b"1"}, None),
        ({b"s": b"%d" % 2**64, b"a": b"0", b"n": b"1"}, None),
        ({b"s": b"-7", b"a": b"0", b"n": b"1"}, None),
        ({b"s": b"7", b"a": b"0", b"n": b"-1"}, None),
        ({b"s": b"7", b"a": b"x", b"n": b"1"}, None),
        ({b"s": b"\xff", b"a": b"0", b"n": b"1"}, None),
        ({b"a": b"0", b"n": b"1"}, None),
        ({}, None),
    ],
)
def test_what_poison_claims(said: dict[bytes, bytes], claim: tuple[int, int, int] | None) -> None:
    """An unreadable entry claims what its fields say it carries, if that is a possible frame, and else nothing."""
    for fields in ({b"f": b"\xff"}, {b"e": b"\xff"}, {}):
        poison = decode_entry((b"5-1", said | fields))
        assert isinstance(poison, Poison)
        assert poison.claim == claim


def test_an_empty_frame_is_no_poison() -> None:
    """A frame without events makes a batch without rows."""
    batch = build_batch(0, [entry(1, 7, 3, 0)], {7: up_to(3)})
    assert (batch.bounds.rows, batch.segments, batch.done) == (0, [], {7: up_to(3)})


def test_only_a_source_without_gaps_is_fresh() -> None:
    """When the last of a source's requests here ended is said only while nothing of it is missing."""
    found = [entry(1, 7, 0, 3), entry(2, 8, 5, 1), entry(3, 9, 0, 1), entry(4, 9, 1, 1)]
    last = {seq: event(seq).ts_ms + event(seq).latency_us // 1_000 for seq in (2, 1)}
    assert build_batch(0, found, NEW).ended_ms() == {7: last[2], 9: last[1]}


class Scripts:
    """The gateway's scripts for one source, as its shipper calls them."""

    def __init__(self, client: "redis.Redis") -> None:
        self.source = new_source()
        self._push, self._end = (
            client.register_script((ROOT / "gateway" / name).read_text("utf-8")) for name in ("push.lua", "end.lua")
        )

    def push(self, expected_seq: int, first_seq: int, number: int, *, floor: int = 0) -> int:
        events = [encode_event(event(first_seq + n)) for n in range(number)]
        frame = encode_frame(self.source, first_seq, INSTANCE, events)
        args: list[int | bytes] = [self.source, floor, expected_seq, first_seq, number, frame]
        return int(self._push(keys=[P0.stream, P0.accepted, P0.ended], args=args))

    def end(self, expected_seq: int, end_seq: int, *, floor: int = 0) -> int:
        record = encode_boot_end(BootEnd(INSTANCE, 1, 2, end_seq, 0, killed=False))
        args: list[int | bytes] = [self.source, floor, expected_seq, end_seq, record, 60]
        keys = [P0.stream, P0.accepted, P0.ended, P0.said(self.source)]
        return int(self._end(keys=keys, args=args)[0])


def test_a_push_happens_once(redis_url: str) -> None:
    """The script appends a frame once, however often it is called, and none that does not begin where it must."""
    with redis.Redis.from_url(redis_url) as client:
        script = Scripts(client)
        assert [script.push(0, 0, 10) for _ in range(3)] == [10, 10, 10]
        assert script.push(10, 10, 5) == 15
        assert [script.push(*numbers) for numbers in ((0, 0, 10), (10, 10, 5), (3, 3, 1), (16, 16, 1))] == [15] * 4
        assert script.push(15, 20, 1) == 21, "numbers 15 to 19 are of no event"
        assert script.push(15, 15, 5) == 21
        assert client.hget(P0.accepted, str(script.source)) == b"21"
        assert Scripts(client).push(0, 0, 1) == 1, "another source has its own numbers"
        assert [frame.bounds for frame in frames(redis_url, script.source)] == [(0, 0, 10), (10, 10, 15), (15, 20, 21)]


def test_a_floor_stands_in_for_what_redis_forgot(redis_url: str) -> None:
    """To a Redis that knows less than ClickHouse, a source begins at its floor; one that knows more goes by itself."""
    with redis.Redis.from_url(redis_url) as client:
        script = Scripts(client)
        assert script.push(50, 50, 1) == 0, "without a floor the beginning is missing"
        assert script.push(50, 50, 10, floor=50) == 60
        assert script.push(50, 50, 10, floor=50) == 60
        assert script.push(60, 60, 1, floor=50) == 61
        assert [(frame.floor, frame.first_seq) for frame in frames(redis_url, script.source)] == [(50, 50), (50, 60)]


def test_an_end_stands_behind_everything(redis_url: str) -> None:
    """The end record is appended only where Redis has all frames before it, and once, unless Redis forgot it."""
    with redis.Redis.from_url(redis_url) as client:
        script = Scripts(client)
        script.push(0, 0, 10)
        assert [script.end(expected, 12) for expected in (0, 9, 11, 12)] == [10] * 4
        assert ends(redis_url, script.source) == []
        assert [script.end(10, 12) for _ in range(3)] == [10] * 3
        assert [entry.bounds for entry in entries(redis_url, script.source)] == [(0, 0, 10), (10, 12, 12)]
        client.hdel(P0.ended, str(script.source))
        assert script.end(10, 12) == 10
        assert len(ends(redis_url, script.source)) == 2
