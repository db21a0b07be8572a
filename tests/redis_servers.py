"""Several real Redis-compatible servers that belong together: a cluster with replicas, and a trio of Sentinels."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.redis_server import find_server, server_command
from tests.parts import Part, clean_environ, free_port, wait_until

SHARDS = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
"""On a busy machine a server that lives may be silent for a second."""
SENTINELS = 3
REPLICAS = 2
SERVICE = "lectr-events"


def client(port: int) -> "redis.Redis":
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def ask(port: int, *command: Any) -> Any:
    """One command to one server."""
    with client(port) as connection:
        return connection.execute_command(*command)


def answers(port: int, *command: Any) -> Any:
    """The same, or nothing while the server is not there or refuses."""
    with contextlib.suppress(redis.exceptions.RedisError):
        return ask(port, *command)


def start_server(directory: Path, *options: str) -> tuple[Part, int]:
    """A server; options come after those of the laptop's."""
    port = free_port()
    data = directory / str(port)
    data.mkdir(parents=True)
    command = [*server_command(find_server(), port=port, data_dir=data), *options]
    part = Part(f"redis-{port}", command, clean_environ(), directory / "logs")
    part.line_with("Ready to accept connections")
    return part, port


@dataclass
class Servers:
    """Servers by port, and the URL that names them all."""

    parts: dict[int, Part]
    url: str
    writable: Callable[[], list[int]]
    """The ports of those that are written to now."""

    def kill(self, port: int) -> None:
        """SIGKILL for one that is written to, and wait until another one is in its place."""
        others = set(self.writable()) - {port}
        self.parts.pop(port).kill()
        wait_until(lambda: set(self.writable()) - others - {port}, deadline_s=20)

    def info(self, section: str, *, of: int) -> dict[str, Any]:
        with client(of) as connection:
            found: dict[str, Any] = connection.info(section)
            return found

    def owner_of(self, key: str) -> int:
        """The server that has the key's slot, of a cluster."""
        for port in self.writable():
            if answers(port, "EXISTS", key) is not None:
                return port
        raise AssertionError(key)


@contextlib.contextmanager
def start_cluster(directory: Path) -> Iterator[Servers]:
    """Three primaries with a replica each. The URL names two of the six."""
    parts: dict[int, Part] = {}
    try:
        for _ in range(2 * SHARDS):
            cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
            bus = ("--cluster-port", str(free_port()), "--cluster-replica-validity-factor", "0")
            part, port = start_server(directory, *cluster, *bus, "--repl-diskless-sync-delay", "0")
            parts[port] = part
        ports = list(parts)
        _join(ports)
        url = f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[-1]}"
        yield Servers(parts, url, lambda: _primaries(list(parts)))
    finally:
        for part in parts.values():
            part.kill()


def _join(ports: list[int]) -> None:
    primaries, replicas = ports[:SHARDS], ports[SHARDS:]
    for index, port in enumerate(primaries):
        first, end = index * SLOTS // SHARDS, (index + 1) * SLOTS // SHARDS
        ask(port, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    for epoch, port in enumerate(ports, 1):
        ask(port, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for port in ports[1:]:
        with client(port) as connection:
            bus = connection.config_get("cluster-port")["cluster-port"]
        ask(ports[0], "CLUSTER", "MEET", "127.0.0.1", port, bus)
    for primary, replica in zip(primaries, replicas, strict=True):
        name = ask(primary, "CLUSTER", "MYID").decode()
        wait_until(partial(answers, replica, "CLUSTER", "REPLICATE", name))
    wait_until(lambda: all(ask(port, "CLUSTER INFO")["cluster_state"] == "ok" for port in ports))
    wait_until(lambda: all(_replication(port).get("master_link_status") == "up" for port in replicas))


def _primaries(ports: list[int]) -> list[int]:
    """Living primaries that have slots, as the majority sees them."""
    for port in ports:
        found = answers(port, "CLUSTER NODES") or {}
        slots = [(name, node) for name, node in found.items() if node["slots"] and "master" in node["flags"]]
        living = [int(name.rpartition(":")[2]) for name, node in slots if "fail" not in node["flags"]]
        if len(living) == SHARDS:
            return living
    return []


@contextlib.contextmanager
def start_sentinels(directory: Path) -> Iterator[Servers]:
    """A server with two replicas, and three Sentinels that watch them. The URL names two Sentinels."""
    parts: dict[int, Part] = {}
    watchers: dict[int, Part] = {}
    try:
        options = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-diskless-sync-delay", "0")
        part, master = start_server(directory, *options)
        parts[master] = part
        for _ in range(REPLICAS):
            part, replica = start_server(directory, "--replicaof", f"127.0.0.1 {master}", *options)
            parts[replica] = part
        wait_until(lambda: _replication(master)["connected_slaves"] == REPLICAS)
        wait_until(lambda: _replication(master)["min_slaves_good_slaves"] == REPLICAS)
        for _ in range(SENTINELS):
            part, port = _start_sentinel(directory, master)
            watchers[port] = part
        wait_until(lambda: all(map(_knows_all, watchers)))
        hosts = ",".join(f"127.0.0.1:{port}" for port in list(watchers)[1:])
        yield Servers(parts, f"redis+sentinel://{hosts}/{SERVICE}/0", lambda: _masters(watchers, parts))
    finally:
        for part in (*parts.values(), *watchers.values()):
            part.kill()


def _start_sentinel(directory: Path, master: int) -> tuple[Part, int]:
    port = free_port()
    config = directory / f"sentinel-{port}.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {directory}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
        f"sentinel failover-timeout {SERVICE} 5000\n",
        encoding="utf-8",
    )
    command = [find_server(), str(config), "--sentinel"]
    part = Part(f"sentinel-{port}", command, clean_environ(), directory / "logs")
    wait_until(lambda: answers(port, "PING"))
    return part, port


def _seen_by(sentinel: int) -> dict[str, Any]:
    with client(sentinel) as connection:
        found: dict[str, Any] = connection.sentinel_master(SERVICE)
        return found


def _knows_all(sentinel: int) -> bool:
    seen = _seen_by(sentinel)
    return bool(seen["num-other-sentinels"] == SENTINELS - 1 and seen["num-slaves"] == REPLICAS)


def _masters(watchers: dict[int, Part], parts: dict[int, Part]) -> list[int]:
    """The server that all Sentinels agree on, if it says the same of itself."""
    named = {int(_seen_by(port)["port"]) for port in watchers}
    return [port for port in named if len(named) == 1 and port in parts and _replication(port)["role"] == "master"]


def _replication(port: int) -> dict[str, Any]:
    with client(port) as connection:
        found: dict[str, Any] = connection.info("replication")
        return found
