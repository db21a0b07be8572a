"""Redis black-holed: requests are answered as if it were there, and afterwards each is one event on the stream.

Two kinds of hole: a Redis that accepts and never answers, and a network that drops every SYN to it. No speed is
asserted here (`make bench BENCH_ARGS="--only redis"` measures it): that Redis gave no byte of an answer while the
requests were served is enough to show that none of them waited for it.
"""

import contextlib
import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.stream import FIELD_FRAME, Frame, Partition, decode_frame
from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, admin, fetch, wait_until
from tests.redis_relay import RedisRelay, redis_relay
from tests.registry_site import NEVER_S, Site, metric, ready, sites, until_status

REQUESTS = 300
CALLERS = 16
PATIENCE_S = 40.0
"""The gateway gives Redis up to 5 s for a connection, as much for an answer, and pauses up to 7.5 s between two."""
TIMED_OUT = 'lectr_gateway_push_retries_total{reason="TimeoutError"}'
UNKNOWN_KEY = "lc_key_nobody"
REFUSED_EVERY = 10
both_holes = pytest.mark.parametrize("hole", ["hangs", "drops SYNs"])


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path, mock) as made:
        yield made


@pytest.fixture
def relay(site: Site) -> Iterator[RedisRelay]:
    """Gone only after the gateways, whose last events go through it."""
    with redis_relay(site.redis_url) as made:
        yield made
        for gateway in site.started:
            gateway.terminate()


@contextlib.contextmanager
def away(site: Site, relay: RedisRelay, hole: str) -> Iterator[None]:
    """Redis is black-holed inside, and back afterwards."""
    if hole == "hangs":
        site.redis.process.send_signal(signal.SIGSTOP)
    else:
        relay.drop_syns()
    try:
        yield
    finally:
        if hole == "hangs":
            site.redis.process.send_signal(signal.SIGCONT)
        else:
            relay.take_syns()


class Callers:
    """Sends plain, streamed and refused requests, many at a time, and checks every answer."""

    def __init__(self, gateway: Gateway, key: str, mock: MockProcess) -> None:
        self.served: Counter[str] = Counter()
        """Requests of the organisation by feature: what the stream must hold in the end."""
        self._gateway = gateway
        self._key = key
        self._right = {stream: _comparable(_ask(f"{mock.url}/openai", stream=stream)[1]) for stream in (False, True)}

    def ask_all(self, feature: str, count: int = REQUESTS) -> None:
        """That many requests, each answered right."""
        with ThreadPoolExecutor(CALLERS) as pool:
            statuses = list(pool.map(lambda number: self._ask_one(number, feature), range(count)))
        # A refused key is nobody's: there is no organisation whose event it could be.
        self.served[feature] += statuses.count(200)

    def _ask_one(self, number: int, feature: str) -> int:
        refused, stream = number % REFUSED_EVERY == 0, number % 3 == 0
        fields = {"X-Lectr-Key": UNKNOWN_KEY if refused else self._key, "X-Lectr-Feature": feature}
        status, body = _ask(self._gateway.url, stream=stream, **fields)
        assert status == (401 if refused else 200), body
        assert refused or _comparable(body) == self._right[stream]
        return status


def _ask(url: str, *, stream: bool, **fields: str) -> tuple[int, bytes]:
    head = {"Authorization": f"Bearer {provider_key('away')}", "Content-Type": "application/json", **fields}
    data = json.dumps(chat(stream=stream)).encode()
    return fetch(f"{url}/v1/chat/completions", data=data, headers=head, method="POST")


def _comparable(body: bytes) -> bytes:
    """An answer of the mock's without its number and its time."""
    return re.sub(rb'mock\d+|"created": ?\d+', b"", body)


def frames_of(site: Site) -> list[Frame]:
    """What Redis has got, in its order."""
    with site.client() as client:
        entries: Any = client.xrange(Partition(0).stream)
    return [decode_frame(fields[FIELD_FRAME]) for _, fields in entries if FIELD_FRAME in fields]


def check_stream(site: Site, callers: Callers) -> None:
    """Every request sent is one event: no number twice, none left out, and they say what was answered."""
    frames = frames_of(site)
    assert len({frame.source for frame in frames}) == 1
    events = [event for frame in frames for event in frame.events]
    assert [event.seq for event in events] == list(range(callers.served.total()))
    assert {event.status for event in events} == {200}
    assert Counter(event.feature for event in events) == callers.served


def wait_shipped(gateway: Gateway) -> None:
    """Until Redis is there for the gateway and has all events."""

    def look() -> bool:
        said = ready(gateway)[1]
        return bool(said["redis"] == "ok" and said["waiting_events"] == 0)

    wait_until(look, deadline_s=PATIENCE_S)


@both_holes
def test_requests_do_not_notice(site: Site, relay: RedisRelay, hole: str) -> None:
    """All answers come while Redis answers nothing, noticed or not yet; then every event arrives, each once."""
    key = site.create("steady")
    gateway = site.start(LECTR_REDIS_URL=relay.url, LECTR_REGISTRY_POLL_S=NEVER_S).wait()
    callers = Callers(gateway, key, site.mock)
    callers.ask_all("before", 50)
    wait_shipped(gateway)
    with away(site, relay, hole):
        callers.ask_all("away")
        wait_until(lambda: metric(gateway, TIMED_OUT) >= 1, deadline_s=PATIENCE_S)
        # Not before: an answer to the question that a gateway asks each second may have crossed the beginning.
        answered_bytes = relay.answered_bytes
        assert answered_bytes > 0
        callers.ask_all("away and noticed")
        waiting = callers.served["away"] + callers.served["away and noticed"]
        wait_until(lambda: ready(gateway)[1]["waiting_events"] == waiting)
        status, said = ready(gateway)
        assert (status, said["ready"], said["redis"]) == (200, True, "failing")
        assert relay.answered_bytes == answered_bytes, "Redis answered: this was no outage"
    callers.ask_all("back", 50)
    wait_shipped(gateway)
    check_stream(site, callers)
    admin(site.redis_url, "org", "disable", "steady")
    until_status(gateway, key, 401, "disable after Redis came back")


@both_holes
def test_a_start_into_the_hole_serves_from_the_copy(site: Site, relay: RedisRelay, hole: str) -> None:
    """A gateway that once saw the registry starts and serves although Redis is black-holed; its events come later."""
    key = site.create("kept")
    first = site.start(LECTR_REDIS_URL=relay.url).wait()
    assert first.terminate() == 0
    with away(site, relay, hole):
        answered_bytes = relay.answered_bytes
        second = site.start(LECTR_REDIS_URL=relay.url).wait()
        callers = Callers(second, key, site.mock)
        callers.ask_all("started without Redis")
        assert relay.answered_bytes == answered_bytes
        assert "registry_from_disk" in second.output
    wait_shipped(second)
    check_stream(site, callers)
