"""Rates of keys under many connections: what passed is what the definition says, and nothing else was refused."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from http.client import HTTPConnection
from typing import Final

import pytest

from tests.canaries import provider_key
from tests.limits_site import limited, recorded
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, wait_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, sites

SLOW: Final = 0.000_01
"""Requests per second: none is gained while a test runs."""
RATE: Final = 50
BURST: Final = 20
CLIENTS: Final = 64
ROUNDS: Final = 30
PAUSE_S: Final = 0.1


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path_factory.mktemp("rates"), mock) as made:
        made.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
        yield made


@pytest.fixture
def operator(site: Site) -> Iterator[Operator]:
    made = Operator(site.redis_url)
    yield made
    made.close()


def send_many(gateway: Gateway, key: str, *, rounds: int, pause_s: float) -> list[int]:
    """Requests of many connections, each with a pause after each; their statuses."""
    body = json.dumps({"model": "gpt-4o", "messages": []}).encode()
    fields = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('held')}"}
    barrier, pause = threading.Barrier(CLIENTS), threading.Event()

    def client() -> list[int]:
        host, found = gateway.url.removeprefix("http://"), []
        connection = HTTPConnection(host, timeout=60)
        barrier.wait(30)
        for _ in range(rounds):
            connection.request("POST", "/v1/chat/completions", body=body, headers=fields)
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
            pause.wait(pause_s)
        connection.close()
        return found

    with ThreadPoolExecutor(CLIENTS) as clients:
        return [status for made in [clients.submit(client) for _ in range(CLIENTS)] for status in made.result()]


def test_a_rate_under_64_connections(site: Site, operator: Operator) -> None:
    """50 a second and 20 at once: each request that passed satisfies the definition, each refused one would not have.

    By the times that the gateway recorded, which are whole milliseconds.
    """
    key = limited(site, operator, "rated", requests_per_s=RATE, burst_requests=BURST)
    answers = send_many(site.started[0], key, rounds=ROUNDS, pause_s=PAUSE_S)
    assert set(answers) == {200, 429}
    wait_until(lambda: len(recorded(site, "rated")) == len(answers))
    events = recorded(site, "rated")
    assert [sum(event.status == status for event in events) for status in (200, 429)] == [
        answers.count(200),
        answers.count(429),
    ]
    passed = [event.ts_ms for event in events if event.status == 200]
    for last, now_ms in enumerate(passed):
        for first, since_ms in enumerate(passed[: last + 1]):
            assert last - first + 1 <= BURST + Fraction(RATE, 1000) * (now_ms - since_ms + 1), (since_ms, now_ms)
    for event in events:
        if event.status == 429:
            before = [since_ms for since_ms in passed if since_ms <= event.ts_ms]
            assert any(
                len(before) - first + 1 > BURST + Fraction(RATE, 1000) * (event.ts_ms - since_ms - 1)
                for first, since_ms in enumerate(before)
            ), event
    lasted_s = (events[-1].ts_ms - events[0].ts_ms) / 1000
    print(f"{len(answers)} requests in {lasted_s:.1f} s: {len(passed)} passed, {len(events) - len(passed)} refused")


def test_each_worker_has_its_own_bucket(site: Site, operator: Operator) -> None:
    """With two workers behind one port each lets a burst pass, whatever part of the connections it has."""
    workers = site.start("workers", LECTR_WORKERS="2", LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    key = limited(site, operator, "shared-out", requests_per_s=SLOW, burst_requests=BURST)
    marker = operator.create_org("shared-out-afterwards")[1]
    # Every connection may be another worker's.
    wait_until(lambda: [ask(workers, marker) for _ in range(16)] == [200] * 16)
    answers = send_many(workers, key, rounds=5, pause_s=0)
    wait_until(lambda: len(recorded(site, "shared-out")) == len(answers))
    of_worker: dict[int, list[int]] = {}
    for event in recorded(site, "shared-out"):
        of_worker.setdefault(event.source, []).append(event.status)
    assert len(of_worker) == 2
    for statuses in of_worker.values():
        assert statuses.count(200) == min(BURST, len(statuses))
    assert workers.terminate() == 0
