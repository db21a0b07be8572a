"""What LECTR_REDIS_URL points to: one server, a Redis Cluster, or a service that Sentinels watch. Pure.

In: the URL. Out: a RedisAddress that clients are opened with. Raises SettingsFault with the fix, never with a secret.
"""

import re
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from shared.environment import Secret, SecretUrl, SettingsFault, check_url, parse_hosts

_SINGLE: Final = frozenset({"redis", "rediss", "unix"})
_SCHEMES: Final = _SINGLE | {f"{base}+{kind}" for base in ("redis", "rediss") for kind in ("cluster", "sentinel")}
_SENTINEL_PATH: Final = re.compile(r"/(?P<service>[^/]*[^/0-9][^/]*)(/(?P<db>[0-9]*))?/?")
_FORMS: Final = {
    "cluster": "redis+cluster://user:pass@host:6379,host2:6379",
    "sentinel": "redis+sentinel://user:pass@host:26379,host2:26379/SERVICE/0",
}


class RedisKind(StrEnum):
    """How many servers there are behind the URL, and who says which one to ask."""

    SINGLE = "single"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of LECTR_REDIS_URL."""

    kind: RedisKind
    nodes: tuple[tuple[str, int], ...] = ()
    """Servers to begin with: of the cluster, or the Sentinels."""
    service: str = ""
    """What the Sentinels call the server that is wanted."""
    sentinel_user: Secret = Secret("")
    sentinel_password: Secret = Secret("")
    url: SecretUrl
    """As the driver takes it: of the one server, else with the first of `nodes` in its place."""


def check_redis_url(url: SecretUrl) -> None:
    """Raise SettingsFault unless LECTR_REDIS_URL can name a Redis database."""
    redis_address(url)


def redis_address(url: SecretUrl) -> RedisAddress:
    """The parts of LECTR_REDIS_URL. Raises SettingsFault."""
    scheme = url.reveal().partition("://")[0].lower()
    base, _, kind = scheme.partition("+")
    if scheme in _SINGLE or scheme not in _SCHEMES:
        return _single(url)
    return _several(url, base, RedisKind(kind))


def _single(url: SecretUrl) -> RedisAddress:
    check_url(url.reveal(), "LECTR_REDIS_URL", _SCHEMES)
    parts = urlsplit(url.reveal())
    # redis-py takes `/name` for database 0.
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*", parts.path):
        raise SettingsFault(f"LECTR_REDIS_URL={url}: the path is the database number, like /0")
    return RedisAddress(kind=RedisKind.SINGLE, url=url)


def _several(url: SecretUrl, base: str, kind: RedisKind) -> RedisAddress:
    example = f"like {_FORMS[kind]}"
    try:
        parts = urlsplit(url.reveal())
        user, at, hosts = parts.netloc.rpartition("@")
        nodes = parse_hosts(hosts)
    except ValueError:
        raise SettingsFault(
            f"LECTR_REDIS_URL={url}: give every server with its port, separated by commas, {example}"
        ) from None
    if parts.fragment:
        raise SettingsFault(f"LECTR_REDIS_URL={url}: nothing may follow a #; encode one in a password as %23")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    service, database = "", ""
    if kind is RedisKind.SENTINEL:
        found = _SENTINEL_PATH.fullmatch(parts.path)
        if found is None:
            raise SettingsFault(
                f"LECTR_REDIS_URL={url}: the path is the service that the Sentinels watch, then the database, {example}"
            )
        service, database = unquote(found["service"]), f"/{found['db'] or 0}"
    elif parts.path not in {"", "/", "/0"} or options.pop("db", "0") != "0":
        raise SettingsFault(f"LECTR_REDIS_URL={url}: a cluster has database 0 only; leave it out, {example}")
    sentinel_user, sentinel_password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    query = f"?{urlencode(options)}" if options else ""
    first = hosts.split(",")[0]
    return RedisAddress(
        kind=kind,
        nodes=nodes,
        service=service,
        sentinel_user=Secret(sentinel_user),
        sentinel_password=Secret(sentinel_password),
        url=SecretUrl(f"{base}://{user}{at}{first}{database}{query}"),
    )
