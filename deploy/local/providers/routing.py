"""Where a request goes: raw request target -> Route.

In: the raw target as received (still percent-encoded, with query). Out: a Route, or None for a path outside every
provider's prefix. Never decodes more than one path segment (the model or object id), so `%2F` stays inside its segment.
"""

from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from deploy.local.providers import PROVIDERS

DEPLOYMENT_ENDPOINTS: Final = frozenset(
    {
        "completions",
        "chat/completions",
        "embeddings",
        "audio/transcriptions",
        "audio/translations",
        "audio/speech",
        "images/generations",
        "images/edits",
    },
)
"""Azure's legacy surface puts the deployment into the path for these only."""

COLLECTIONS: Final = ("models", "responses", "files", "batches", "chat/completions")
"""Endpoints that may be followed by an object id."""

VERBS: Final = frozenset({"responses/compact", "responses/input_tokens"})
"""Endpoints that look like an object of a collection."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One recognised path. `endpoint` has no leading slash; `item` is a decoded object id or model; may be empty."""

    provider: str
    endpoint: str
    item: str = ""
    model: str = ""
    """Deployment or model named in the path."""
    native: bool = False
    """Anthropic's or Gemini's own surface, as opposed to their OpenAI layer."""
    legacy: bool = False
    """Azure's surface that demands api-version."""
    query: dict[str, str] = {}


def find_route(target: str) -> Route | None:
    """Return where the raw target leads, or None when it stands below no provider's prefix."""
    path, _, raw_query = target.partition("?")
    _, _, rest = path.partition("/")
    provider, _, tail = rest.partition("/")
    if provider not in PROVIDERS:
        return None
    query = dict(parse_qsl(raw_query, keep_blank_values=True))
    if provider == "azure":
        return _azure(tail, query)
    if provider == "gemini":
        return _gemini(tail, query)
    prefix = "openai/v1/" if provider == "groq" else "v1/"
    if not tail.startswith(prefix):
        return Route(provider=provider, endpoint="", native=provider == "anthropic", query=query)
    endpoint, item = _split_item(tail.removeprefix(prefix))
    native = provider == "anthropic" and endpoint != "chat/completions"
    return Route(provider=provider, endpoint=endpoint, item=item, native=native, query=query)


def _split_item(suffix: str) -> tuple[str, str]:
    for collection in COLLECTIONS:
        if suffix.startswith(f"{collection}/") and suffix not in VERBS:
            item = suffix[len(collection) + 1 :]
            if item and "/" not in item:
                return collection, unquote(item)
            if collection == "models":
                # A model id written with a bare slash, as curl users do.
                return collection, unquote(item)
    return suffix, ""


def _azure(tail: str, query: dict[str, str]) -> Route:
    if tail.startswith("openai/v1/"):
        endpoint, item = _split_item(tail.removeprefix("openai/v1/"))
        return Route(provider="azure", endpoint=endpoint, item=item, query=query)
    if tail.startswith("openai/deployments/"):
        deployment, _, endpoint = tail.removeprefix("openai/deployments/").partition("/")
        known = endpoint if endpoint in DEPLOYMENT_ENDPOINTS else ""
        return Route(provider="azure", endpoint=known, model=unquote(deployment), legacy=True, query=query)
    if tail.startswith("openai/"):
        endpoint, item = _split_item(tail.removeprefix("openai/"))
        # Without a deployment in the path these do not exist on the legacy surface.
        known = "" if endpoint in DEPLOYMENT_ENDPOINTS else endpoint
        return Route(provider="azure", endpoint=known, item=item, legacy=True, query=query)
    return Route(provider="azure", endpoint="", query=query)


def _gemini(tail: str, query: dict[str, str]) -> Route:
    if tail.startswith("v1beta/openai/"):
        endpoint, item = _split_item(tail.removeprefix("v1beta/openai/"))
        return Route(provider="gemini", endpoint=endpoint, item=item, query=query)
    version, _, suffix = tail.partition("/")
    if version not in {"v1", "v1beta"} or not (suffix == "models" or suffix.startswith("models/")):
        return Route(provider="gemini", endpoint="", native=True, query=query)
    name, _, verb = suffix.removeprefix("models").removeprefix("/").rpartition(":")
    if not name:
        return Route(provider="gemini", endpoint="models", item=unquote(verb), native=True, query=query)
    return Route(provider="gemini", endpoint=f":{verb}", model=unquote(name), native=True, query=query)
