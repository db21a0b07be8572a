"""Settings of the ingestor, from LECTR_ variables. Out: one frozen Struct and the parsed ClickHouse address."""

import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from shared.environment import Secret, SecretUrl, SettingsFault, check_url, parse_listen, read_settings
from shared.logs import LogLevel
from shared.redis_url import check_redis_url
from shared.stream import MOST_PARTITIONS

MAX_BATCH_EVENTS: Final = 500_000
"""A batch must be one block for ClickHouse (1,048,576 rows at most): the deduplication token is per block."""

_DATABASE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_DEFAULT_DATABASE: Final = "lectr"


def _default_instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an ingestor needs to know."""

    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0")
    clickhouse_url: SecretUrl = SecretUrl("http://127.0.0.1:8123/lectr")
    clickhouse_cluster: str = ""
    """Name of the cluster that the URL's server belongs to, of one shard with replicas. Empty: a single server."""
    ops_listen: str = "0.0.0.0:9091"
    stream_partitions: Annotated[int, Meta(ge=1, le=MOST_PARTITIONS)] = 1
    """Same value as at the gateways. Each partition costs a lease renewal every few seconds."""
    batch_max_events: Annotated[int, Meta(ge=1, le=MAX_BATCH_EVENTS)] = 100_000
    batch_max_age_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    """How long the oldest event waits for company. Below 10 ms every event becomes a part of its own."""
    lease_ms: Annotated[int, Meta(ge=1_000, le=300_000)] = 10_000
    """How long a dead ingestor's partitions stay without an owner. A shorter one is lost to any pause of the host."""
    instance: str = msgspec.field(default_factory=_default_instance)
    log_level: LogLevel = "info"
    drain_timeout_s: Annotated[float, Meta(ge=0, le=3_600)] = 20.0
    """How long a stop may wait for the running batch. What is cut off is repeated by the next owner."""


class ClickHouseAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where ClickHouse's HTTP interface is and how to sign in."""

    interface: str
    host: str
    port: int
    user: str
    password: Secret
    database: str
    cluster: str = ""
    """Empty: a single server."""
    shown: str
    """The URL for logs and errors, secrets starred."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings of this process. Raises SettingsFault naming the variable."""
    settings = read_settings(Settings, environ)
    check_redis_url(settings.redis_url)
    clickhouse_of(settings)
    parse_listen(settings.ops_listen, "LECTR_OPS_LISTEN")
    return settings


def clickhouse_of(settings: Settings) -> ClickHouseAddress:
    """Where to store. Raises SettingsFault."""
    return clickhouse_address(settings.clickhouse_url, settings.clickhouse_cluster)


def clickhouse_address(url: SecretUrl, cluster: str = "") -> ClickHouseAddress:
    """The parts of LECTR_CLICKHOUSE_URL, `http://user:pass@host:8123/lectr`. Raises SettingsFault."""
    if cluster and not _CLUSTER_NAME.fullmatch(cluster):
        raise SettingsFault(
            f"LECTR_CLICKHOUSE_CLUSTER={cluster!r}: a name in system.clusters has letters, digits, _ . and - only"
        )
    name = "LECTR_CLICKHOUSE_URL"
    check_url(url.reveal(), name, frozenset({"http", "https"}))
    parts = urlsplit(url.reveal())
    if parts.query or parts.fragment:
        raise SettingsFault(f"{name}={url!s}: nothing may follow the database, like http://user:pass@host:8123/lectr")
    database = parts.path.strip("/") or _DEFAULT_DATABASE
    if not _DATABASE_NAME.fullmatch(database):
        raise SettingsFault(f"{name}={url!s}: the path is the database, letters, digits and _ only, like /lectr")
    return ClickHouseAddress(
        interface=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        user=unquote(parts.username or "default"),
        password=Secret(unquote(parts.password or "")),
        database=database,
        cluster=cluster,
        shown=str(url),
    )
