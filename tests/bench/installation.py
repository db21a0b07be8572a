"""Lectr with its analytics on: gateway, Redis, ingestor, ClickHouse; and whether every request became its row."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.payloads import OUTPUT_TOKENS
from tests.bench.processes import Cores, on_core, to_background
from tests.parts import (
    Gateway,
    Ingestor,
    Part,
    admin,
    migrate,
    running,
    select,
    start_clickhouse,
    start_redis,
    upstreams_of,
    wait_until,
)

FEATURE = "bench"
_STORED_WITHIN_S = 120.0
_COUNTS = f"""
SELECT count() AS rows, uniqExact(gateway_boot, gateway_seq) AS events,
    countIf(status = 200 AND output_tokens = {OUTPUT_TOKENS} AND usage_source = 'provider') AS metered
FROM lectr.requests WHERE feature = '{FEATURE}'
"""


@dataclass
class Installation:
    """The running parts, and how many rows the load so far must have made."""

    gateway: Gateway
    redis: Part
    ingestor: Ingestor
    clickhouse: Part
    clickhouse_url: str
    key: str
    folder: Path
    cores: Cores
    redis_url: str
    upstream_url: str
    sent: int = 0
    cut: int = 0
    """Requests that were given up by the load generator: each may have become a row or not."""

    @property
    def cold_path(self) -> dict[str, int]:
        """The processes behind the gateway: name -> pid."""
        parts = {"redis": self.redis, "ingestor": self.ingestor, "clickhouse": self.clickhouse}
        return {name: part.process.pid for name, part in parts.items()}

    def settle(self) -> None:
        """Wait until what was sent is stored, so that it costs nobody else's round any time."""
        wait_until(lambda: self.counts()["rows"] >= self.sent, deadline_s=_STORED_WITHIN_S, every_s=0.1)

    def counts(self) -> dict[str, int]:
        """What ClickHouse holds of the load: rows, distinct events, rows with the usage that the upstream sent."""
        counts: dict[str, Any] = select(self.clickhouse_url, _COUNTS)[0]
        return counts

    def verify(self) -> dict[str, int]:
        """What was sent and what is stored; AssertionError unless each request is one row with the provider's usage."""
        self.settle()
        found = {"sent": self.sent, "cut_by_load": self.cut, **self.counts()}
        assert self.sent <= found["rows"] <= self.sent + self.cut, found
        assert found["events"] == found["rows"], found
        assert found["metered"] >= self.sent, found
        return found


@contextlib.contextmanager
def start_installation(folder: Path, cores: Cores, upstream_url: str, **settings: str) -> Iterator[Installation]:
    """Every part as `make run` starts it, the gateway in front of our upstream."""
    with contextlib.ExitStack() as parts:
        with on_core(cores.cold):
            redis, redis_url = start_redis(folder / "redis")
            parts.enter_context(running(redis))
            clickhouse, clickhouse_url = start_clickhouse(folder / "clickhouse")
            parts.enter_context(running(clickhouse))
            migrate(clickhouse_url)
            made = admin(redis_url, "org", "create", "bench", clickhouse_url=clickhouse_url)
            ingestor = Ingestor(folder / "ingestor", redis_url, clickhouse_url).wait()
            parts.enter_context(running(ingestor))
        if cores.cold_shares:
            for part in (redis, clickhouse, ingestor):
                to_background(part.process.pid)
        with on_core(cores.gateway):
            gateway = Gateway(folder / "gateway", redis_url, upstreams_of(upstream_url), **settings).wait()
        parts.enter_context(running(gateway))
        yield Installation(
            gateway, redis, ingestor, clickhouse, clickhouse_url, made["key"], folder, cores, redis_url, upstream_url
        )
