"""Writes the registry: each change is one record with a higher version, stored and pushed in one step.

In: what an operator asks for. Out: the new record. A key is returned once, by the call that made it; only its hash
stays.
"""

import importlib.resources
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.redis_client import REDIS_ERRORS, open_blocking
from shared.registry import (
    CHANGES_CHANNEL,
    ORGS_KEY,
    VERSION_KEY,
    Azure,
    Org,
    RegistryFault,
    check_org_name,
    decode_org,
    encode_org,
    hash_key,
    new_key,
)

_SOCKET_TIMEOUT_S: Final = 5.0
_API_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|")
_ENDPOINT: Final = re.compile(
    r"[a-z]+://[A-Za-z0-9._-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*|[a-z]+://\[[0-9A-Fa-f:.]+\](:[0-9]+)?"
)
_LONGEST_FEATURE_BYTES: Final = 1024
_MOST_DRAIN_FEATURES: Final = 100
_CHANGE: Final = importlib.resources.files("dashboard").joinpath("change.lua").read_text(encoding="utf-8")
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class RegistryUnavailable(Exception):
    """Redis does not answer; nothing was changed, or it is unknown whether it was."""


class Registry:
    """The operator's side of the registry."""

    def __init__(self, redis_url: SecretUrl) -> None:
        self._shown_url = str(redis_url)
        try:
            self._redis = open_blocking(redis_url, timeout_s=_SOCKET_TIMEOUT_S)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def orgs(self) -> list[Org]:
        """All organisations by name. Raises RegistryUnavailable, RegistryFault."""
        try:
            records = self._redis.hgetall(ORGS_KEY)
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None
        return sorted((_read(name, record) for name, record in records.items()), key=lambda org: org.org)

    def create(self, name: str) -> tuple[Org, str]:
        """A new organisation and its key. Raises RegistryFault if the name is taken or is none."""
        check_org_name(name)
        key = new_key()

        def make(known: Org | None) -> Org:
            if known is not None:
                raise RegistryFault(f"org {name!r} exists; rotate its key with: org rotate-key {name}")
            return Org(org=name, key_sha256=hash_key(key), version=0)

        return self._change(name, make), key

    def rotate_key(self, name: str) -> tuple[Org, str]:
        """Replace the key; the old one stops working in every gateway within a second."""
        key = new_key()
        return self._update(name, key_sha256=hash_key(key)), key

    def set_enabled(self, name: str, *, enabled: bool) -> Org:
        """Switch an organisation on or off."""
        return self._update(name, enabled=enabled)

    def set_on_disconnect(self, name: str, feature: str, *, drain: bool) -> Org:
        """Whether answers for a feature (`*`: all) are read to their end when the client leaves."""
        if not 0 < len(feature.encode("utf-8", "surrogatepass")) <= _LONGEST_FEATURE_BYTES or not feature.isprintable():
            raise RegistryFault("feature: give 1 to 1024 printable bytes as in X-Lectr-Feature, or * for all features")

        def change(known: Org) -> Org:
            others = tuple(one for one in known.drain_features if one != feature)
            if drain and len(others) >= _MOST_DRAIN_FEATURES:
                raise RegistryFault(f"feature: {_MOST_DRAIN_FEATURES} features drain already; use * for all")
            return msgspec.structs.replace(known, drain_features=(*others, feature) if drain else others)

        return self._edit(name, change)

    def set_azure(self, name: str, endpoint: str, api_version: str) -> Org:
        """Where the organisation's Azure traffic goes. Raises RegistryFault naming what is wrong."""
        return self._update(name, azure=_azure(endpoint, api_version))

    def _update(self, name: str, **fields: object) -> Org:
        return self._edit(name, lambda known: msgspec.structs.replace(known, **fields))

    def _edit(self, name: str, change: Callable[[Org], Org]) -> Org:
        check_org_name(name)

        def make(known: Org | None) -> Org:
            if known is None:
                raise RegistryFault(f"org {name!r} does not exist; create it with: org create {name}")
            return change(known)

        return self._change(name, make)

    def _change(self, name: str, make: Callable[[Org | None], Org]) -> Org:
        try:
            while True:
                record = self._redis.hget(ORGS_KEY, name)
                highest = self._redis.get(VERSION_KEY) or b"0"
                org = make(None if record is None else _read(name, record))
                # Time-based, so that it still grows after Redis lost its memory.
                org = msgspec.structs.replace(org, version=max(max(int(highest), org.version) + 1, unix_ms()))
                arguments = (name, record or b"", highest, encode_org(org), org.version, CHANGES_CHANNEL)
                if self._redis.eval(_CHANGE, 2, ORGS_KEY, VERSION_KEY, *arguments) == b"done":
                    return org
        except REDIS_ERRORS as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"Redis at {self._shown_url} does not answer ({type(error).__name__}); start it, or set LECTR_REDIS_URL"
        )


def _read(name: bytes | str, record: bytes | str) -> Org:
    try:
        return decode_org(record)
    except RegistryFault as fault:
        known_as = name if isinstance(name, str) else name.decode(errors="replace")
        raise RegistryFault(f"org {known_as!r}: {fault}; remove it from the Redis hash {ORGS_KEY}") from None


def _azure(endpoint: str, api_version: str) -> Azure:
    endpoint = endpoint.rstrip("/")
    example = "like https://NAME.openai.azure.com"
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise RegistryFault(f"azure endpoint: not a URL; give scheme and host, {example}") from None
    if not host or parts.scheme not in {"https", "http"}:
        raise RegistryFault(f"azure endpoint: give scheme and host, {example}")
    if any(mark in endpoint for mark in "@?#"):
        raise RegistryFault(f"azure endpoint: no user, query or fragment belongs there; {example}")
    if parts.scheme == "http" and host not in _LOCAL_HOSTS:
        raise RegistryFault("azure endpoint: http would send the key in the clear; use https")
    if parts.path.startswith(("/openai", "/v1")):
        raise RegistryFault(f"azure endpoint: leave out the path {parts.path!r}; the gateway adds it; {example}")
    if not _ENDPOINT.fullmatch(endpoint):
        raise RegistryFault(f"azure endpoint: it holds a character that no address has; {example}")
    if not _API_VERSION.fullmatch(api_version):
        raise RegistryFault(f"azure api-version {api_version!r}: expected a date like 2024-10-21, or leave it out")
    return Azure(endpoint=endpoint, api_version=api_version)
