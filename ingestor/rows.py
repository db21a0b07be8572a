"""A batch to one block of rows of `requests`, ready to be sent. Pure.

In: segments of events, and what prices them. Out: a Block in ClickHouse's Native format, its columns in the order of
COLUMNS. Values that a column cannot hold are brought to its nearest bound and the row is marked `value_clamped`: a
broken number must not cost the row, let alone its neighbours. Depends on the events and the
prices alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from operator import truediv
from typing import Final, NamedTuple

import msgspec

from ingestor.batch import Segment
from ingestor.costs import Costs, Outcome
from ingestor.fields import TOKEN_KINDS, Fields, chunks, fields_of, sums_of
from ingestor.native import Codes, Flags, Lists, Nullable, Numbers, Repeated, Sendable, Strings, Wide, block
from ingestor.pricing import Pricer

CLAMPED: Final = "value_clamped"
_U16: Final = 2**16 - 1
_U32: Final = 2**32 - 1
_U64: Final = 2**64 - 1
_TYPECODES: Final = {_U16: "H", _U32: "I", _U64: "Q"}
_MIN_TS_MS: Final = 1_577_836_800_000  # 2020-01-01, before the product
_MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01; a broken clock must not make partitions without end
_MAX_SECONDS: Final = 1e12
_LOW: Final = "LowCardinality(String)"
_US_PER_MS: Final = repeat(1_000)


class Column(NamedTuple):
    """A column that inserts name: its name and type, which must be the table's."""

    name: str
    kind: str

    @property
    def wire_kind(self) -> str:
        """The type it is sent as. Text that repeats goes with a dictionary, whichever way the table keeps it."""
        return _LOW if self.kind == "String" and self.name != _UNIQUE else self.kind


_UNIQUE: Final = "provider_request_id"

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
    "key": _LOW,
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
_HIGHEST: Final = {
    **{name: high for name, (_, high) in _INTEGERS.items()},
    **dict.fromkeys((*TOKEN_KINDS, "web_search_requests"), _U32),
}
"""Integer columns that are filled from one field, with the largest value that they hold."""

_UNSUMMED: Final = (*_INTEGERS, "web_search_requests")

COLUMNS: Final = (
    Column("ts", "DateTime64(3, 'UTC')"),
    *(Column(name, kind) for name, kind in _TEXT.items()),
    *(Column(name, "Bool") for name in _FLAGS),
    *(Column(name, kind) for name, (kind, _) in _INTEGERS.items()),
    *(Column(name, "UInt32") for name in TOKEN_KINDS),
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
    Column("attempts", f"Array({_LOW})"),
)
"""What an insert fills in; the table may have more columns, with defaults."""


class Block(msgspec.Struct, frozen=True):
    """What one insert sends, and what is worth counting about it."""

    data: bytes
    rows: int
    clamped: int
    """Rows with a value that was brought to a bound."""
    unpriced: dict[str, int]
    """Rows without a cost, by reason."""


def to_block(segments: Sequence[Segment], pricer: Pricer) -> Block:
    """The rows of all segments in order. Takes about 4 seconds of CPU for a million events."""
    rows = _Rows(pricer)
    for events in chunks(segment.events for segment in segments):
        rows.add(fields_of(events))
    for segment in segments:
        rows.identify(segment)
    return rows.block()


class _Rows:
    """The columns while they grow."""

    def __init__(self, pricer: Pricer) -> None:
        self._costs = Costs(pricer)
        self._rows = self._clamped = 0
        self._texts = {name: Repeated() for name in _TEXT if name != _UNIQUE}
        self._ids = Strings()
        self._flags = {name: Flags() for name in _FLAGS}
        self._integers = {name: Numbers(_TYPECODES[high]) for name, high in _HIGHEST.items()}
        self._ts = Numbers("q")
        self._seconds = Numbers("d")
        self._inputs, self._outputs = Numbers("Q"), Numbers("Q")
        self._durations = {name: Numbers("f") for name in _DURATIONS}
        self._absent = {name: Nullable(values) for name, values in self._durations.items()}
        self._stall = Numbers("f")
        self._cost = Wide()
        self._outcomes: Codes[Outcome] = Codes()
        self._gateway = Repeated()
        self._boot, self._seq = Numbers("Q"), Numbers("Q")
        self._marks, self._attempts = Lists(), Lists()

    def add(self, fields: Fields) -> None:
        columns = fields.columns
        wrong: set[int] = set()
        for name, texts in self._texts.items():
            texts.add(columns[name])
        self._ids.add(columns[_UNIQUE])
        for name, flags in self._flags.items():
            flags.add(columns[name])
        self._ts.add(_bounded(columns["ts_ms"], _MIN_TS_MS, _MAX_TS_MS, wrong))
        for name in _UNSUMMED:
            self._put(name, columns[name], wrong)
        tokens = [self._put(name, counts, wrong) for name, counts in zip(TOKEN_KINDS, fields.tokens, strict=True)]
        sums = sums_of(tokens)
        self._inputs.add(sums.inputs)
        self._outputs.add(sums.outputs)
        self._seconds.add(_seconds(columns["input_audio_seconds"], wrong))
        for name, durations in self._durations.items():
            values: list[int] = columns[f"{name}_us"]
            durations.add(list(map(truediv, values, _US_PER_MS)))
            self._absent[name].mark(bytes([value < 0 for value in values]) if min(values) < 0 else bytes(len(values)))
        stalls = columns["client_stall_us"]
        self._stall.add([max(stall, 0) / 1_000 for stall in stalls] if any(stalls) else [0.0] * len(stalls))
        self._seq.add(columns["seq"])
        amounts, outcomes = self._costs.price(fields, sums, wrong)
        self._cost.add(amounts)
        self._outcomes.add(outcomes)
        self._marks.add(_marks(columns["marks"], wrong))
        self._attempts.add(columns["attempts"])
        self._rows += len(fields.events)
        self._clamped += len(wrong)

    def identify(self, segment: Segment) -> None:
        self._gateway.add([segment.gateway] * len(segment.events))
        self._boot.repeat(segment.source, len(segment.events))

    def _put(self, name: str, values: list[int], wrong: set[int]) -> list[int]:
        """Add what the column can hold, and return that."""
        if not any(values):
            self._integers[name].repeat(0, len(values))
            return values
        try:
            self._integers[name].add(values)
        except OverflowError:
            values = _bounded(values, 0, _HIGHEST[name], wrong)
            self._integers[name].add(values)
        return values

    def block(self) -> Block:
        outcomes = self._outcomes
        cost = Nullable(self._cost)
        cost.mark(outcomes.each(lambda outcome: bool(outcome.unpriced_reason)))
        columns: dict[str, Sendable] = {
            "ts": self._ts,
            **self._texts,
            _UNIQUE: self._ids,
            **self._flags,
            **self._integers,
            "input_audio_seconds": self._seconds,
            "input_tokens": self._inputs,
            "output_tokens": self._outputs,
            **{f"{name}_ms": column for name, column in self._absent.items()},
            "client_stall_ms": self._stall,
            "cost": cost,
            "cost_source": outcomes.named(lambda outcome: outcome.source),
            "price_id": outcomes.named(lambda outcome: outcome.price_id),
            "price_version": outcomes.named(lambda outcome: outcome.price_version),
            "unpriced_reason": outcomes.named(lambda outcome: outcome.unpriced_reason),
            "gateway": self._gateway,
            "gateway_boot": self._boot,
            "gateway_seq": self._seq,
            "marks": self._marks,
            "attempts": self._attempts,
        }
        unpriced: Counter[str] = Counter()
        for outcome, rows in outcomes.counts().items():
            if outcome.unpriced_reason:
                unpriced[outcome.unpriced_reason] += rows
        data = block(self._rows, [(column.name, column.wire_kind, columns[column.name]) for column in COLUMNS])
        return Block(data, self._rows, self._clamped, unpriced)


def _bounded(values: list[int], low: int, high: int, wrong: set[int]) -> list[int]:
    if min(values) >= low and max(values) <= high:
        return values
    wrong.update(row for row, value in enumerate(values) if not low <= value <= high)
    return [min(max(value, low), high) for value in values]


def _seconds(values: list[float], wrong: set[int]) -> list[float]:
    if not any(values):
        return values
    unusable = [row for row, value in enumerate(values) if not (math.isfinite(value) and 0 <= value <= _MAX_SECONDS)]
    wrong.update(unusable)
    usable = list(values)
    for row in unusable:
        usable[row] = 0.0
    return usable


def _marks(marks: list[tuple[str, ...]], wrong: set[int]) -> list[tuple[str, ...]]:
    if not wrong:
        return marks
    return [(*names, CLAMPED) if row in wrong else names for row, names in enumerate(marks)]
