"""Every way in which the HTTP API refuses or fails a request: a closed family. Pure.

In: what happened, for people, and the field that it is about. Out: status, code and type, and the JSON that tells them.
"""

from typing import Any, ClassVar, Final

import msgspec

_MESSAGE_BYTES: Final = 4096
"""Longest message: a text that a client sent may stand in it."""


class Fault(Exception):
    """A request that ends with an error."""

    status: ClassVar[int]
    code: ClassVar[str]
    type: ClassVar[str] = "invalid_request_error"
    closes: ClassVar[bool] = False
    """Whether the connection is closed after the answer, as its request may not have been read."""

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message[:_MESSAGE_BYTES]
        self.field = field
        self.retry_after_s = retry_after_s
        """After how many seconds the same request may pass, as the header Retry-After; None: that is not known."""
        self.allow: tuple[str, ...] = ()
        """Methods that the path has, as the header Allow."""


class InvalidRequest(Fault):
    """A header, a path, a query or HTTP itself that cannot be used."""

    status, code = 400, "invalid_request"


class InvalidJson(Fault):
    """A body that is no JSON."""

    status, code = 400, "invalid_json"


class MissingAdminSecret(Fault):
    """No Authorization."""

    status, code, type = 401, "missing_admin_secret", "authentication_error"


class InvalidAdminSecret(Fault):
    """Another secret than LECTR_ADMIN_SECRET, or another scheme than Bearer."""

    status, code, type = 401, "invalid_admin_secret", "authentication_error"


class RegistryReadOnly(Fault):
    """A file declares the registry (LECTR_REGISTRY_FILE), and changes are made there."""

    status, code, type = 403, "registry_read_only", "permission_error"


class UnknownPath(Fault):
    """A path that the API does not have."""

    status, code = 404, "unknown_path"


class OrgNotFound(Fault):
    """There is no organisation of this name."""

    status, code = 404, "org_not_found"


class RecordNotFound(Fault):
    """The organisation has no key, rule, budget or resource of this name."""

    status, code = 404, "record_not_found"


class MethodNotAllowed(Fault):
    """A path that the API has, with another method."""

    status, code = 405, "method_not_allowed"


class RequestTimeout(Fault):
    """A body that stopped arriving."""

    status, code, closes = 408, "request_timeout", True


class OrgExists(Fault):
    """There is an organisation of this name already."""

    status, code = 409, "org_exists"


class RecordExists(Fault):
    """The organisation has a key of this name already."""

    status, code = 409, "record_exists"


class VersionConflict(Fault):
    """The organisation is not at the version any more that If-Match asks for."""

    status, code = 412, "version_conflict"


class PlanRefused(Fault):
    """What is declared cannot be brought about here; each line of the message is one reason."""

    status, code = 409, "plan_refused"


class WouldShutOut(Fault):
    """Keys or organisations that are served would be refused; `shut_out=true` permits it."""

    status, code = 409, "would_shut_out"


class ApplyConflict(Fault):
    """Others keep changing the same organisations; what was done stays done."""

    status, code = 409, "apply_conflict"


class RequestTooLarge(Fault):
    """A body over the limit."""

    status, code, closes = 413, "request_too_large", True


class UnsupportedMediaType(Fault):
    """A body that does not say that it is JSON, or that is compressed."""

    status, code = 415, "unsupported_media_type"


class InvalidValue(Fault):
    """JSON whose values cannot be used."""

    status, code = 422, "invalid_value"


class TooManyFailedAttempts(Fault):
    """One more wrong secret from an address that sent too many."""

    status, code, type = 429, "too_many_failed_attempts", "rate_limit_error"


class RateLimitExceeded(Fault):
    """More requests than LECTR_ADMIN_REQUESTS_PER_S allows."""

    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class Defect(Fault):
    """An exception that no fault covers: a bug of ours, counted and logged with its type, never shown."""

    status, code, type, closes = 500, "internal_error", "api_error", True


class RecordUnreadable(Fault):
    """What Redis holds of an organisation is no record."""

    status, code, type = 500, "registry_record_unreadable", "api_error"


class RegistryUnavailable(Fault):
    """Redis does not answer; of a change it is unknown whether it was made."""

    status, code, type = 503, "registry_unavailable", "api_error"


class ClickHouseNotConfigured(Fault):
    """The server has no LECTR_CLICKHOUSE_URL: what is asked for is there."""

    status, code, type = 503, "clickhouse_not_configured", "api_error"


class ClickHouseUnavailable(Fault):
    """ClickHouse does not answer, or refuses: what is asked for is there."""

    status, code, type = 503, "clickhouse_unavailable", "api_error"


class ApplyStopped(Fault):
    """The server ends before all changes were made: what was done stays done, the rest was not begun."""

    status, code, type = 503, "apply_stopped", "api_error"


class ServerBusy(Fault):
    """As many requests are being served as may be at once, of all or of this kind."""

    status, code, type = 503, "server_busy", "api_error"


FAULTS: Final[tuple[type[Fault], ...]] = (
    InvalidRequest,
    InvalidJson,
    MissingAdminSecret,
    InvalidAdminSecret,
    RegistryReadOnly,
    UnknownPath,
    OrgNotFound,
    RecordNotFound,
    MethodNotAllowed,
    RequestTimeout,
    OrgExists,
    RecordExists,
    PlanRefused,
    WouldShutOut,
    ApplyConflict,
    VersionConflict,
    RequestTooLarge,
    UnsupportedMediaType,
    InvalidValue,
    TooManyFailedAttempts,
    RateLimitExceeded,
    Defect,
    RecordUnreadable,
    RegistryUnavailable,
    ClickHouseNotConfigured,
    ClickHouseUnavailable,
    ApplyStopped,
    ServerBusy,
)
"""The whole family; a test compares it with the subclasses."""


def error_body(fault: Fault) -> bytes:
    """The error as JSON."""
    error: dict[str, Any] = {"message": fault.message, "type": fault.type, "code": fault.code, "field": fault.field}
    # A client may have sent half of a character; JSON in UTF-8 cannot hold that.
    error = {name: value and value.encode("utf-8", "replace").decode() for name, value in error.items()}
    return msgspec.json.encode({"error": error})


def error_headers(fault: Fault) -> dict[str, str]:
    """What stands in the head of the answer besides."""
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, fault.retry_after_s))
    if fault.allow:
        headers["Allow"] = ", ".join(fault.allow)
    if fault.status == MissingAdminSecret.status:
        headers["WWW-Authenticate"] = 'Bearer realm="lectr admin"'
    return headers
