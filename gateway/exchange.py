"""What is known about one request while it is served, and how it becomes an Event. No I/O.

Filled in along the way by `proxy` and `relay`; read once at the end. Holds no header, body, key or credential.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.request_body import RequestFacts
from gateway.usage import Reading
from shared.event import NO_USAGE, UNTAGGED, ErrorSource, Event, Usage, UsageSource

CLIENT_CLOSED: Final = 499
"""The status recorded when the client left before one was sent (a convention of nginx, not of HTTP)."""


_NO_FACTS: Final = RequestFacts()


@dataclass(slots=True)
class Exchange:
    """One request and its answer. Moments are monotonic nanoseconds, 0 = not reached."""

    started_ns: int
    started_unix_ms: int
    method: str
    endpoint: str
    org: str = ""
    feature: str = UNTAGGED
    task: str = ""
    provider: str = ""
    provider_source: str = ""
    facts: RequestFacts = _NO_FACTS
    model_requested: str = ""
    sdk: str = ""
    client_retry_count: int = 0
    request_bytes: int = 0
    marks: list[str] = field(default_factory=list)

    sent_ns: int = 0
    """The request went out to the provider."""
    first_byte_ns: int = 0
    first_token_ns: int = 0
    ended_ns: int = 0
    client_stall_ns: int = 0
    status: int = 0
    response_bytes: int = 0
    streaming: bool = False
    provider_request_id: str = ""
    reading: Reading | None = None
    error_category: str = ""
    error_source: ErrorSource = ""

    def failed(self, category: str, source: ErrorSource) -> None:
        """Note who ended it badly; the first cause stays."""
        if not self.error_category:
            self.error_category = category
            self.error_source = source

    def _elapsed_us(self, moment_ns: int) -> int:
        return (moment_ns - self.started_ns) // 1_000 if moment_ns else -1

    def event(self, seq: int) -> Event:
        """The record of this exchange."""
        reading = self.reading
        usage: Usage = NO_USAGE
        usage_source: UsageSource = "absent"
        category, source = self.error_category, self.error_source
        if reading is not None:
            usage, usage_source = reading.usage, reading.usage_source
            if not category:
                category, source = reading.error_category, reading.error_source
        return Event(
            seq=seq,
            ts_ms=self.started_unix_ms,
            org=self.org,
            method=self.method,
            endpoint=self.endpoint,
            feature=self.feature,
            task=self.task,
            provider=self.provider,
            provider_source=self.provider_source,
            model_requested=self.model_requested,
            model_actual=reading.model if reading else "",
            streaming=self.streaming,
            status=self.status or CLIENT_CLOSED,
            error_category=category,
            error_source=source,
            finish_reason=reading.finish_reason if reading else "",
            usage=usage,
            usage_source=usage_source,
            service_tier=reading.service_tier if reading else "",
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            latency_us=self._elapsed_us(self.ended_ns),
            ttfb_us=self._elapsed_us(self.first_byte_ns),
            ttft_us=self._elapsed_us(self.first_token_ns),
            overhead_us=self._elapsed_us(self.sent_ns),
            client_stall_us=self.client_stall_ns // 1_000,
            provider_request_id=self.provider_request_id or (reading.provider_request_id if reading else ""),
            client_retry_count=self.client_retry_count,
            sdk=self.sdk,
            message_count=self.facts.message_count,
            content_bytes=self.facts.content_bytes,
            max_tokens=self.facts.max_tokens,
            tools_present=self.facts.tools_present,
            structured_output=self.facts.structured_output,
            marks=tuple(self.marks),
        )
