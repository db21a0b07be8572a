"""Which URL of a provider a client's request target means.

In: the raw request target (path and query exactly as on the wire), the provider, the bases. Out: an absolute URL, or
None for a target that this gateway does not serve. Never decodes or normalises what it forwards, and never lets a
client choose the host: every URL is a configured base followed by something that starts with `/` or `?`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from shared.organisation import Azure

Surface = Literal["v1", "messages", "openai_v1", "deployments", "azure", "gemini", "gemini_compat"]

GEMINI_VERBS: Final = (
    "generateContent|streamGenerateContent|countTokens|computeTokens|embedContent|batchEmbedContents"
    "|asyncBatchEmbedContent|batchGenerateContent|predict|predictLongRunning|bidiGenerateContent"
)
"""A closed list, because a fine-tuned OpenAI model has colons in its name too: `/v1/models/ft:gpt-4o:acme::7p4l`."""

_GEMINI_CALL: Final = re.compile(rf"/v1/(?:models|tunedModels)/[^?]+(?::|%3[Aa])(?:{GEMINI_VERBS})")
_NESTED: Final = re.compile(r"/v1(?=/(?:v1|v1beta|v1alpha|openai)/)")
"""A client whose SDK adds its own prefix to a base URL that already ends in /v1: /v1/v1/messages, /v1/openai/v1/…"""
_UNSENDABLE: Final = re.compile(r"[\x00-\x20\x7f#]")
"""Not part of any request target (RFC 9112 3.2), and read by URL parsers as its end."""
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_PARENT_SEGMENT: Final = re.compile(r"/(?:\.|%2[eE]){2}(?:/|\Z)")
"""A provider would resolve them, and so lead a client out of the base that this gateway was given."""
_GOOGLE_PREFIXES: Final = ("/v1beta/", "/v1alpha/", "/upload/v1/", "/upload/v1beta/", "/upload/v1alpha/")
_OPENAI_SHAPED: Final = re.compile(r"/(?:chat|completions|embeddings|images|videos|audio|responses|moderations)(?:/|$)")
"""Endpoints that Google serves on its OpenAI-compatible side only, or not at all."""
_DEPLOYMENT_ENDPOINTS: Final = frozenset(
    {
        "/completions",
        "/chat/completions",
        "/embeddings",
        "/audio/transcriptions",
        "/audio/translations",
        "/audio/speech",
        "/images/generations",
        "/images/edits",
    }
)
"""What Azure's dated API serves per deployment; everything else is one level up."""
_V1_API_VERSIONS: Final = frozenset({"", "v1", "preview", "latest"})
"""Values of `api-version` that mean Azure's v1 surface rather than the dated one."""


_LONGEST_KNOWN_PATH: Final = 256
"""Clients make paths; what is remembered of them stays small."""


class Route(msgspec.Struct, frozen=True):
    """A path that the gateway serves: whose way of speaking it is, and what follows that way's root.

    v1: `/chat/completions`; messages: `/messages…`; openai_v1 and gemini_compat: `/chat/completions`;
    deployments: `/NAME/chat/completions`; azure: `/responses`; gemini: `/v1beta/models/…`.
    """

    surface: Surface
    rest: str

    @property
    def endpoint(self) -> str:
        """What is asked for: what follows the root, and the deployment's name where there is one."""
        if self.surface != "deployments":
            return self.rest
        _, slash, endpoint = self.rest[1:].partition("/")
        return slash + endpoint


def route_of(path: str) -> Route | None:
    """Read a raw path (no query). None: neither below /v1 nor a path that a provider's own SDK uses."""
    return _known_route(path) if len(path) <= _LONGEST_KNOWN_PATH else _read_path(path)


def _read_path(path: str) -> Route | None:
    return None if _PARENT_SEGMENT.search(path) else _read_inner_path(path)


def _read_inner_path(path: str) -> Route | None:
    nested = _NESTED.match(path)
    if nested:
        path = path[nested.end() :]
    if path.startswith("/v1/") or path == "/v1":
        rest = path[3:]
        if rest.startswith("/deployments/"):
            return Route("deployments", rest[12:])
        if rest == "/messages" or rest.startswith("/messages/"):
            return Route("messages", rest)
        return Route("gemini", path) if _GEMINI_CALL.fullmatch(path) else Route("v1", rest)
    if path.startswith("/openai/"):
        return _azure_or_groq(path[7:])
    if path.startswith("/v1beta/openai/"):
        return Route("gemini_compat", path[14:])
    return Route("gemini", path) if path.startswith(_GOOGLE_PREFIXES) else None


_known_route: Final = lru_cache(maxsize=1024)(_read_path)


def _azure_or_groq(rest: str) -> Route:
    if rest.startswith("/v1/"):
        return Route("openai_v1", rest[3:])
    if rest.startswith("/deployments/"):
        return Route("deployments", rest[12:])
    return Route("azure", rest)


def request_target(
    provider: str,
    raw_target: str,
    bases: Mapping[str, str],
    azure: Azure | None,
    *,
    model: str = "",
    google_key: bool = False,
) -> str | None:
    """The absolute URL to ask, ASCII, or None: the gateway answers 404 itself.

    `model` is the request's model, needed where Azure has it in the path. `google_key`: the client authenticates as
    Google's SDK does, so that `/v1/models` and `/v1/files` are Google's own. For provider azure, `azure` must be given.
    Raises ValueError for azure without a configuration: its absence is the caller's fault to report.
    """
    path = raw_target.partition("?")[0]
    route = None if _UNSENDABLE.search(raw_target) else route_of(path)
    if route is None:
        return None
    query = raw_target[len(path) :]
    if provider == "azure":
        if azure is None:
            raise ValueError("azure: the organisation has no endpoint")
        url = _azure_url(route, query, azure, model)
    else:
        url = _url(provider, route, bases[provider].rstrip("/"), google_key=google_key) + query
    return _NOT_ASCII.sub(_percent_encode, url)


def _url(provider: str, route: Route, base: str, *, google_key: bool) -> str:
    match route.surface:
        case "gemini":
            return _root_of(base) + route.rest
        case "v1" if provider == "gemini" and google_key and not _OPENAI_SHAPED.match(route.rest):
            return f"{_root_of(base)}/v1{route.rest}"
        case "deployments":
            # A rule or header sends an AzureOpenAI client elsewhere: the deployment's name has no place there.
            _, slash, endpoint = route.rest[1:].partition("/")
            return base + slash + endpoint
        case _:
            return base + route.rest


def _root_of(base: str) -> str:
    """A base without the version prefix that the compatible side of a provider needs."""
    for prefix in ("/v1beta/openai", "/openai/v1", "/v1beta", "/v1"):
        if base.endswith(prefix):
            return base.removesuffix(prefix)
    return base


def _azure_url(route: Route, query: str, azure: Azure, model: str) -> str:
    endpoint = azure.endpoint.rstrip("/")
    asked = query_value(query, "api-version")
    version = asked or azure.api_version
    versioned = query
    if version and not asked:
        versioned = f"{query}{'&' if len(query) > 1 else '' if query else '?'}api-version={quote(version, safe='')}"
    legacy = version not in _V1_API_VERSIONS
    match route.surface:
        case "openai_v1":
            path, versioned = f"/openai/v1{route.rest}", query
        case "messages":
            path, versioned = f"/anthropic/v1{route.rest}", query
        case "gemini":
            path, versioned = route.rest, query
        case "deployments":
            path = f"/openai/deployments{route.rest}"
        case "v1" | "gemini_compat" if not legacy:
            path = f"/openai/v1{route.rest}"
        # Dots alone would lead up the path.
        case "v1" | "gemini_compat" if route.rest in _DEPLOYMENT_ENDPOINTS and model.strip("."):
            deployment = azure.deployments.get(model, model)
            path = f"/openai/deployments/{quote(deployment, safe='', errors='replace')}{route.rest}"
        case _:
            path = f"/openai{route.rest}"
    return endpoint + path + versioned


def _percent_encode(match: re.Match[str]) -> str:
    """Raw high bytes are no URL; percent-encoded they name the same resource and every client library can send them."""
    return quote(match[0].encode("utf-8", "surrogateescape"))


def query_value(query: str, name: str) -> str:
    """The first value of a query parameter, as on the wire, without decoding; empty when it is not there."""
    for pair in query.removeprefix("?").split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return ""


def query_without(raw_target: str, *names: str) -> str:
    """A raw request target without the query parameters of these names; every other byte as it was."""
    path, mark, query = raw_target.partition("?")
    if not mark:
        return raw_target
    kept = [pair for pair in query.split("&") if pair.partition("=")[0] not in names]
    return f"{path}?{'&'.join(kept)}" if kept else path
