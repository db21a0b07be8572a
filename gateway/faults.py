"""Every way in which the gateway itself refuses or fails a request: a closed family.

A fault knows its status, code and how it is recorded; `error_body` gives the JSON in the shape the client's SDK reads.
Provider errors are not faults: they pass through untouched.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec

from shared import counters
from shared.event import ErrorSource

_LONGEST_WAIT_S: Final = 2**31
"""More than that no recipient has to understand (RFC 9111 1.2.2); a rate may be as low as one in 10^300 seconds."""


class Fault(Exception):
    """A request that ends with an error of the gateway's own making."""

    status: ClassVar[int]
    code: ClassVar[str]
    type: ClassVar[str] = "invalid_request_error"
    category: ClassVar[str]
    """`error_category` on the event."""
    source: ClassVar[ErrorSource] = "gateway"
    closes: ClassVar[bool] = False
    """Whether the connection is closed after the answer, as its body may not have been read."""
    retry_after_s: int | None = None
    """After how many seconds the same request may pass, as the header Retry-After; None: that is not known."""

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retry_after_s is not None:
            self.retry_after_s = min(max(1, retry_after_s), _LONGEST_WAIT_S)

    @property
    def reason(self) -> str:
        """The status as a phrase."""
        return HTTPStatus(self.status).phrase


class MissingKey(Fault):
    """No X-Lectr-Key."""

    status, code, type, category, source = 401, "missing_lectr_key", "authentication_error", "authentication", "client"


class InvalidKey(Fault):
    """A key that no organisation has."""

    status, code, type, category, source = 401, "invalid_lectr_key", "authentication_error", "authentication", "client"


class OrgDisabled(Fault):
    """The right key of an organisation that is switched off."""

    status, code, type, category, source = 401, "org_disabled", "authentication_error", "authentication", "client"


class AzureConfigMissing(Fault):
    """Azure was chosen, but the organisation has no endpoint."""

    status, code, category, source = 400, "azure_config_missing", "invalid_request", "client"


class InvalidRequest(Fault):
    """HTTP that is malformed or ambiguous."""

    status, code, category, source, closes = 400, "invalid_request", "invalid_request", "client", True


class UnknownPath(Fault):
    """A path that no provider has."""

    status, code, category, source = 404, "unknown_path", "not_found", "client"


class RequestTooLarge(Fault):
    """A body over the limit."""

    status, code, category, source, closes = 413, "request_too_large", "invalid_request", "client", True


class RequestTimeout(Fault):
    """A body that stopped arriving."""

    status, code, category, source, closes = 408, "request_timeout", "timeout", "client", True


class RateLimitExceeded(Fault):
    """More requests of one key than its rate allows."""

    status, code, type, category, source = 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit", "client"
    retry_after_s = 1


class ConcurrentStreamsExceeded(Fault):
    """As many streams of one key are open as may be."""

    status, code, type, category, source = (
        429,
        "concurrent_streams_exceeded",
        "rate_limit_error",
        "rate_limit",
        "client",
    )
    retry_after_s = 1


class BudgetExceeded(Fault):
    """A budget that blocks is spent; nothing passes until its day or month is over."""

    status, code, type, category, source = 429, "budget_exceeded", "rate_limit_error", "quota", "client"
    retry_after_s = 1


class ProviderUnreachable(Fault):
    """DNS, TCP or TLS failed, or the connection broke before the answer began."""

    status, code, type, category = 502, "provider_unreachable", "api_error", "connection"


class GatewayDraining(Fault):
    """The gateway is being stopped and its patience is over."""

    status, code, type, category, closes = 503, "gateway_draining", "api_error", "gateway_draining", True


class ProviderTimeout(Fault):
    """No first byte in time."""

    status, code, type, category = 504, "provider_timeout", "api_error", "timeout"


class GatewayDefect(Fault):
    """An exception that no fault covers: a bug of ours, counted and logged with its type, never shown."""

    status, code, type, category, closes = 500, "internal_error", "api_error", "server_error", True


FAULTS: tuple[type[Fault], ...] = (
    MissingKey,
    InvalidKey,
    OrgDisabled,
    AzureConfigMissing,
    InvalidRequest,
    UnknownPath,
    RequestTooLarge,
    RequestTimeout,
    RateLimitExceeded,
    ConcurrentStreamsExceeded,
    BudgetExceeded,
    ProviderUnreachable,
    GatewayDraining,
    ProviderTimeout,
    GatewayDefect,
)
"""The whole family; a test compares it with the subclasses and with the documented table."""


class ProviderTruncated(Exception):
    """The provider broke its answer off; the client's connection is broken off too, so there is no error body."""


class ProviderStalled(ProviderTruncated):
    """The provider fell silent inside its answer for longer than the idle timeout."""


class ClientStalled(Exception):
    """The client took nothing of its answer for longer than the idle timeout; its connection is cut."""


_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def error_body(fault: Fault, path: str) -> bytes:
    """The error as JSON: Anthropic's shape below /v1/messages, OpenAI's elsewhere."""
    if "/v1/messages" in path:
        otherwise = "api_error" if fault.status >= 500 else "invalid_request_error"  # noqa: PLR2004 - server errors
        kind = _ANTHROPIC_TYPES.get(fault.status, otherwise)
        return msgspec.json.encode(
            {"type": "error", "error": {"type": kind, "message": fault.message, "code": fault.code}}
        )
    return msgspec.json.encode({"error": {"message": fault.message, "type": fault.type, "code": fault.code}})


def fault_answer(fault: Fault, path: str, *, close: bool) -> bytes:
    """A fault as the HTTP answer that its client can read."""
    counters.refused.labels(fault.code).inc()
    body = error_body(fault, path)
    head = (
        f"HTTP/1.1 {fault.status} {fault.reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nServer: lectr\r\n"
    )
    if fault.retry_after_s is not None:
        head += f"Retry-After: {fault.retry_after_s}\r\n"
    return head.encode("ascii") + (b"Connection: close\r\n\r\n" if close else b"\r\n") + body
