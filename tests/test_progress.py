"""What is missing and up to when everything is stored: found out within seconds, and said in a metric and in SQL."""

from typing import Any

import msgspec

from ingestor.absence import _UNHEARD_S, Absence
from ingestor.marks import Marks
from ingestor.presence import FORGET_GONE_MS
from ingestor.progress import Census, Seen
from shared.stream import BootEnd, encode_boot_end, encode_event, encode_frame
from tests.ingestor_process import TS_MS, Stores, event, metric, serving
from tests.parts import wait_until

GAP_DEADLINE_S = 60.0
NOTHING = Census(marks={}, accepted={}, seen={}, fresh={}, ended={}, waiting_frames=0, first_frame_ms=0)


def test_an_event_taken_out_of_a_frame_is_a_gap(own: Stores) -> None:
    """One event deleted from a frame: its neighbours are stored, and within a minute the gap has its exact number."""
    events = [encode_event(event(seq)) for seq in range(100)]
    own.pusher.push_frame(7, encode_frame(7, 0, "gw-test", events[:42] + events[43:]), 0, 100, expected_seq=0)
    with serving(own.eager()) as part:
        own.wait_drained()
        wait_until(lambda: metric(part, "lectr_ingestor_events_missing") == 1, deadline_s=GAP_DEADLINE_S)
        (gap,) = own.select("SELECT * FROM lectr.event_gaps")
        progress = "SELECT missing FROM lectr.ingestion_progress FINAL"
        wait_until(lambda: own.select(progress) == [{"missing": 1}], deadline_s=GAP_DEADLINE_S)
        assert (gap["gateway_boot"], gap["gateway"], gap["first_seq"], gap["end_seq"]) == (7, "gw-test", 42, 43)
        assert gap["events"] == 1
        assert gap["after"] == "2026-11-18 11:06:40.041"
        # Its gateway is asked for it.
        wait_until(lambda: own.pusher.client.hget(own.pusher.partition.accepted, "7") == b"42")
        own.pusher.push_frame(7, encode_frame(7, 42, "gw-test", events[42:]), 42, 58, expected_seq=42)
        wait_until(lambda: own.figures() == (100, 100))
        wait_until(lambda: metric(part, "lectr_ingestor_events_missing") == 0)
    assert own.select("SELECT * FROM lectr.event_gaps") == []


def test_what_a_dead_gateway_took_with_it_is_a_gap(own: Stores) -> None:
    """An end record that names more events than were stored makes the rest a gap, at the end or of the whole run."""
    own.pusher.push(7, [event(seq) for seq in range(10)])
    for source, used, expected in ((7, 13, 10), (8, 5, 0)):
        end = BootEnd("gw-test", TS_MS, TS_MS + 1_000, used, 2, killed=True)
        fields: dict[Any, Any] = {"s": source, "o": 0, "p": expected, "a": used, "n": 0, "e": encode_boot_end(end)}
        own.pusher.client.xadd(own.pusher.partition.stream, fields)
    with serving(own.eager()):
        own.wait_drained()
    gaps = own.select("SELECT gateway_boot, first_seq, end_seq, events FROM lectr.event_gaps ORDER BY gateway_boot")
    assert gaps == [
        {"gateway_boot": 7, "first_seq": 10, "end_seq": 13, "events": 3},
        {"gateway_boot": 8, "first_seq": 0, "end_seq": 5, "events": 5},
    ]
    boots = own.select("SELECT events, unfinished, killed FROM lectr.gateway_boots FINAL ORDER BY gateway_boot")
    assert boots == [{"events": used, "unfinished": 2, "killed": True} for used in (13, 5)]
    assert own.pusher.marks() == {}


def test_freshness_follows_what_is_stored(own: Stores) -> None:
    """Of a gateway that says nothing of itself, all is complete up to the end of its last stored request."""
    own.pusher.push(7, [event(seq) for seq in range(10)])
    with serving(own.eager()):
        query = "SELECT toUnixTimestamp64Milli(complete_up_to) AS ms FROM lectr.ingestion_progress FINAL"
        wait_until(lambda: own.select(query) == [{"ms": TS_MS + 9 + 1_500}], deadline_s=GAP_DEADLINE_S)


def test_complete_up_to_is_the_slowest_gateway() -> None:
    """Idle gateways count up to when they were last heard, busy ones to what is stored, new ones to their start."""
    now_ms = 10_000

    def bound(**what: object) -> int:
        return msgspec.structs.replace(NOTHING, **what).complete_up_to_ms(now_ms)

    idle, busy, begun = Seen(9_000, 50, 1_000), Seen(9_500, 80, 1_000), Seen(9_900, 3, 8_000)
    assert bound() == now_ms
    assert bound(seen={1: idle}, marks={1: Marks.parse("50")}) == 9_000
    assert bound(seen={1: busy}, marks={1: Marks.parse("50")}, fresh={1: 7_000}) == 7_000
    assert bound(seen={1: begun}) == 8_000
    assert bound(accepted={4: 9}, first_frame_ms=6_000) == 6_000
    assert bound(seen={1: idle, 2: busy}, marks={1: Marks.parse("50"), 2: Marks.parse("80")}) == 9_000
    assert bound(seen={1: idle}, marks={1: Marks.parse("40,45-50")}, fresh={1: 5_000}) == 5_000


def test_what_is_over_is_found() -> None:
    """Sources that ended, or were last seen, before a moment are named; others are not."""
    census = msgspec.structs.replace(
        NOTHING,
        seen={1: Seen(100, 1, 1), 2: Seen(300, 1, 1)},
        ended={3: 100, 4: 300, 5: -100, 6: -300},
        marks={1: Marks.parse("1,5-6")},
    )
    assert census.long_gone(200) == [1]
    assert census.long_ended(200, 200) == [3, 5]
    assert census.silent(200) == [1]
    assert census.missing == 4


def test_a_clock_that_is_behind_makes_nobody_gone() -> None:
    """Who was silent for a week is; who says something new is not until a week later, though its clock is behind."""
    absence, now_ms, week_s = Absence(), 10 * FORGET_GONE_MS, FORGET_GONE_MS / 1_000
    month_ago_ms = now_ms - 4 * FORGET_GONE_MS

    def gone(at_s: float, *, behind_ms: int, lately_ms: int = now_ms) -> list[int]:
        seen = {1: Seen(month_ago_ms, 1, 1), 2: Seen(behind_ms, 1, 1), 3: Seen(lately_ms, 1, 1)}
        return absence.look(0, msgspec.structs.replace(NOTHING, seen=seen), now_ms, at_s)

    assert gone(0, behind_ms=month_ago_ms) == []
    assert gone(5, behind_ms=month_ago_ms + 5_000) == []
    assert gone(_UNHEARD_S, behind_ms=month_ago_ms + 5_000) == [1]
    assert gone(week_s, behind_ms=month_ago_ms + 5_000) == [1]
    assert gone(week_s + 5, behind_ms=month_ago_ms + 5_000) == [1, 2]
    assert gone(week_s + 10, behind_ms=month_ago_ms + 10_000) == [1]
