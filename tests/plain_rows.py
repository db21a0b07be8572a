"""Rows of `requests` as plain Python values, event by event: what the ingestor's blocks must come to.

Written for reading, not for speed; the driver's own encoder sends them. Shares no code with `ingestor.rows` but the
list of columns.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ingestor.batch import Segment
from ingestor.pricelist import PRICE_VERSION
from ingestor.pricing import Pricer
from ingestor.rows import COLUMNS
from shared.event import Event, Usage

_LIMITS = {"UInt16": 2**16 - 1, "UInt32": 2**32 - 1, "UInt64": 2**64 - 1}
_SUMS = {
    "input_tokens": list(Usage.__struct_fields__[:7]),
    "output_tokens": list(Usage.__struct_fields__[7:11]),
}


def plain_rows(segments: Iterable[Segment], pricer: Pricer) -> list[dict[str, Any]]:
    """A row per event: name to value."""
    return [_row(segment, event, pricer) for segment in segments for event in segment.events]


def plain_columns(segments: Iterable[Segment], pricer: Pricer) -> list[Sequence[Any]]:
    """The same as a list per column, in the order of COLUMNS."""
    rows = plain_rows(segments, pricer)
    return [[row[column.name] for row in rows] for column in COLUMNS]


def _row(segment: Segment, event: Event, pricer: Pricer) -> dict[str, Any]:
    row: dict[str, Any] = {}
    clamped = False
    for column in COLUMNS:
        value = getattr(event, column.name, getattr(event.usage, column.name, None))
        if column.kind in _LIMITS and value is not None and column.name not in _SUMS:
            row[column.name] = min(max(value, 0), _LIMITS[column.kind])
            clamped = clamped or row[column.name] != value
        elif column.name.endswith("_ms"):
            micros = getattr(event, f"{column.name[:-3]}_us")
            row[column.name] = micros / 1_000 if micros >= 0 else None
        elif value is not None:
            row[column.name] = value
    row["ts"] = min(max(event.ts_ms, 1_577_836_800_000), 4_102_444_800_000)
    seconds = event.usage.input_audio_seconds
    row["input_audio_seconds"] = seconds if math.isfinite(seconds) and 0 <= seconds <= 1e12 else 0.0
    clamped = clamped or row["ts"] != event.ts_ms or row["input_audio_seconds"] != seconds
    row["client_stall_ms"] = max(event.client_stall_us / 1_000, 0.0)
    for name, parts in _SUMS.items():
        row[name] = sum(row[part] for part in parts)
    cost = pricer.price(event)
    row |= {"cost": cost.dollars, "cost_source": cost.source, "price_id": cost.price_id}
    row |= {"price_version": PRICE_VERSION if cost.price_id else "", "unpriced_reason": cost.unpriced_reason}
    row |= {"gateway": segment.gateway, "gateway_boot": segment.source, "gateway_seq": event.seq}
    row["marks"] = (*event.marks, "value_clamped") if clamped else event.marks
    return row
