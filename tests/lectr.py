"""All of Lectr, running for tests, and what a test asks it: send, see what the provider got, read the row."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.canaries import PROMPT, provider_key
from tests.mock_process import MockProcess, mock_process
from tests.parts import (
    PATIENCE_S,
    Gateway,
    Ingestor,
    admin,
    fetch,
    migrate,
    running,
    select,
    start_clickhouse,
    start_redis,
    upstreams_of,
    wait_until,
)


@dataclass
class Lectr:
    """A running installation."""

    directory: Path
    redis_url: str
    clickhouse_url: str
    mock: MockProcess
    gateway: Gateway
    ingestor: Ingestor
    org: str
    key: str

    @property
    def url(self) -> str:
        return self.gateway.url

    def select(self, query: str) -> list[dict[str, Any]]:
        return select(self.clickhouse_url, query)

    def rows(self, where: str, *, count: int = 1, deadline_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """The rows that match, once there are at least `count`."""
        query = f"SELECT *, event_id FROM lectr.requests WHERE {where} ORDER BY ts, gateway_seq"

        def look() -> list[dict[str, Any]]:
            found = self.select(query)
            return found if len(found) >= count else []

        return wait_until(look, deadline_s=deadline_s)

    def row(self, where: str) -> dict[str, Any]:
        """The one row that matches."""
        rows = self.rows(where)
        assert len(rows) == 1, rows
        return rows[0]

    def row_of(self, feature: str, **expected: Any) -> dict[str, Any]:
        """The feature's one row, checked."""
        row = self.row(f"feature = {quoted(feature)}")
        assert {name: row[name] for name in expected} == expected
        return row

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
        """One JSON request through the gateway, with the organisation's key unless given."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        head = {"X-Lectr-Key": self.key, "Authorization": f"Bearer {provider_key('post')}", **given}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return fetch(
            f"{self.url}{path}", data=data, headers={"Content-Type": "application/json", **head}, method="POST"
        )


def chat(model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    """A chat request body."""
    return {"model": model, "messages": [{"role": "user", "content": f"{PROMPT} hello"}], **more}


def quoted(value: str) -> str:
    """A value as a SQL string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextlib.contextmanager
def start_lectr(directory: Path, **settings: str) -> Iterator[Lectr]:
    """Start every part, and stop them in order at the end."""
    with contextlib.ExitStack() as parts:
        mock = parts.enter_context(mock_process("--keep-bodies"))
        redis, redis_url = start_redis(directory / "redis")
        parts.enter_context(running(redis))
        clickhouse, clickhouse_url = start_clickhouse(directory / "clickhouse")
        parts.enter_context(running(clickhouse))
        migrate(clickhouse_url)
        made = admin(redis_url, "org", "create", "acme", clickhouse_url=clickhouse_url)
        admin(redis_url, "azure", "set", "acme", "--endpoint", f"{mock.url}/azure", "--api-version", "2024-10-21")
        ingestor = Ingestor(directory / "ingestor", redis_url, clickhouse_url).wait()
        parts.enter_context(running(ingestor))
        # Hundreds of tests wait for their rows.
        settings = {"LECTR_FLUSH_INTERVAL_MS": "20", **settings}
        gateway = Gateway(directory / "gateway", redis_url, upstreams_of(mock.url), **settings).wait()
        parts.enter_context(running(gateway))
        yield Lectr(directory, redis_url, clickhouse_url, mock, gateway, ingestor, made["org"], made["key"])
