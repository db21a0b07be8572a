"""Which provider a request is for, and how that was decided.

In: the parts of the request head, the model's name and the catalogue. Out: a Detection. Never fails and never looks
into a body: whoever calls has already taken the model from wherever it stands.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.providers import PROVIDERS, Catalogue
from gateway.routes import Surface, query_value, route_of

ProviderSource = Literal["header", "path", "auth_header", "model", "default"]

MARK_HEADER_INVALID: Final = "provider_header_invalid"
MARK_UNKNOWN: Final = "provider_unknown"

_OWNER_OF_SURFACE: Final[Mapping[Surface, str]] = {
    "messages": "anthropic",
    "openai_v1": "groq",
    "deployments": "azure",
    "azure": "azure",
    "gemini": "gemini",
    "gemini_compat": "gemini",
}
_OWNER_OF_HEADER: Final = (
    ("anthropic-version", "anthropic"),
    ("x-goog-api-key", "gemini"),
    ("api-key", "azure"),
    ("x-api-key", "anthropic"),
)
"""In this order: Anthropic's client for Azure sends `api-key` and `x-api-key`, but also `anthropic-version`."""


class Detection(msgspec.Struct, frozen=True):
    """The provider, how it was found, and what was odd (names for the event's `marks`)."""

    provider: str
    provider_source: ProviderSource
    marks: tuple[str, ...] = ()


def has_google_key(headers: Mapping[str, str], query: str) -> bool:
    """Whether the client authenticates as Google's own SDK does: `x-goog-api-key`, or `key=` in the query."""
    return "x-goog-api-key" in headers or query_value(query, "key") != ""


def detect(
    catalogue: Catalogue,
    *,
    provider_header: str | None,
    path: str,
    query: str,
    headers: Mapping[str, str],
    model: str,
) -> Detection:
    """Decide by the first that applies: header, native path, native authentication, model, default.

    `path` and `query` are raw, `headers` maps lower-case names to first values, `model` is empty when there is none.
    """
    named = (provider_header or "").strip().lower()
    if named in PROVIDERS:
        return Detection(named, "header")
    if named:
        return Detection("openai", "header", (MARK_HEADER_INVALID,))

    native = _by_path(path, query, headers) or _by_authentication(query, headers)
    if native:
        return native
    known = catalogue.provider_of_model(model)
    return Detection(known, "model") if known else Detection("openai", "default", (MARK_UNKNOWN,))


def _by_path(path: str, query: str, headers: Mapping[str, str]) -> Detection | None:
    route = route_of(path)
    owner = _OWNER_OF_SURFACE.get(route.surface) if route else None
    if owner == "groq" and "api-key" in headers:
        # /openai/v1 is Azure's v1 surface as well, and no Groq client sends this header.
        return Detection("azure", "auth_header")
    if owner is None and query_value(query, "api-version"):
        # AzureOpenAI pointed at /v1 calls /v1/responses?api-version=…; nobody else has that parameter.
        owner = "azure"
    return Detection(owner, "path") if owner else None


def _by_authentication(query: str, headers: Mapping[str, str]) -> Detection | None:
    for name, provider in _OWNER_OF_HEADER:
        if name in headers:
            return Detection(provider, "auth_header")
    return Detection("gemini", "auth_header") if has_google_key(headers, query) else None
