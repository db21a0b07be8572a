"""An installation whose every part can be killed and started again where it was: same ports, same directories."""

import contextlib
import json
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.stream import Partition
from tests.ingestor_process import OwnStores, Pusher
from tests.mock_process import MockProcess, mock_process
from tests.parts import (
    ROOT,
    Gateway,
    Ingestor,
    admin,
    fetch,
    migrate,
    start_clickhouse,
    start_redis,
    upstreams_of,
    wait_until,
)
from tests.registry_operator import mark_whole

_PORTS = (20_000, 32_000)
CHUNK_DELAY_MS = 15
"""Between the events of a streamed answer: at any moment some streams are under way."""
QUICK_GATEWAY = {"LECTR_FLUSH_INTERVAL_MS": "20", "LECTR_DRAIN_TIMEOUT_S": "10"}
QUICK_INGESTOR = {"LECTR_LEASE_MS": "1000", "LECTR_BATCH_MAX_AGE_MS": "50"}


def steady_port() -> int:
    """A free port below those of outgoing connections: nobody can take it while its owner is dead."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def pause(seconds: float) -> None:
    """Let the others work for a while."""
    threading.Event().wait(seconds)


@dataclass
class GatewayPlace:
    """Where a gateway runs: its ports, its state, and the process that is there now."""

    directory: Path
    redis_url: str
    mock_url: str
    settings: dict[str, str]
    port: int = field(default_factory=steady_port)
    ops_port: int = field(default_factory=steady_port)
    process: Gateway | None = None
    release: Path = ROOT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> int:
        return int(self.settings.get("LECTR_WORKERS", "1"))

    @property
    def state_dir(self) -> Path:
        return Path(self.settings.get("LECTR_STATE_DIR", str(self.directory / "state")))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    @property
    def running(self) -> Gateway:
        assert self.process is not None, "not started"
        return self.process

    def spawn(self) -> Gateway:
        """Start a process, which may not be serving yet."""
        assert not self.alive
        settings = {
            "LECTR_LISTEN": f"127.0.0.1:{self.port}",
            "LECTR_OPS_LISTEN": f"127.0.0.1:{self.ops_port}",
            **self.settings,
        }
        self.process = Gateway(self.directory, self.redis_url, upstreams_of(self.mock_url), self.release, **settings)
        return self.process

    def start(self) -> Gateway:
        """Start a process and wait until it serves."""
        return self.spawn().wait()

    def kill(self) -> None:
        self.running.kill()

    def children(self) -> list[int]:
        """The workers' process ids."""
        pid = self.running.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]

    def details(self) -> list[dict[str, Any]]:
        """What /readyz says, of each process; empty while one does not answer."""
        with contextlib.suppress(OSError, ValueError):
            said = json.loads(fetch(f"http://127.0.0.1:{self.ops_port}/readyz")[1])
            return [json.loads(one["answer"]) for one in said["workers"]] if "workers" in said else [said]
        return []

    def metric(self, name: str) -> float:
        """The sum over a metric's label sets."""
        lines = fetch(f"http://127.0.0.1:{self.ops_port}/metrics")[1].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def folders(self) -> list[str]:
        """Journals of boots, living and dead, but for what was set aside as damaged."""
        root = self.state_dir / "journal"
        names = (entry.name for entry in root.iterdir()) if root.is_dir() else ()
        return sorted(name for name in names if not name.startswith("damaged-"))


@dataclass
class IngestorPlace:
    """Where an ingestor runs."""

    directory: Path
    redis_url: str
    clickhouse_url: str
    settings: dict[str, str]
    ops_port: int = field(default_factory=steady_port)
    process: Ingestor | None = None
    release: Path = ROOT
    frozen: bool = False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    @property
    def running(self) -> Ingestor:
        assert self.process is not None, "not started"
        return self.process

    def spawn(self) -> Ingestor:
        assert not self.alive
        settings = {"LECTR_OPS_LISTEN": f"127.0.0.1:{self.ops_port}", **self.settings}
        self.process = Ingestor(self.directory, self.redis_url, self.clickhouse_url, self.release, **settings)
        self.process.ops_url = f"http://127.0.0.1:{self.ops_port}"
        return self.process

    def start(self) -> Ingestor:
        return self.spawn().wait()

    def kill(self) -> None:
        self.running.kill()

    def freeze(self) -> None:
        """SIGSTOP, as a host does to a virtual machine."""
        self.running.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self.running.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def partitions(self) -> dict[str, str]:
        """Partition -> owner or standby."""
        found: dict[str, str] = self.details()["partitions"]
        return found

    def details(self) -> dict[str, Any]:
        """What /readyz says."""
        said: dict[str, Any] = json.loads(fetch(f"{self.running.ops_url}/readyz")[1])
        return said


@dataclass
class Installation(OwnStores):
    """Everything, on this test's own stores."""

    mock: MockProcess
    key: str
    partitions: int = 1
    gateways: list[GatewayPlace] = field(default_factory=list)
    ingestors: list[IngestorPlace] = field(default_factory=list)

    def add_gateway(self, name: str = "", *, redis_url: str = "", **settings: str) -> GatewayPlace:
        """A place for a gateway, nothing started."""
        name = name or f"gateway-{len(self.gateways)}"
        own = {"LECTR_INSTANCE": name, "LECTR_STREAM_PARTITIONS": str(self.partitions), **QUICK_GATEWAY, **settings}
        place = GatewayPlace(self.directory / name, redis_url or self.redis_url, self.mock.url, own)
        self.gateways.append(place)
        return place

    def add_ingestor(self, name: str = "", *, clickhouse_url: str = "", **settings: str) -> IngestorPlace:
        """A place for an ingestor, nothing started."""
        name = name or f"ingestor-{len(self.ingestors)}"
        own = {"LECTR_INSTANCE": name, "LECTR_STREAM_PARTITIONS": str(self.partitions), **QUICK_INGESTOR, **settings}
        place = IngestorPlace(self.directory / name, self.redis_url, clickhouse_url or self.clickhouse_url, own)
        self.ingestors.append(place)
        return place

    def start(self) -> None:
        """Start every place that has no process."""
        waiting: list[Gateway | Ingestor] = [place.spawn() for place in self.gateways if not place.alive]
        waiting += [place.spawn() for place in self.ingestors if not place.alive]
        for part in waiting:
            part.wait()

    def all_keys(self) -> list[Partition]:
        return [Partition(index) for index in range(self.partitions)]

    def entries(self) -> int:
        """Frames in all partitions."""
        return sum(int(self.pusher.client.xlen(keys.stream)) for keys in self.all_keys())

    def owner(self) -> IngestorPlace:
        """The ingestor that owns partition 0, once there is one."""

        def look() -> IngestorPlace | None:
            for place in self.ingestors:
                with contextlib.suppress(OSError):
                    if place.alive and not place.frozen and place.partitions().get("0") == "owner":
                        return place
            return None

        found = wait_until(look)
        assert found is not None
        return found

    def wait_batch(self) -> None:
        """Until a batch is on record, which is when its insert begins."""
        wait_until(lambda: self.pusher.client.exists(self.pusher.partition.pending), every_s=0.001)

    def stop_everything(self) -> None:
        started: list[Gateway | Ingestor] = [place.process for place in self.gateways if place.process]
        started += [place.process for place in self.ingestors if place.process]
        for part in started:
            part.process.send_signal(signal.SIGCONT)
            part.process.terminate()
        for part in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.process.wait(15)
            part.kill()
        self.pusher.client.close()
        self.redis.kill()
        self.clickhouse.kill()


@contextlib.contextmanager
def installation(
    directory: Path, *, gateways: int = 1, ingestors: int = 1, partitions: int = 1, slow_streams: bool = True
) -> Iterator[Installation]:
    """Stores, mock providers, an organisation, and started gateways and ingestors; all ended with the block."""
    with mock_process() as mock:
        if slow_streams:
            mock.behave(path_contains="/chat/completions", chunk_delay_ms=CHUNK_DELAY_MS)
        redis_part, redis_url = start_redis(directory / "redis", steady_port())
        clickhouse_part, clickhouse_url = start_clickhouse(directory / "clickhouse", steady_port())
        pusher = Pusher(redis_url)
        site = Installation(
            directory, redis_part, redis_url, clickhouse_url, pusher, clickhouse_part, mock, "", partitions
        )
        try:
            migrate(clickhouse_url)
            site.key = admin(redis_url, "org", "create", "acme", clickhouse_url=clickhouse_url)["key"]
            if not ingestors:
                mark_whole(redis_url)
            for _ in range(gateways):
                site.add_gateway()
            for _ in range(ingestors):
                site.add_ingestor()
            site.start()
            yield site
        finally:
            site.stop_everything()
