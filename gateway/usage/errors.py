"""Error bodies of the five providers, reduced to a category.

In: a status and a parsed body (or None). Out: a category. Evidence: codes in the body, then the status. Messages are
compared with a few known beginnings and never kept.
Source: the providers' error pages; bodies as recorded.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.usage.counts import mapping, mappings

STREAM_ERROR: Final = "stream_error"
STREAM_TRUNCATED: Final = "stream_truncated"
SERVER_ERROR: Final = "server_error"

_NAMES_BY_CATEGORY: Final[dict[str, tuple[str, ...]]] = {
    "context_length": ("context_length_exceeded",),
    "authentication": ("invalid_api_key", "api_key_invalid", "authentication_error", "unauthenticated"),
    "permission": ("permission_error", "permission_denied", "unsupported_country_region_territory"),
    "model_not_found": ("model_not_found", "deploymentnotfound"),
    "not_found": ("not_found_error", "not_found"),
    "content_filter": (
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "moderation_blocked",
        "responsibleaipolicyviolation",
    ),
    "quota": (
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
    ),
    "rate_limit": ("rate_limit_exceeded", "rate_limit_error", "slow_down", "too_many_requests", "requests", "tokens"),
    "overloaded": (
        "overloaded_error",
        "server_is_overloaded",
        "service_unavailable_error",
        "capacity_exceeded",
        "over_capacity",
        "unavailable",
    ),
    "timeout": ("timeout_error", "deadline_exceeded", "vector_store_timeout"),
    SERVER_ERROR: ("server_error", "api_error", "internal_error", "internal_server_error", "internal"),
    "invalid_request": ("request_too_large", "conflict_error", "data_residency_mismatch", "invalid_prompt"),
}
_BY_NAME: Final = {name: category for category, names in _NAMES_BY_CATEGORY.items() for name in names}

_BY_VAGUE_NAME: Final = {
    "invalid_request_error": "invalid_request",
    "invalid_argument": "invalid_request",
    "failed_precondition": "invalid_request",
    "tool_use_failed": "invalid_request",
    "resource_exhausted": "rate_limit",
}
"""Names that go with several statuses (OpenAI's 401 and 404 are `invalid_request_error`, Gemini's 402 and 429 are
`RESOURCE_EXHAUSTED`): used only where no status tells more."""

_BY_STATUS: Final = {
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    429: "rate_limit",
    498: "overloaded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}

_BY_MESSAGE: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "not_found": (("model:", "model_not_found"), ("models/", "model_not_found")),
    "invalid_request": (
        ("prompt is too long", "context_length"),
        ("the input token count", "context_length"),
        ("you have reached your specified api usage limits", "quota"),
        ("your credit balance is too low", "quota"),
        ("api key not valid", "authentication"),
    ),
}
"""Beginnings of messages, for what providers say in no code."""


def category_of_status(status: int) -> str:
    """Return the category of a status alone; '' below 400."""
    if status < 400:  # noqa: PLR2004 - HTTP's own boundary
        return ""
    return _BY_STATUS.get(status) or (SERVER_ERROR if status >= 500 else "invalid_request")  # noqa: PLR2004 - as above


def category_of_answer(status: int, body: object) -> str:
    """Return the category of an answer with an error status; the body may be anything."""
    error = error_in(body)
    category = _category_by_code(error) or category_of_status(status)
    return _refined(category, error)


def category_of_error(error: object, *, otherwise: str) -> str:
    """Return the category of an error inside an answer that began well."""
    if isinstance(error, str):
        error = {"code": error}
    error = mapping(error)
    category = _category_by_code(error)
    if not category:
        numbers = (error.get("status_code"), error.get("code"), error.get("status"))
        category = next((found for found in map(_category_of_number, numbers) if found), "")
    if not category:
        category = next((_BY_VAGUE_NAME[name] for name in _names(error) if name in _BY_VAGUE_NAME), "")
    return _refined(category or otherwise, error)


def error_in(body: object) -> Mapping[str, Any]:
    """Return the error object of a body: Gemini's compat endpoint wraps it in an array."""
    if isinstance(body, list):
        body = body[0] if body else None
    error = mapping(body).get("error")
    return {"code": error} if isinstance(error, str) else mapping(error)


def _names(error: Mapping[str, Any]) -> Iterator[str]:
    """Yield codes, the most telling first."""
    details = error.get("details")
    inner = error.get("innererror")
    yield from _lowered(mapping(details).get("error_code"), mapping(inner).get("code"), error.get("code"))
    yield from _lowered(*(detail.get("reason") for detail in mappings(details)))
    yield from _lowered(error.get("type"), error.get("status"))


def _lowered(*values: object) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value[:128].lower()


def _category_by_code(error: Mapping[str, Any]) -> str:
    for name in _names(error):
        if name in _BY_NAME:
            return _BY_NAME[name]
        if name.endswith("_spend_limit_reached") or "usage_limit" in name:
            return "quota"
        if name.endswith("_policy"):
            return "content_filter"
    return ""


def _category_of_number(value: object) -> str:
    """Return the category of a status that stands in a body: an integer (Gemini, Groq) or digits (Azure)."""
    if isinstance(value, str) and len(value) == len("429") and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value > 599:  # noqa: PLR2004 - no status lies beyond
        return ""
    return category_of_status(value)


def _refined(category: str, error: Mapping[str, Any]) -> str:
    message = error.get("message")
    if isinstance(message, str) and category in _BY_MESSAGE:
        beginning = message[:128].lstrip("* ").lower()
        for known, better in _BY_MESSAGE[category]:
            if beginning.startswith(known):
                return better
    return category
