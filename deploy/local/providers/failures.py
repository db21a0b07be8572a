"""Errors in each provider's own shape: whole bodies for a status, and the events that end a stream midway.

In: route, status, message. Out: a Reply or event bytes. Never shows a credential.
"""

from typing import Any, Final

from deploy.local.providers.call import Headers, Reply, data_event, json_reply
from deploy.local.providers.routing import Route

OPENAI_KINDS: Final[dict[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("request_forbidden", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", "server_is_overloaded"),
}
GROQ_KINDS: Final[dict[int, tuple[str, str | None]]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("tokens", "rate_limit_exceeded"),
    498: ("capacity_exceeded", "capacity_exceeded"),
    500: ("internal_server_error", None),
    503: ("service_unavailable", None),
}
ANTHROPIC_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
GEMINI_KINDS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
MESSAGES: Final = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    402: "Your credit is used up.",
    403: "The key has no access to this resource.",
    404: "The model does not exist or you do not have access to it.",
    429: "Rate limit reached. Please retry after 1 seconds.",
    500: "The server had an error while processing your request.",
    503: "The server is overloaded. Please try again later.",
    529: "Overloaded",
}
RETRIED: Final = frozenset({429, 503, 529})
BODILESS: Final = frozenset({204, 304})


def failure(route: Route, status: int, message: str = "", *, sequence: int = 0) -> Reply:
    """Return the provider's error reply for a status. Unknown statuses get the nearest kind by class."""
    if status in BODILESS:
        return Reply(status=status, content_type="", pieces=())
    text = message or MESSAGES.get(status, "The request failed.")
    document = _document(route, status, text, sequence)
    indent = 2 if route.provider in {"openai", "gemini"} else None
    reply = json_reply(document, status=status, indent=indent)
    return Reply(
        status=status,
        content_type=reply.content_type,
        pieces=reply.pieces,
        extra_headers=_retry_headers(route.provider, status),
    )


def unknown_path(route: Route, method: str, target: str) -> Reply:
    """Return the provider's 404 for a path it does not have."""
    if route.provider in {"openai", "groq"}:
        code = "unknown_url" if route.provider == "groq" else None
        path = target.partition("?")[0]
        error = {
            "message": f"Invalid URL ({method} {path})",
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }
        return json_reply({"error": error}, status=404)
    if route.provider == "azure":
        return json_reply({"error": {"code": "404", "message": "Resource not found"}}, status=404)
    return failure(route, 404, "Not Found")


def stream_failure(route: Route, *, responses: bool = False, sequence_number: int = 0) -> bytes:
    """Return the event with which this provider reports an error after status 200."""
    message = "The server had an error while processing your request."
    if route.provider == "anthropic" and route.native:
        return data_event(
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            name="error",
        )
    if route.provider == "gemini":
        document = _document(route, 503, message, 0)
        return data_event(document)
    if responses:
        event = {"type": "error", "code": "server_error", "message": message, "param": None}
        return data_event({**event, "sequence_number": sequence_number}, name="error")
    if route.provider == "groq":
        error: dict[str, Any] = {"message": message, "type": "server_error", "code": "internal", "status_code": 500}
        return data_event({"error": error}, name="error")
    return data_event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def _document(route: Route, status: int, text: str, sequence: int) -> Any:
    if route.provider == "gemini":
        return _gemini(route, status, text)
    if route.provider == "anthropic" and route.native:
        kind = ANTHROPIC_KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004 - HTTP class
        return {"type": "error", "error": {"type": kind, "message": text}, "request_id": f"req_mock{sequence:08d}"}
    if route.provider == "azure":
        return _azure(status, text)
    kinds = GROQ_KINDS if route.provider == "groq" else OPENAI_KINDS
    fallback = kinds.get(500 if status >= 500 else 400, ("invalid_request_error", None))  # noqa: PLR2004 - HTTP class
    kind, code = kinds.get(status, fallback)
    error: dict[str, Any] = {"message": text, "type": kind}
    if route.provider != "groq":
        error["param"] = None
    if route.provider != "groq" or code is not None:
        error["code"] = code
    return {"error": error}


def _azure(status: int, text: str) -> dict[str, Any]:
    if status == 401:  # noqa: PLR2004 - HTTP status
        denied = "Access denied due to invalid subscription key or wrong API endpoint."
        return {"error": {"code": "401", "message": denied}}
    if status == 404:  # noqa: PLR2004 - HTTP status
        missing = "The API deployment for this resource does not exist."
        return {
            "error": {"type": "invalid_request_error", "code": "DeploymentNotFound", "message": missing, "param": None}
        }
    return {"error": {"code": str(status), "message": text}}


def _gemini(route: Route, status: int, text: str) -> Any:
    error: dict[str, Any] = {
        "code": status,
        "message": text,
        "status": GEMINI_KINDS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"),  # noqa: PLR2004 - HTTP class
    }
    if status == 429:  # noqa: PLR2004 - HTTP status
        # Gemini has no retry-after header: the hint is here.
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]
    document = {"error": error}
    return document if route.native else [document]


def _retry_headers(provider: str, status: int) -> Headers:
    if status not in RETRIED or provider == "gemini":
        return ()
    if provider == "azure":
        return (("retry-after", "1"), ("retry-after-ms", "1000"))
    return (("retry-after", "1"),)
