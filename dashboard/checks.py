"""What an operator may set: each value checked where its type alone does not say enough. Pure.

Raises RegistryFault naming the field and the fix. Nothing is looked up: a name that resolves nowhere is for the gateway
to report.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from shared.organisation import Azure, Budget, Limits, Price, money_problem
from shared.registry import RegistryFault

_API_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|")
_ENDPOINT: Final = re.compile(
    r"[a-z]+://[A-Za-z0-9._-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*|[a-z]+://\[[0-9A-Fa-f:.]+\](:[0-9]+)?(/[A-Za-z0-9._~-]+)*"
)
_LONGEST_FEATURE_BYTES: Final = 1024
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00-\x1f\x7f]+")
PROVIDERS: Final = ("openai", "anthropic", "groq", "gemini", "azure")


def check_feature(feature: str, field: str = "feature") -> str:
    """A feature as it may stand in X-Lectr-Feature, or `*`."""
    if not 0 < len(feature.encode("utf-8", "surrogatepass")) <= _LONGEST_FEATURE_BYTES or not feature.isprintable():
        raise RegistryFault(
            f"{field}: give 1 to 1024 printable bytes as in X-Lectr-Feature, or * for all features", field=field
        )
    return feature


def check_provider(provider: str) -> str:
    """One of the five."""
    if provider not in PROVIDERS:
        raise RegistryFault(f"provider {provider!r}: one of {', '.join(PROVIDERS)}", field="provider")
    return provider


def check_model(model: str) -> str:
    """A model's whole name, or the beginning of it and `*`."""
    if "*" in model[:-1]:
        raise RegistryFault(
            f"model {model!r} has a * before its end; only the last character may be one", field="model"
        )
    return model


def check_money(budgets: Iterable[Budget], prices: Iterable[Price]) -> None:
    """Amounts that a record may hold, so that no reader refuses it."""
    if problem := money_problem(budgets, prices):
        raise RegistryFault(f"{problem.text}; give US dollars, like 0.15", field=problem.field)


def check_burst(limits: Limits, wider: Limits, *, field: str, whose: str = "") -> None:
    """A burst is one of a rate, which is set beside it, or in the limits that these are instead of."""
    if limits.burst_requests is not None and limits.requests_per_s is None and wider.requests_per_s is None:
        raise RegistryFault(
            f"{whose}burst_requests {limits.burst_requests} limits nothing without a rate: set requests_per_s as well, "
            "or leave it out",
            field=field,
        )


def check_reference(reference: str) -> str:
    """Where a gateway finds a provider's key: never the key itself, which would be kept and shown."""
    if not _REFERENCE.fullmatch(reference):
        raise RegistryFault(
            "credential: give a reference, env:NAME or file:/path, which each gateway looks up; never the key itself",
            field="reference",
        )
    return reference


def check_base_url(provider: str, url: str) -> str:
    """A base URL that replaces a provider's own, up to and including its version path."""
    if provider == "azure":
        raise RegistryFault("base URL: azure has endpoints instead; set one with: azure set", field="provider")
    return _check_url("base URL", url, "like https://llm.example.com/v1", field="url")


def azure(endpoint: str, api_version: str, name: str, deployments: dict[str, str]) -> Azure:
    """An Azure resource."""
    example = "like https://NAME.openai.azure.com"
    endpoint = _check_url("azure endpoint", endpoint, example, field="endpoint")
    path = urlsplit(endpoint).path
    if path.startswith(("/openai", "/v1")):
        raise RegistryFault(
            f"azure endpoint: leave out the path {path!r}; the gateway adds it; {example}", field="endpoint"
        )
    if not _API_VERSION.fullmatch(api_version):
        raise RegistryFault(
            f"azure api-version {api_version!r}: expected a date like 2024-10-21, or leave it out", field="api_version"
        )
    return Azure(endpoint=endpoint, api_version=api_version, name=name, deployments=deployments)


def _check_url(label: str, url: str, example: str, *, field: str) -> str:
    url = url.rstrip("/")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise RegistryFault(f"{label}: not a URL; give scheme and host, {example}", field=field) from None
    if not host or parts.scheme not in {"https", "http"}:
        raise RegistryFault(f"{label}: give scheme and host, {example}", field=field)
    if any(mark in url for mark in "@?#"):
        raise RegistryFault(f"{label}: no user, query or fragment belongs there; {example}", field=field)
    if parts.scheme == "http" and host not in _LOCAL_HOSTS:
        raise RegistryFault(f"{label}: http would send the key in the clear; use https", field=field)
    if not _ENDPOINT.fullmatch(url):
        raise RegistryFault(f"{label}: it holds a character that no address has; {example}", field=field)
    return url
