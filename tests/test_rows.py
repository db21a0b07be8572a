"""Events and costs to columns: every field in its place, and values that no column can hold."""

from decimal import Decimal
from typing import Any

from ingestor.batch import Segment
from ingestor.pricelist import PRICE_VERSION
from ingestor.pricing import Cost
from ingestor.rows import CLAMPED, COLUMNS, clamped_rows, to_columns
from shared.event import Event, Usage
from tests.ingestor_process import TS_MS, event

FREE = Cost(Decimal(0), "not_billed")


def rows_of(*events: Event, costs: list[Cost] | None = None) -> list[dict[str, Any]]:
    columns = to_columns([Segment(7, "gw-1", list(events))], costs or [FREE] * len(events))
    names = [column.name for column in COLUMNS]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


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
    assert [row[f"{name}_ms"] for name in ("latency", "ttfb", "ttft", "overhead")] == [1234.567, None, 0.0, None]
    assert row["client_stall_ms"] == 0.0


def test_costs_stay_with_their_events() -> None:
    """Costs follow the events' order over several segments; the price list is named only where it was used."""
    listed, unknown = Cost(Decimal("0.5"), "list_price", "openai/x"), Cost(None, unpriced_reason="model_unknown")
    columns = to_columns(
        [Segment(7, "gw-1", [event(0)]), Segment(8, "gw-2", [event(5), event(6)])], [unknown, listed, FREE]
    )
    by_name = dict(zip([column.name for column in COLUMNS], columns, strict=True))
    assert by_name["cost"] == [None, Decimal("0.5"), Decimal(0)]
    assert by_name["gateway_boot"] == [7, 8, 8]
    assert by_name["gateway_seq"] == [0, 5, 6]
    assert by_name["price_version"] == ["", PRICE_VERSION, ""]
    assert by_name["unpriced_reason"] == ["model_unknown", "", ""]


def test_broken_values_are_brought_to_a_bound_and_marked() -> None:
    """No number an event can hold costs the row or its neighbours; the row says that it was touched."""
    broken = [
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
    columns = to_columns([Segment(7, "gw", [*broken, event(10)])], [FREE] * 11)
    rows = rows_of(*broken, event(10))
    assert [row["marks"] for row in rows[:8]] == [(CLAMPED,)] * 8
    assert rows[8]["marks"] == ("provider_unknown", CLAMPED)
    assert rows[10]["marks"] == ()
    assert clamped_rows(columns) == 10
    assert (rows[0]["status"], rows[1]["status"]) == (0, 65_535)
    assert rows[5]["output_tokens"] == 2**32 - 1
    assert (rows[6]["input_audio_seconds"], rows[7]["input_audio_seconds"]) == (0.0, 0.0)
    assert rows[10]["ts"] == TS_MS + 10


def test_a_replay_gives_the_same_rows() -> None:
    """Rows depend on events and costs alone."""
    events = [event(seq, status=-seq) for seq in range(50)]
    assert rows_of(*events) == rows_of(*events)
