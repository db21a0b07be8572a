"""What is known about one request while it is served, and how it becomes an Event. No I/O.

Filled in along the way by `proxy` and `relay`; read once at the end. Holds no header, body, key or credential.
"""

from functools import lru_cache
from typing import Final

import msgspec

from gateway.headers import clean_value
from gateway.request_body import NO_FACTS, RequestFacts
from gateway.usage import NO_READING, Reading
from shared.event import UNTAGGED, ErrorSource, Event

MARK_USAGE_REQUESTED: Final = "usage_requested"
"""The gateway asked for the stream's usage: the request was edited."""
CLIENT_CLOSED: Final = 499
"""The status recorded when the client left before one was sent (a convention of nginx, not of HTTP)."""


_LONGEST_KNOWN_TARGET: Final = 256
"""Clients make targets; what is remembered of them stays small."""


def endpoint_of(target: str) -> str:
    """The path of a raw request target as it is stored."""
    return _known_endpoint(target) if len(target) <= _LONGEST_KNOWN_TARGET else _read_endpoint(target)


def _read_endpoint(target: str) -> str:
    return clean_value(target.partition("?")[0])[0]


_known_endpoint: Final = lru_cache(maxsize=1024)(_read_endpoint)


class Exchange(msgspec.Struct):
    """One request and its answer. Moments are monotonic nanoseconds, 0 = not reached."""

    started_ns: int
    started_unix_ms: int
    method: str
    endpoint: str
    org: str = ""
    key: str = ""
    """Name of the organisation's key."""
    feature: str = UNTAGGED
    task: str = ""
    provider: str = ""
    provider_source: str = ""
    facts: RequestFacts = NO_FACTS
    model_requested: str = ""
    sdk: str = ""
    client_retry_count: int = 0
    request_bytes: int = 0
    rule: str = ""
    model_sent: str = ""
    """What a rule made of the model; empty where it is what was asked for."""
    attempts: tuple[str, ...] = ()
    """Tries that failed before the one that is told here: provider, model, status or code."""
    marks: tuple[str, ...] = ()
    usage_requested: bool = False
    """What was sent last asks for usage that the client did not ask for."""

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
    reading: Reading = NO_READING
    error_category: str = ""
    error_source: ErrorSource = ""
    unattended: bool = False
    """Its client left, and it goes on to its end."""
    unanswered: bool = False
    """The client left before a status was sent."""
    recorded: bool = False
    """Its event is made: what happens later is not in it."""

    def client_left(self, moment_ns: int) -> None:
        """The client is gone, the exchange is not."""
        self.unattended = True
        self.unanswered = not self.status
        self.ended_ns = moment_ns
        self.failed("client_disconnect", "client")

    def failed(self, category: str, source: ErrorSource) -> None:
        """Note who ended it badly; the first cause stays."""
        if not self.error_category:
            self.error_category = category
            self.error_source = source

    def event(self, seq: int) -> Event:
        """The record of this exchange."""
        reading, facts, started_ns = self.reading, self.facts, self.started_ns
        first_byte_ns, first_token_ns = self.first_byte_ns, self.first_token_ns
        if self.unattended:
            # What came after the client had left, nobody waited for.
            first_byte_ns = first_byte_ns if first_byte_ns <= self.ended_ns else 0
            first_token_ns = first_token_ns if first_token_ns <= self.ended_ns else 0
        category, source = self.error_category, self.error_source
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
            # An answer that names no model is one of the model that was sent.
            model_actual=reading.model or self.model_sent,
            streaming=self.streaming,
            status=CLIENT_CLOSED if self.unanswered or not self.status else self.status,
            error_category=category,
            error_source=source,
            finish_reason=reading.finish_reason,
            usage=reading.usage,
            usage_source=reading.usage_source,
            service_tier=reading.service_tier,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            latency_us=(self.ended_ns - started_ns) // 1_000 if self.ended_ns else -1,
            ttfb_us=(first_byte_ns - started_ns) // 1_000 if first_byte_ns else -1,
            ttft_us=(first_token_ns - started_ns) // 1_000 if first_token_ns else -1,
            overhead_us=(self.sent_ns - started_ns) // 1_000 if self.sent_ns else -1,
            client_stall_us=self.client_stall_ns // 1_000,
            provider_request_id=self.provider_request_id or reading.provider_request_id,
            client_retry_count=self.client_retry_count,
            sdk=self.sdk,
            rule=self.rule,
            message_count=facts.message_count,
            content_bytes=facts.content_bytes,
            max_tokens=facts.max_tokens,
            tools_present=facts.tools_present,
            structured_output=facts.structured_output,
            marks=(*self.marks, MARK_USAGE_REQUESTED) if self.usage_requested else self.marks,
            attempts=self.attempts,
            key=self.key,
        )
