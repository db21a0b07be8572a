"""One request's metadata as it travels from the gateway to ClickHouse. Never content, keys or credentials.

In: values that the gateway measured or read from heads and usage objects. Out: MessagePack.
Fields are positional on the wire: append new ones at the end with a default, never reorder or remove; an older
reader ignores what it does not know, a newer one fills in defaults.
"""

from typing import Final, Literal

import msgspec

UsageSource = Literal["provider", "provider_partial", "estimated", "absent"]
"""`provider`: reported in full. `provider_partial`: reported, but the answer broke off before the final figures.
`estimated`: derived from byte counts. `absent`: nothing known (refused, failed, or an endpoint without usage)."""

ErrorSource = Literal["", "provider", "gateway", "client"]
"""Who ended the request badly; empty when it went well."""

UNTAGGED: Final = "untagged"
"""The feature of a request without `X-Lectr-Feature`."""


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Disjoint counts: a token is in exactly one field, so sums never count twice.

    Totals are derived: input = all `input_*_tokens`, output = all `output_*_tokens`.
    """

    input_uncached_tokens: int = 0
    input_cache_read_tokens: int = 0
    input_cache_write_5m_tokens: int = 0
    input_cache_write_1h_tokens: int = 0
    input_cache_write_other_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_text_tokens: int = 0
    output_reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    input_audio_seconds: float = 0.0
    web_search_requests: int = 0

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached ones included."""
        return (
            self.input_uncached_tokens
            + self.input_cache_read_tokens
            + self.input_cache_write_5m_tokens
            + self.input_cache_write_1h_tokens
            + self.input_cache_write_other_tokens
            + self.input_audio_tokens
            + self.input_image_tokens
        )

    @property
    def output_tokens(self) -> int:
        """All output tokens, reasoning included."""
        return (
            self.output_text_tokens + self.output_reasoning_tokens + self.output_audio_tokens + self.output_image_tokens
        )


NO_USAGE: Final = Usage()


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One request, whatever happened to it.

    `(source, seq)` identifies it: the frame that carries it names the source, `seq` counts from 0 without holes.
    Times are Unix milliseconds (`ts_ms`) or microseconds of duration (`*_us`); -1 means "did not happen".
    Text is client or provider input, bounded by the gateway (1 KiB a value), valid UTF-8.
    """

    seq: int
    ts_ms: int
    org: str
    method: str
    endpoint: str
    feature: str
    task: str = ""
    provider: str
    provider_source: str
    """How the provider was chosen: header, path, auth_header, model, default, rule."""
    model_requested: str = ""
    model_actual: str = ""
    streaming: bool = False
    status: int
    """HTTP status sent to the client; 499 when it left before a status was sent."""
    error_category: str = ""
    error_source: ErrorSource = ""
    finish_reason: str = ""
    usage: Usage = NO_USAGE
    usage_source: UsageSource = "absent"
    service_tier: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    latency_us: int = -1
    """Head of the request read until the last byte of the answer was handed to the client's socket."""
    ttfb_us: int = -1
    """Until the first byte of the provider's answer."""
    ttft_us: int = -1
    """Until the first token of the answer (streams)."""
    overhead_us: int = -1
    """Spent inside the gateway before the request went out."""
    client_stall_us: int = 0
    """Spent waiting for a client that did not read."""
    provider_request_id: str = ""
    client_retry_count: int = 0
    sdk: str = ""
    """Name and version of the client's SDK, from its user-agent; empty when it is none that we know."""
    rule: str = ""
    message_count: int = 0
    content_bytes: int = 0
    """Bytes of text in the request's messages; never the text."""
    max_tokens: int = 0
    tools_present: bool = False
    structured_output: bool = False
    marks: tuple[str, ...] = ()
    """What was odd about it: provider_unknown, provider_header_invalid, feature_truncated, ..."""
    attempts: tuple[str, ...] = ()
    """Tries of a rule that failed before this one: `provider/model 503`, `provider/model provider_timeout`."""
    key: str = ""
    """Name of the key that it came with."""
