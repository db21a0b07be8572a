"""What an event costs its gateway: made from its exchange, journaled on disk, framed and pushed to a real Redis.

In: how many events. Out: microseconds of CPU per event, of this process with all its threads, which runs the gateway's
own journal and shipper and nothing else. Every event must be on the stream at the end.
"""

import asyncio
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import redis

from gateway.exchange import Exchange
from gateway.request_body import RequestFacts
from gateway.usage import Reading
from shared.event import Event
from shared.stream import FIELD_FRAME, Partition, decode_frame, encode_event
from tests.bench.ingest_events import traffic
from tests.bench.progress import say
from tests.parts import start_redis
from tests.shipper_site import Sender

_AT_ONCE: Final = 50
"""Requests that end in one turn of the event loop: a busy gateway's."""
_SEGMENT_BYTES: Final = 4 << 20
_CAPACITY_BYTES: Final = 4 << 30
_INTERVAL_MS: Final = 100


class GatewayFigures(NamedTuple):
    """Microseconds of CPU per event."""

    encode_us: float
    """From what is known of the exchange to MessagePack."""
    journal_us: float
    """Appended to a mapped file."""
    ship_us: float
    """Read from there, framed, pushed; also the making of the files, and everything else that runs beside requests."""

    @property
    def all_us(self) -> float:
        return sum(self)


def measure_gateway(folder: Path, events: int) -> GatewayFigures:
    """Run that many events through a gateway's road to Redis. Raises AssertionError if one is not there then."""
    part, url = start_redis(folder / "redis")
    try:
        return asyncio.run(_measure(folder, url, events))
    finally:
        part.kill()


async def _measure(folder: Path, url: str, events: int) -> GatewayFigures:
    sender = Sender(
        url,
        folder / "state",
        interval_ms=_INTERVAL_MS,
        segment_bytes=_SEGMENT_BYTES,
        capacity_bytes=_CAPACITY_BYTES,
    )
    journal = sender.journal
    exchanges = map(_exchange, traffic(events))
    encode_ns = journal_ns = all_ns = 0
    sender.start()
    try:
        await sender.all_shipped()
        while part := list(islice(exchanges, _AT_ONCE)):
            started_ns = time.process_time_ns()
            first = journal.next_seq
            encoded = [encode_event(exchange.event(first + place)) for place, exchange in enumerate(part)]
            encoded_ns = time.process_time_ns()
            for event in encoded:
                journal.append(event)
            appended_ns = time.process_time_ns()
            await asyncio.sleep(0)
            encode_ns += encoded_ns - started_ns
            journal_ns += appended_ns - encoded_ns
            all_ns += time.process_time_ns() - started_ns
            if journal.next_seq % 10_000 == 0:
                say(f"gateway: {journal.next_seq:,} of {events:,} events journaled")
        started_ns = time.process_time_ns()
        await sender.all_shipped()
        all_ns += time.process_time_ns() - started_ns
        assert sender.journal.next_seq == events
        assert _on_stream(url) == events
    finally:
        await sender.close()
    ship_ns = all_ns - encode_ns - journal_ns
    return GatewayFigures(*(spent_ns / 1_000 / events for spent_ns in (encode_ns, journal_ns, ship_ns)))


def _exchange(event: Event) -> Exchange:
    """The exchange that this event is the record of."""
    started_ns = time.monotonic_ns()
    facts = RequestFacts(
        readable=True,
        model=event.model_requested,
        message_count=event.message_count,
        content_bytes=event.content_bytes,
        max_tokens=event.max_tokens,
        tools_present=event.tools_present,
        structured_output=event.structured_output,
    )
    reading = Reading(
        event.usage,
        event.usage_source,
        event.model_actual,
        event.finish_reason,
        event.error_category,
        event.error_source,
        "",
        event.service_tier,
    )
    return Exchange(
        started_ns=started_ns,
        started_unix_ms=event.ts_ms,
        method=event.method,
        endpoint=event.endpoint,
        org=event.org,
        feature=event.feature,
        task=event.task,
        provider=event.provider,
        provider_source=event.provider_source,
        facts=facts,
        model_requested=event.model_requested,
        sdk=event.sdk,
        client_retry_count=event.client_retry_count,
        request_bytes=event.request_bytes,
        marks=event.marks,
        sent_ns=started_ns + event.overhead_us * 1_000,
        first_byte_ns=started_ns + event.ttfb_us * 1_000,
        ended_ns=started_ns + event.latency_us * 1_000,
        status=event.status,
        response_bytes=event.response_bytes,
        streaming=event.streaming,
        provider_request_id=event.provider_request_id,
        reading=reading,
    )


def _on_stream(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        entries = client.xrange(Partition(0).stream)
    return sum(len(decode_frame(fields[FIELD_FRAME]).events) for _, fields in cast("Any", entries))
