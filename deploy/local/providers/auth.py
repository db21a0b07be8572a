"""Which credential each provider takes.

In: route and request headers. Out: whether a usable credential came along. Never stores or returns the credential.

    openai, groq, gemini's OpenAI layer    Authorization: Bearer
    anthropic                              x-api-key, or Authorization: Bearer
    gemini's own surface                   x-goog-api-key, or `?key=`
    azure                                  api-key, or Authorization: Bearer
"""

from collections.abc import Mapping

from deploy.local.providers import WRONG_KEY_MARK
from deploy.local.providers.routing import Route


def is_authorised(route: Route, headers: Mapping[str, str]) -> bool:
    """Tell whether the request carries a credential this provider accepts (any value but a WRONG_KEY_MARK one)."""
    credential = _credential(route, headers)
    return bool(credential) and WRONG_KEY_MARK not in credential


def _credential(route: Route, headers: Mapping[str, str]) -> str:
    bearer = _bearer(headers.get("Authorization", ""))
    if route.provider == "anthropic":
        return headers.get("x-api-key", "") or bearer
    if route.provider == "azure":
        return headers.get("api-key", "") or bearer
    if route.provider == "gemini" and route.native:
        return headers.get("x-goog-api-key", "") or route.query.get("key", "")
    return bearer


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
