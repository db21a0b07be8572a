"""What an operator may set: each value checked where its type alone does not say enough. Pure.

Raises RegistryFault naming the field and the fix. Nothing is looked up: a name that resolves nowhere is for the gateway
to report.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from shared.organisation import Azure, Budget, Price, money_problem
from shared.registry import RegistryFault

_API_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|")
_ENDPOINT: Final = re.compile(
    r"[a-z]+://[A-Za-z0-9._-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*|[a-z]+://\[[0-9A-Fa-f:.]+\](:[0-9]+)?(/[A-Za-z0-9._~-]+)*"
)
_LONGEST_FEATURE_BYTES: Final = 1024
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00-\x1f\x7f]+")
PROVIDERS: Final = ("openai", "anthropic", "groq", "gemini", "azure")


def check_feature(feature: str) -> str:
    """A feature as it may stand in X-Lectr-Feature, or `*`."""
    if not 0 < len(feature.encode("utf-8", "surrogatepass")) <= _LONGEST_FEATURE_BYTES or not feature.isprintable():
        raise RegistryFault("feature: give 1 to 1024 printable bytes as in X-Lectr-Feature, or * for all features")
    return feature


def check_provider(provider: str) -> str:
    """One of the five."""
    if provider not in PROVIDERS:
        raise RegistryFault(f"provider {provider!r}: one of {', '.join(PROVIDERS)}")
    return provider


def check_model(model: str) -> str:
    """A model's whole name, or the beginning of it and `*`."""
    if "*" in model[:-1]:
        raise RegistryFault(f"model {model!r} has a * before its end; only the last character may be one")
    if not model.isprintable():
        raise RegistryFault(f"model {model!r} has a character that cannot be shown; leave it out")
    return model


def check_money(budgets: Iterable[Budget], prices: Iterable[Price]) -> None:
    """Amounts that a record may hold, so that no reader refuses it."""
    if problem := money_problem(budgets, prices):
        raise RegistryFault(f"{problem}; give US dollars, like 0.15")


def check_reference(reference: str) -> str:
    """Where a gateway finds a provider's key: never the key itself, which would be kept and shown."""
    if not _REFERENCE.fullmatch(reference):
        raise RegistryFault(
            "credential: give a reference, env:NAME or file:/path, which each gateway looks up; never the key itself"
        )
    return reference


def check_base_url(provider: str, url: str) -> str:
    """A base URL that replaces a provider's own, up to and including its version path."""
    if provider == "azure":
        raise RegistryFault("base URL: azure has endpoints instead; set one with: azure set")
    return _check_url("base URL", url, "like https://llm.example.com/v1")


def azure(endpoint: str, api_version: str, name: str, deployments: dict[str, str]) -> Azure:
    """An Azure resource."""
    example = "like https://NAME.openai.azure.com"
    endpoint = _check_url("azure endpoint", endpoint, example)
    path = urlsplit(endpoint).path
    if path.startswith(("/openai", "/v1")):
        raise RegistryFault(f"azure endpoint: leave out the path {path!r}; the gateway adds it; {example}")
    if not _API_VERSION.fullmatch(api_version):
        raise RegistryFault(f"azure api-version {api_version!r}: expected a date like 2024-10-21, or leave it out")
    return Azure(endpoint=endpoint, api_version=api_version, name=name, deployments=deployments)


def _check_url(field: str, url: str, example: str) -> str:
    url = url.rstrip("/")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise RegistryFault(f"{field}: not a URL; give scheme and host, {example}") from None
    if not host or parts.scheme not in {"https", "http"}:
        raise RegistryFault(f"{field}: give scheme and host, {example}")
    if any(mark in url for mark in "@?#"):
        raise RegistryFault(f"{field}: no user, query or fragment belongs there; {example}")
    if parts.scheme == "http" and host not in _LOCAL_HOSTS:
        raise RegistryFault(f"{field}: http would send the key in the clear; use https")
    if not _ENDPOINT.fullmatch(url):
        raise RegistryFault(f"{field}: it holds a character that no address has; {example}")
    return url
