"""A gateway and an ingestor on several Redis servers, under load; what was answered, and what is stored of it."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.stream import Partition, partition_of
from tests.lectr import Lectr, chat
from tests.mock_process import mock_process
from tests.parts import Gateway, Ingestor, admin, migrate, running, start_clickhouse, upstreams_of, wait_until
from tests.redis_servers import Servers
from tests.registry_site import NEVER_S

PARTITIONS = 8


@dataclass
class Site:
    """Everything, and the servers that may be killed."""

    servers: Servers
    lectr: Lectr
    answered: list[str] = field(default_factory=list)
    """The features of requests that were answered; each request has its own."""

    @property
    def partition(self) -> Partition:
        """Where the gateway's events go."""
        line: dict[str, Any] = json.loads(self.lectr.gateway.line_with('"source"'))
        return partition_of(line["source"], PARTITIONS)

    def send(self, name: str, *, key: str = "") -> int:
        """One request; its status."""
        given = {"X_Lectr_Feature": name, **({"X_Lectr_Key": key} if key else {})}
        status, _ = self.lectr.post("/v1/chat/completions", chat(), **given)
        if status == 200:
            self.answered.append(name)
        return status

    @contextlib.contextmanager
    def load(self, name: str) -> Iterator[None]:
        """Requests one after the other while the block runs."""
        ending = threading.Event()

        def send() -> None:
            number = 0
            while not ending.wait(0.01):
                assert self.send(f"{name}-{number}") == 200
                number += 1

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            ending.set()
            sender.join()

    def stored(self) -> dict[str, int]:
        """Rows per feature."""
        rows = self.lectr.select("SELECT feature, count() AS n FROM lectr.requests GROUP BY feature")
        return {row["feature"]: row["n"] for row in rows}

    def wait_stored(self) -> None:
        """Until every answered request has a row; none may have two."""
        expected = dict.fromkeys(self.answered, 1)

        def complete() -> bool:
            stored = self.stored()
            return all(name in stored for name in expected)

        # What is missing after a minute is told by the comparison.
        with contextlib.suppress(AssertionError):
            wait_until(complete)
        assert self.stored() == expected


@contextlib.contextmanager
def start_site(directory: Path, servers: Servers) -> Iterator[Site]:
    """Start every part but Redis, create an organisation with the command line, and stop all at the end."""
    with contextlib.ExitStack() as parts:
        mock = parts.enter_context(mock_process())
        clickhouse, clickhouse_url = start_clickhouse(directory / "clickhouse")
        parts.enter_context(running(clickhouse))
        migrate(clickhouse_url)
        made = admin(servers.url, "org", "create", "acme", clickhouse_url=clickhouse_url)
        shared = {"LECTR_STREAM_PARTITIONS": str(PARTITIONS)}
        own = {"LECTR_FLUSH_INTERVAL_MS": "20", "LECTR_REGISTRY_POLL_S": NEVER_S, **shared}
        ingestor = Ingestor(directory / "ingestor", servers.url, clickhouse_url, LECTR_LEASE_MS="2000", **shared)
        parts.enter_context(running(ingestor))
        gateway = Gateway(directory / "gateway", servers.url, upstreams_of(mock.url), **own)
        parts.enter_context(running(gateway))
        ingestor.wait()
        gateway.wait()
        lectr = Lectr(directory, servers.url, clickhouse_url, mock, gateway, ingestor, made["org"], made["key"])
        yield Site(servers, lectr)
