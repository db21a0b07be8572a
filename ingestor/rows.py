"""A batch and its costs to the columns of `requests`. Pure.

In: segments of events, one Cost per event in the same order. Out: one list per column, in the order of COLUMNS.
Values that a column cannot hold are brought to its nearest bound and the row is marked `value_clamped`: a broken
number must not cost the row, let alone its neighbours. Depends on the events alone, so a replay gives the same rows.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from ingestor.batch import Segment
from ingestor.pricelist import PRICE_VERSION
from ingestor.pricing import Cost
from shared.event import Event

CLAMPED: Final = "value_clamped"
_U16: Final = 2**16 - 1
_U32: Final = 2**32 - 1
_U64: Final = 2**64 - 1
_MIN_TS_MS: Final = 1_577_836_800_000  # 2020-01-01, before the product
_MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01; a broken clock must not make partitions without end
_MAX_SECONDS: Final = 1e12
_LOW: Final = "LowCardinality(String)"


class Column(NamedTuple):
    """A column that inserts name: its name and type, which must be the table's."""

    name: str
    kind: str

    @property
    def wire_kind(self) -> str:
        """The type it is sent as: the server builds dictionaries of repeated text itself, at a fraction of the cost."""
        return self.kind.replace(_LOW, "String")


_TOKEN_FIELDS: Final = (
    "input_uncached_tokens",
    "input_cache_read_tokens",
    "input_cache_write_5m_tokens",
    "input_cache_write_1h_tokens",
    "input_cache_write_other_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_text_tokens",
    "output_reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)

# Event fields that are stored as they are, by column type.
_TEXT: Final = {
    "org": _LOW,
    "feature": "String",
    "task": "String",
    "provider": _LOW,
    "provider_source": _LOW,
    "endpoint": "String",
    "method": _LOW,
    "model_requested": "String",
    "model_actual": _LOW,
    "error_category": _LOW,
    "error_source": _LOW,
    "finish_reason": _LOW,
    "usage_source": _LOW,
    "provider_request_id": "String",
    "sdk": "String",
    "rule": _LOW,
    "service_tier": _LOW,
}
_FLAGS: Final = ("streaming", "tools_present", "structured_output")
_INTEGERS: Final = {
    "status": ("UInt16", _U16),
    "request_bytes": ("UInt64", _U64),
    "response_bytes": ("UInt64", _U64),
    "client_retry_count": ("UInt32", _U32),
    "message_count": ("UInt32", _U32),
    "content_bytes": ("UInt64", _U64),
    "max_tokens": ("UInt32", _U32),
}
_DURATIONS: Final = ("latency", "ttfb", "ttft", "overhead")

COLUMNS: Final = (
    Column("ts", "DateTime64(3, 'UTC')"),
    *(Column(name, kind) for name, kind in _TEXT.items()),
    *(Column(name, "Bool") for name in _FLAGS),
    *(Column(name, kind) for name, (kind, _) in _INTEGERS.items()),
    *(Column(name, "UInt32") for name in _TOKEN_FIELDS),
    Column("web_search_requests", "UInt32"),
    Column("input_audio_seconds", "Float64"),
    Column("input_tokens", "UInt64"),
    Column("output_tokens", "UInt64"),
    *(Column(f"{name}_ms", "Nullable(Float32)") for name in _DURATIONS),
    Column("client_stall_ms", "Float32"),
    Column("cost", "Nullable(Decimal(38, 12))"),
    Column("cost_source", _LOW),
    Column("price_id", _LOW),
    Column("price_version", _LOW),
    Column("unpriced_reason", _LOW),
    Column("gateway", _LOW),
    Column("gateway_boot", "UInt64"),
    Column("gateway_seq", "UInt64"),
    Column("marks", f"Array({_LOW})"),
)
"""What an insert fills in; the table may have more columns, with defaults."""


def to_columns(segments: Sequence[Segment], costs: Sequence[Cost]) -> list[Sequence[Any]]:
    """One sequence per column of COLUMNS. `costs[i]` belongs to the i-th event of the segments in order."""
    events = list(chain.from_iterable(segment.events for segment in segments))
    usages = [event.usage for event in events]
    clamped: set[int] = set()

    def bounded(values: list[int], low: int, high: int) -> list[int]:
        return _bounded(values, low, high, clamped)

    tokens = [bounded([getattr(usage, name) for usage in usages], 0, _U32) for name in _TOKEN_FIELDS]
    inputs = sum(name.startswith("input_") for name in _TOKEN_FIELDS)
    columns: list[Sequence[Any]] = [
        bounded([event.ts_ms for event in events], _MIN_TS_MS, _MAX_TS_MS),
        *([getattr(event, name) for event in events] for name in _TEXT),
        *([getattr(event, name) for event in events] for name in _FLAGS),
        *(bounded([getattr(event, name) for event in events], 0, high) for name, (_, high) in _INTEGERS.items()),
        *tokens,
        bounded([usage.web_search_requests for usage in usages], 0, _U32),
        _seconds([usage.input_audio_seconds for usage in usages], clamped),
        [sum(counts) for counts in zip(*tokens[:inputs], strict=True)],
        [sum(counts) for counts in zip(*tokens[inputs:], strict=True)],
        *(_milliseconds([getattr(event, f"{name}_us") for event in events]) for name in _DURATIONS),
        [stall if (stall := event.client_stall_us / 1_000) > 0 else 0.0 for event in events],
        [cost.dollars for cost in costs],
        [cost.source for cost in costs],
        [cost.price_id for cost in costs],
        [PRICE_VERSION if cost.price_id else "" for cost in costs],
        [cost.unpriced_reason for cost in costs],
        *_identity(segments),
    ]
    columns.append(_marks(events, clamped))
    return columns


def clamped_rows(columns: Sequence[Sequence[Any]]) -> int:
    """How many rows hold a value that was brought to a bound."""
    return sum(CLAMPED in marks for marks in columns[-1]) if columns else 0


def _identity(segments: Sequence[Segment]) -> tuple[list[str], list[int], list[int]]:
    gateways: list[str] = []
    boots: list[int] = []
    seqs: list[int] = []
    for segment in segments:
        gateways.extend([segment.gateway] * len(segment.events))
        boots.extend([segment.source] * len(segment.events))
        seqs.extend(event.seq for event in segment.events)
    return gateways, boots, seqs


def _bounded(values: list[int], low: int, high: int, clamped: set[int]) -> list[int]:
    if not values or (min(values) >= low and max(values) <= high):
        return values
    clamped.update(row for row, value in enumerate(values) if not low <= value <= high)
    return [min(max(value, low), high) for value in values]


def _seconds(values: list[float], clamped: set[int]) -> list[float]:
    usable: Callable[[float], bool] = lambda value: math.isfinite(value) and 0 <= value <= _MAX_SECONDS  # noqa: E731
    wrong = [row for row, value in enumerate(values) if not usable(value)]
    clamped.update(wrong)
    for row in wrong:
        values[row] = 0.0
    return values


def _milliseconds(values: list[int]) -> list[float | None]:
    return [value / 1_000 if value >= 0 else None for value in values]


def _marks(events: list[Event], clamped: set[int]) -> list[tuple[str, ...]]:
    marks = [event.marks for event in events]
    for row in clamped:
        marks[row] = (*marks[row], CLAMPED)
    return marks
