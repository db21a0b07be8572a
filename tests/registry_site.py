"""A Redis, mock providers and gateways for tests of the registry, and how to ask a gateway what it knows."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from shared.organisation import Key, Org
from shared.registry import hash_key
from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import MockProcess
from tests.parts import Gateway, Part, admin, fetch, running, start_redis, upstreams_of, wait_until
from tests.registry_operator import mark_whole

DEADLINE_S = 15.0
"""One second is promised; a busy test machine gets more, yet less than a poll takes. The measured time is printed."""
NEVER_S = "20"
"""The longest poll there is: what is seen sooner came by push."""


def ask(gateway: Gateway, key: str, provider: str = "") -> int:
    """One request; its status."""
    fields = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('registry')}", "X-Lectr-Provider": provider}
    body = json.dumps(chat()).encode()
    return fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")[0]


def until_status(
    gateway: Gateway, key: str, status: int, what: str, *, provider: str = "", started_s: float = 0.0
) -> None:
    """Wait until requests with this key get the status, and print how long it took since now or the given moment."""
    started_s = started_s or time.monotonic()
    wait_until(lambda: ask(gateway, key, provider) == status, deadline_s=DEADLINE_S, every_s=0.002)
    print(f"{what}: {(time.monotonic() - started_s) * 1000:.0f} ms")


def ready(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    status, body = fetch(f"{gateway.ops_url}/readyz")
    return status, json.loads(body)


def metric(gateway: Gateway, name: str) -> float:
    lines = fetch(f"{gateway.ops_url}/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def polls(gateway: Gateway) -> float:
    return metric(gateway, 'lectr_gateway_registry_refreshes_total{outcome="read"}')


def wait_polls(gateway: Gateway, count: int = 2) -> None:
    """Until the gateway has read the registry again, from the start of a poll that began after this call."""
    before = polls(gateway)
    wait_until(lambda: polls(gateway) >= before + count)


@dataclass
class Site:
    """A Redis of the tests' own, and what starts gateways on it."""

    directory: Path
    redis: Part
    redis_url: str
    mock: MockProcess
    started: list[Gateway]

    @property
    def port(self) -> int:
        return int(self.redis_url.rpartition(":")[2].partition("/")[0])

    def start(self, name: str = "gateway", **settings: str) -> Gateway:
        """A gateway that may not be serving yet; stopped with the site."""
        gateway = Gateway(self.directory / name, self.redis_url, upstreams_of(self.mock.url), **settings)
        self.started.append(gateway)
        return gateway

    def restart_redis(self) -> None:
        self.redis, _ = start_redis(self.directory / "redis", self.port)

    def client(self) -> Redis:
        return Redis.from_url(self.redis_url)

    def create(self, name: str) -> str:
        """A new organisation's key."""
        key: str = admin(self.redis_url, "org", "create", name)["key"]
        return key


@contextlib.contextmanager
def sites(directory: Path, mock: MockProcess) -> Iterator[Site]:
    """A site; its gateways and its Redis end with the block."""
    part, url = start_redis(directory / "redis")
    site = Site(directory, part, url, mock, [])
    # Where the mark is missing, gateways look again every second.
    mark_whole(url)
    try:
        yield site
    finally:
        for gateway in site.started:
            with running(gateway):
                pass
        site.redis.kill()


def org_of(name: str, key: str, version: int, **more: Any) -> Org:
    return Org(org=name, keys=(Key(name="default", sha256=hash_key(key)),), version=version, **more)
