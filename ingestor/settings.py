"""Settings of the ingestor, from LECTR_ variables. Out: one frozen Struct."""

import os
import socket
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shared.clickhouse_url import ClickHouseAddress, clickhouse_address
from shared.environment import LogLevel, SecretUrl, parse_listen, read_settings
from shared.redis_url import check_redis_url
from shared.stream import MOST_PARTITIONS

__all__ = ["ClickHouseAddress", "Settings", "clickhouse_address", "clickhouse_of", "load_settings"]

MAX_BATCH_EVENTS: Final = 500_000
"""A batch must be one block for ClickHouse (1,048,576 rows at most): the deduplication token is per block."""


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
