"""Events and costs to a block: every field in its place, and values that no column can hold."""

import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from ingestor.batch import Segment
from ingestor.pricelist import PRICE_VERSION
from ingestor.pricing import Pricer
from ingestor.rows import CLAMPED, COLUMNS, to_block
from shared.event import Event, Usage
from tests.bench.ingest_events import traffic
from tests.ingestor_process import TS_MS, event
from tests.native_reader import read_block
from tests.plain_rows import plain_rows

PRICER = Pricer()


def rows_of(*events: Event) -> list[dict[str, Any]]:
    return read(Segment(7, "gw-1", list(events)))


def read(*segments: Segment) -> list[dict[str, Any]]:
    """The rows of a block, times as milliseconds."""
    rows = read_block(to_block(segments, PRICER).data)
    assert [list(row) for row in rows] == [[column.name for column in COLUMNS]] * len(rows)
    return [
        {**row, "ts": milliseconds(row["ts"]), "marks": tuple(row["marks"]), "attempts": tuple(row["attempts"])}
        for row in rows
    ]


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """A plain row with its 32-bit floats as 32 bits hold them."""
    return {name: float32(value) if name.endswith("_ms") else value for name, value in row.items()}


def float32(value: float | None) -> float | None:
    if value is None:
        return None
    unpacked: float = struct.unpack("f", struct.pack("f", value))[0]
    return unpacked


def test_sums_and_identity() -> None:
    """The two token sums are those of their disjoint parts; identity comes from the frame and the event."""
    usage = Usage(1, 2, 3, 4, 5, 6, 7, 10, 20, 30, 40)
    row = rows_of(event(12, usage=usage))[0]
    assert (row["input_tokens"], row["output_tokens"]) == (28, 100)
    assert (row["gateway"], row["gateway_boot"], row["gateway_seq"]) == ("gw-1", 7, 12)
    assert (row["input_uncached_tokens"], row["output_image_tokens"]) == (1, 40)


def test_what_did_not_happen_is_null() -> None:
    """-1 microseconds is NULL, 0 is 0."""
    row = rows_of(event(latency_us=1_234_567, ttfb_us=-1, ttft_us=0, overhead_us=-1))[0]
    durations = [row[f"{name}_ms"] for name in ("latency", "ttfb", "ttft", "overhead")]
    assert durations == [float32(1234.567), None, 0.0, None]
    assert row["client_stall_ms"] == 0.0


def test_costs_stay_with_their_events() -> None:
    """Costs follow the events' order over several segments; the price list is named only where it was used."""
    unknown, refused = {"model_actual": "unheard-of"}, {"usage_source": "absent", "status": 429}
    rows = read(
        Segment(7, "gw-1", [event(0, **unknown)]), Segment(8, "gw-2", [event(5), event(6, **refused, overhead_us=-1)])
    )
    names = ("cost", "cost_source", "price_version", "unpriced_reason", "gateway_boot", "gateway_seq", "gateway")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (None, "", "", "model_unknown", 7, 0, "gw-1"),
        (Decimal("0.00021"), "list_price", PRICE_VERSION, "", 8, 5, "gw-2"),
        (Decimal(0), "not_billed", "", "", 8, 6, "gw-2"),
    ]


BROKEN = [
    event(0, status=-1),
    event(1, status=99_999),
    event(2, ts_ms=-5),
    event(3, ts_ms=2**62),
    event(4, usage=Usage(output_text_tokens=-3)),
    event(5, usage=Usage(output_text_tokens=2**63)),
    event(6, usage=Usage(input_audio_seconds=float("nan"))),
    event(7, usage=Usage(input_audio_seconds=float("-inf"))),
    event(8, request_bytes=-1, marks=("provider_unknown",)),
    event(9, max_tokens=2**40),
]


def test_broken_values_are_brought_to_a_bound_and_marked() -> None:
    """No number an event can hold costs the row or its neighbours; the row says that it was touched."""
    rows = rows_of(*BROKEN, event(10))
    assert [row["marks"] for row in rows[:8]] == [(CLAMPED,)] * 8
    assert rows[8]["marks"] == ("provider_unknown", CLAMPED)
    assert rows[10]["marks"] == ()
    assert to_block([Segment(7, "gw", [*BROKEN, event(10)])], PRICER).clamped == 10
    assert (rows[0]["status"], rows[1]["status"]) == (0, 65_535)
    assert rows[5]["output_tokens"] == 2**32 - 1
    assert (rows[6]["input_audio_seconds"], rows[7]["input_audio_seconds"]) == (0.0, 0.0)
    assert rows[10]["ts"] == TS_MS + 10


@pytest.mark.parametrize("count", [1, 1_999, 2_000, 2_001, 7_000])
def test_a_block_holds_what_its_events_say_one_by_one(count: int) -> None:
    """However many events, however cut into frames: the rows of a block are those of plain Python."""
    events = list(traffic(count))
    segments = [Segment(start, f"gw-{start}", events[start : start + 701]) for start in range(0, count, 701)]
    assert read(*segments) == [stored(row) for row in plain_rows(segments, PRICER)]


def test_a_batch_without_rows_makes_a_block_without_rows() -> None:
    """Frames may be empty, or stored already."""
    assert read() == []
    assert to_block([], PRICER).rows == 0


def test_what_is_worth_counting() -> None:
    """A block says how many rows have no cost, and why."""
    events = [event(0, model_actual="unheard-of"), event(1), event(2, provider="nobody"), event(3, provider="nobody")]
    block = to_block([Segment(7, "gw", events)], PRICER)
    assert (block.rows, block.clamped, block.unpriced) == (4, 0, {"model_unknown": 1, "provider_unknown": 2})


def test_a_replay_gives_the_same_rows() -> None:
    """Rows depend on events and prices alone, to the byte."""
    events = [event(seq, status=-seq) for seq in range(50)]
    assert to_block([Segment(7, "gw", events)], PRICER) == to_block([Segment(7, "gw", events)], Pricer())
