"""Events turned on their side: one list per field. Pure.

In: some events. Out: their fields as columns, which pricing and rows work on. A thousand events at a time, as the next
field of an event is then still in the processor's cache: of a whole batch, each field would be fetched from memory.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import add
from typing import Final

import msgspec

from shared.event import Event

CHUNK_EVENTS: Final = 2_000


class Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of `events`, by the names of Event and Usage, each as long as `events` and in its order."""

    events: Sequence[Event]
    seq: list[int]
    ts_ms: list[int]
    org: list[str]
    method: list[str]
    endpoint: list[str]
    feature: list[str]
    task: list[str]
    provider: list[str]
    provider_source: list[str]
    model_requested: list[str]
    model_actual: list[str]
    streaming: list[bool]
    status: list[int]
    error_category: list[str]
    error_source: list[str]
    finish_reason: list[str]
    usage_source: list[str]
    service_tier: list[str]
    request_bytes: list[int]
    response_bytes: list[int]
    latency_us: list[int]
    ttfb_us: list[int]
    ttft_us: list[int]
    overhead_us: list[int]
    client_stall_us: list[int]
    provider_request_id: list[str]
    client_retry_count: list[int]
    sdk: list[str]
    rule: list[str]
    message_count: list[int]
    content_bytes: list[int]
    max_tokens: list[int]
    tools_present: list[bool]
    structured_output: list[bool]
    marks: list[tuple[str, ...]]
    tokens: tuple[list[int], ...]
    """Token counts by kind, in the order of Usage: seven of input, four of output."""
    input_audio_seconds: list[float]
    web_search_requests: list[int]


INPUT_KINDS: Final = 7
"""How many of `tokens` are input."""


def fields_of(events: Sequence[Event]) -> Fields:
    """Each field by its name: looked up by a string it would take twice as long."""
    usages = [event.usage for event in events]
    return Fields(
        events=events,
        seq=[event.seq for event in events],
        ts_ms=[event.ts_ms for event in events],
        org=[event.org for event in events],
        method=[event.method for event in events],
        endpoint=[event.endpoint for event in events],
        feature=[event.feature for event in events],
        task=[event.task for event in events],
        provider=[event.provider for event in events],
        provider_source=[event.provider_source for event in events],
        model_requested=[event.model_requested for event in events],
        model_actual=[event.model_actual for event in events],
        streaming=[event.streaming for event in events],
        status=[event.status for event in events],
        error_category=[event.error_category for event in events],
        error_source=[event.error_source for event in events],
        finish_reason=[event.finish_reason for event in events],
        usage_source=[event.usage_source for event in events],
        service_tier=[event.service_tier for event in events],
        request_bytes=[event.request_bytes for event in events],
        response_bytes=[event.response_bytes for event in events],
        latency_us=[event.latency_us for event in events],
        ttfb_us=[event.ttfb_us for event in events],
        ttft_us=[event.ttft_us for event in events],
        overhead_us=[event.overhead_us for event in events],
        client_stall_us=[event.client_stall_us for event in events],
        provider_request_id=[event.provider_request_id for event in events],
        client_retry_count=[event.client_retry_count for event in events],
        sdk=[event.sdk for event in events],
        rule=[event.rule for event in events],
        message_count=[event.message_count for event in events],
        content_bytes=[event.content_bytes for event in events],
        max_tokens=[event.max_tokens for event in events],
        tools_present=[event.tools_present for event in events],
        structured_output=[event.structured_output for event in events],
        marks=[event.marks for event in events],
        tokens=(
            [usage.input_uncached_tokens for usage in usages],
            [usage.input_cache_read_tokens for usage in usages],
            [usage.input_cache_write_5m_tokens for usage in usages],
            [usage.input_cache_write_1h_tokens for usage in usages],
            [usage.input_cache_write_other_tokens for usage in usages],
            [usage.input_audio_tokens for usage in usages],
            [usage.input_image_tokens for usage in usages],
            [usage.output_text_tokens for usage in usages],
            [usage.output_reasoning_tokens for usage in usages],
            [usage.output_audio_tokens for usage in usages],
            [usage.output_image_tokens for usage in usages],
        ),
        input_audio_seconds=[usage.input_audio_seconds for usage in usages],
        web_search_requests=[usage.web_search_requests for usage in usages],
    )


class Sums(msgspec.Struct, frozen=True, gc=False):
    """Tokens of input and of output per event."""

    inputs: list[int]
    outputs: list[int]


def sums_of(tokens: Sequence[list[int]]) -> Sums:
    """The sums of columns in the order of `Fields.tokens`."""
    return Sums(_sum(tokens[:INPUT_KINDS]), _sum(tokens[INPUT_KINDS:]))


def _sum(columns: Sequence[list[int]]) -> list[int]:
    # Most kinds of tokens are zero for everybody, and those cost nothing.
    counted = [column for column in columns if any(column)] or [columns[0]]
    total = counted[0]
    for column in counted[1:]:
        total = list(map(add, total, column))
    return total


def chunks(parts: Iterable[Sequence[Event]]) -> Iterator[Sequence[Event]]:
    """The events of all parts in order, from one to two thousand at a time; the last may be fewer. Never empty."""
    gathered: list[Event] = []
    for part in parts:
        gathered.extend(part)
        while len(gathered) >= 2 * CHUNK_EVENTS:
            yield gathered[:CHUNK_EVENTS]
            del gathered[:CHUNK_EVENTS]
        if len(gathered) >= CHUNK_EVENTS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
