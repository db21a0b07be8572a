"""Several gateway processes on one port: they share the work, one that dies is replaced, and all stop together."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.stream import Partition, decode_frame
from tests.canaries import provider_key
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, admin, fetch, free_port, running, start_redis, upstreams_of, wait_until
from tests.registry_operator import mark_whole

WORKERS = 2


class Site:
    """Redis, the mock providers, and gateways before them."""

    def __init__(self, directory: Path, redis_url: str, mock: MockProcess) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.mock = mock
        self.key: str = admin(redis_url, "org", "create", "acme")["key"]

    def start(self, **settings: str) -> Gateway:
        given = {"LECTR_WORKERS": str(WORKERS), **settings}
        return Gateway(self.directory / "gateway", self.redis_url, upstreams_of(self.mock.url), **given)

    def ask(self, gateway: Gateway, feature: str) -> int:
        """One request on a connection of its own; the status."""
        headers = {
            "X-Lectr-Key": self.key,
            "X-Lectr-Feature": feature,
            "Authorization": f"Bearer {provider_key('workers')}",
            "Content-Type": "application/json",
        }
        body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}).encode()
        return fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=headers, method="POST")[0]

    def sources(self, feature: str) -> list[int]:
        """The gateway boot of each of the feature's events."""
        with redis.Redis.from_url(self.redis_url) as client:
            entries: Any = client.xrange(Partition(0).stream)
        frames = [decode_frame(fields[b"f"]) for _, fields in entries if b"f" in fields]
        return [frame.source for frame in frames for event in frame.events if event.feature == feature]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("workers")
    part, redis_url = start_redis(directory / "redis")
    mark_whole(redis_url)
    with running(part), mock_process() as mock:
        yield Site(directory, redis_url, mock)


@pytest.fixture
def gateway(site: Site) -> Iterator[Gateway]:
    with running(started := site.start()):
        assert isinstance(started, Gateway)
        yield started.wait()


def workers_of(gateway: Gateway) -> list[int]:
    """The process ids of the workers that run now."""
    pid = gateway.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def still_run(pids: list[int]) -> list[int]:
    """Those of the processes that have not ended; one that nobody has collected yet has."""
    stats = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [pid for pid, stat in stats.items() if stat.exists() and ") Z " not in stat.read_text()]


def is_ready(gateway: Gateway) -> bool:
    return fetch(f"{gateway.ops_url}/readyz")[0] == 200


def test_workers_share_the_port(site: Site, gateway: Gateway, feature: str) -> None:
    """Connections are spread over the workers, each with events of its own, and /metrics shows them side by side."""
    assert len(workers_of(gateway)) == WORKERS
    for _ in range(60):
        assert site.ask(gateway, feature) == 200
    sources = wait_until(lambda: found if len(found := site.sources(feature)) == 60 else [])
    assert len(set(sources)) == WORKERS
    status, metrics = fetch(f"{gateway.ops_url}/metrics")
    assert status == 200
    counted = re.findall(
        rb'^lectr_gateway_requests_total\{provider="openai",status="2xx",worker="(\d)"\} (\S+)$', metrics, re.MULTILINE
    )
    assert {worker for worker, _ in counted} == {b"0", b"1"}
    assert sum(float(value) for _, value in counted) == 60
    assert metrics.count(b"# TYPE lectr_gateway_requests_total counter") == 1


def test_a_worker_that_dies_is_replaced(site: Site, gateway: Gateway, feature: str) -> None:
    """After a kill -9 of a worker the others serve on, and soon there are as many as before."""
    before = workers_of(gateway)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: before[0] not in workers_of(gateway))
    assert [site.ask(gateway, feature) for _ in range(10)] == [200] * 10
    wait_until(lambda: len(workers_of(gateway)) == WORKERS and is_ready(gateway))
    _, metrics = fetch(f"{gateway.ops_url}/metrics")
    assert b"lectr_gateway_worker_restarts_total 1.0" in metrics


def test_all_stop_together(site: Site, feature: str) -> None:
    """SIGTERM ends the supervisor and its workers, and the events of the last requests are on the stream."""
    with running(started := site.start()):
        assert isinstance(started, Gateway)
        gateway = started.wait()
        workers = workers_of(gateway)
        assert [site.ask(gateway, feature) for _ in range(20)] == [200] * 20
        assert gateway.terminate() == 0
    assert still_run(workers) == []
    assert len(site.sources(feature)) == 20


def test_no_worker_outlives_its_supervisor(site: Site) -> None:
    """When the supervisor is killed, its workers stop by themselves."""
    with running(started := site.start()):
        assert isinstance(started, Gateway)
        workers = workers_of(started.wait())
        started.kill()
        wait_until(lambda: not still_run(workers))


def test_a_taken_port_is_named(site: Site, gateway: Gateway) -> None:
    """A second gateway on the port is refused, although sharing it would be possible."""
    address = gateway.url.removeprefix("http://")
    with running(second := site.start(LECTR_LISTEN=address)):
        assert second.process.wait(30) == 2
        assert f"LECTR_LISTEN='{address}'" in second.output
        assert "Traceback" not in second.output


def test_workers_that_refuse_their_settings_end_it(site: Site) -> None:
    """A setting that only a worker finds unusable ends the start with its exit code, instead of being tried again."""
    upstream = f"http://127.0.0.1:{free_port()}"
    with running(refused := site.start(LECTR_UPSTREAM_OPENAI=upstream, HTTPS_PROXY="socks5://127.0.0.1:1")):
        assert refused.process.wait(30) == 2
        assert "HTTPS_PROXY" in refused.output
