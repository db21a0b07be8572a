"""The registry is lost, or comes back old, or nothing can be pushed, while clients are served: nobody is refused."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.registry import COMPLETE_KEY, LOG_KEY, ORGS_KEY, decode_org
from tests.canaries import provider_key
from tests.faults.load import loading
from tests.faults.site import GatewayPlace, Installation, installation
from tests.lectr import chat
from tests.parts import Gateway, fetch, wait_until
from tests.redis_relay import redis_relay
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, ask, polls, until_status

RATE_PER_S = 60.0
PROMISED_S = 30.0
"""Until every gateway obeys, pushed or not."""
GATEWAYS = 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Three gateways; each test leaves them serving."""
    with installation(tmp_path_factory.mktemp("control"), gateways=GATEWAYS) as made:
        yield made


@pytest.fixture
def operator(site: Installation) -> Iterator[Operator]:
    made = Operator(site.redis_url)
    yield made
    made.close()


def flushed(site: Installation) -> None:
    """FLUSHALL, which leaves the server running."""
    site.pusher.client.flushall()


def emptied(site: Installation) -> None:
    """Killed, and started again without its data."""
    site.redis.kill()
    shutil.rmtree(site.directory / "redis" / "appendonlydir")
    site.restart_redis()


def served(site: Installation) -> set[str]:
    """The organisations that Redis has now."""
    names: Any = site.pusher.client.hkeys(ORGS_KEY)
    return {name.decode() for name in names}


def wait_logged(site: Installation) -> None:
    """Until the log has every change, and Redis the mark of one that is complete."""
    redis = site.pusher.client
    wait_until(lambda: redis.exists(COMPLETE_KEY) and not redis.xlen(LOG_KEY))


def unstarted(site: Installation) -> GatewayPlace:
    """A place for a gateway that has seen nothing yet."""
    return site.add_gateway(f"fresh-{len(site.gateways)}")


def fresh_one(site: Installation) -> GatewayPlace:
    """A gateway that has seen nothing yet, started."""
    place = unstarted(site)
    place.start()
    return place


@pytest.mark.full_timeout(300)
@pytest.mark.parametrize("lose", [flushed, pytest.param(emptied, marks=pytest.mark.only_in_full)])
def test_redis_loses_the_registry_under_load(
    site: Installation, operator: Operator, full: bool, lose: Callable[[Installation], None]
) -> None:
    """No client is refused by any of three gateways, one of them restarted meanwhile; all comes back by itself.

    Nor by one that starts without a copy while all is gone: that one listens only when everything is back.
    """
    keys = {f"{lose.__name__}-{number}": "" for number in range(20)}
    for name in keys:
        keys[name] = operator.create_org(name)[1]
    wait_logged(site)
    names, places = served(site), site.gateways[:GATEWAYS]
    with loading("registry", [place.url for place in places], site.key, RATE_PER_S) as load:
        for _ in range(3 if full else 1):
            load.wait_answered(60)
            # As if it, or ClickHouse, were away: nothing comes back before it does.
            site.ingestors[0].freeze()
            lose(site)
            restarted, fresh = places[0], unstarted(site)
            with Watch([site.key, *keys.values()], 200).of([fresh]) as watch:
                fresh.spawn()
                assert restarted.running.terminate() == 0
                restarted.start()
                assert ask(restarted.running, keys[f"{lose.__name__}-7"]) == 200
                fresh.running.line_with("registry_incomplete")
                site.ingestors[0].thaw()
                back_s = time.monotonic()
                wait_until(lambda: served(site) >= names and site.pusher.client.exists(COMPLETE_KEY))
                print(f"{lose.__name__}: all {len(names)} back in Redis after {time.monotonic() - back_s:.1f} s")
                wait_until(lambda watch=watch: watch.asked > 2 * len(watch.keys))  # type: ignore[misc]
            assert watch.wrong == []
            assert fresh.running.terminate() == 0
            obeyed_afterwards(places, operator, keys, f"{lose.__name__}-3")
            load.wait_answered(60)
    assert {status for status in load.answered.values() if status != 200} == set()
    assert not load.wrong
    last = fresh_one(site).running
    assert {ask(last, key) for key in (site.key, *keys.values())} == {200}


def obeyed_afterwards(places: list[GatewayPlace], operator: Operator, keys: dict[str, str], name: str) -> None:
    """A rotated key and a new organisation work everywhere, pushed as ever."""
    old, keys[name] = keys[name], operator.rotate_key(name)[1]
    made = f"made-{time.monotonic_ns()}"
    keys[made] = operator.create_org(made)[1]
    for place in places:
        until_status(place.running, keys[name], 200, "rotated afterwards")
        until_status(place.running, keys[made], 200, "made afterwards")
        assert ask(place.running, old) == 401


class Watch:
    """Asks gateways over and over with keys that must not work, or must, as their clients would."""

    def __init__(self, keys: list[str], expected: int) -> None:
        self.keys, self.expected = keys, expected
        self.wrong: list[str] = []
        self.asked = 0
        self._ended = threading.Event()

    @contextmanager
    def of(self, places: list[GatewayPlace]) -> Iterator["Watch"]:
        asking = threading.Thread(target=self._ask, args=(places,))
        asking.start()
        try:
            yield self
        finally:
            self._ended.set()
            asking.join()

    def _ask(self, places: list[GatewayPlace]) -> None:
        while not self._ended.wait(0.02):
            for place in places:
                try:
                    found = [_status(place, key) for key in self.keys]
                except OSError:  # it does not listen
                    continue
                self.asked += len(found)
                self.wrong += [f"{place.port}: {status}" for status in found if status != self.expected]


def _status(place: GatewayPlace, key: str) -> int:
    """Of a request to whatever process is there."""
    fields = {"X-Lectr-Key": key, "Authorization": f"Bearer {provider_key('watch')}"}
    body = json.dumps(chat()).encode()
    return fetch(f"{place.url}/v1/chat/completions", data=body, headers=fields, method="POST")[0]


@pytest.mark.full_timeout(300)
@pytest.mark.parametrize(
    "edited",
    [
        pytest.param(False, id="untouched"),
        # Found by the comparison that is made every minute.
        pytest.param(True, id="edited at once", marks=pytest.mark.only_in_full),
    ],
)
def test_redis_comes_back_from_an_older_state(site: Installation, operator: Operator, *, edited: bool) -> None:
    """A backup of Redis from before a rotation and a switch: no gateway serves what was over, and Redis gets it all."""
    names = [f"{name}-{edited}".lower() for name in ("rotated", "gone", "later", "edited")]
    rotated, gone = (operator.create_org(name)[1] for name in names[:2])
    wait_logged(site)
    data, backup, places = site.directory / "redis" / "appendonlydir", site.directory / names[0], site.gateways[:3]
    site.redis.kill()
    shutil.copytree(data, backup)
    site.restart_redis()
    org, new = operator.rotate_key(names[0])
    operator.set_enabled(names[1], enabled=False)
    later = operator.create_org(names[2])[1]
    wait_logged(site)
    for place in places:
        until_status(place.running, later, 200, "before")
    urls = [place.url for place in places]
    with Watch([rotated, gone], 401).of(places) as watch, loading("older", urls, new, RATE_PER_S) as load:
        load.wait_answered(20)
        site.redis.kill()
        shutil.rmtree(data)
        shutil.copytree(backup, data)
        site.restart_redis()
        back_s = time.monotonic()
        if edited:
            operator.create_org(names[3])
        assert places[0].running.terminate() == 0
        places[0].start()
        wait_until(lambda: _version(site, names[0]) == org.version and names[2] in served(site), deadline_s=90)
        print(f"an older state, edited {edited}: brought up to date after {time.monotonic() - back_s:.1f} s")
        load.wait_answered(20)
        before = watch.asked
        wait_until(lambda: watch.asked > before + 12)
    assert watch.wrong == []
    assert {status for status in load.answered.values() if status != 200} == set()
    fresh = fresh_one(site).running
    assert [ask(fresh, key) for key in (rotated, gone, new, later)] == [401, 401, 200, 200]


def _version(site: Installation, name: str) -> int:
    record = site.pusher.client.hget(ORGS_KEY, name)
    return 0 if record is None else decode_org(record).version


@pytest.mark.only_in_full
@pytest.mark.full_timeout(200)
def test_the_longest_poll(site: Installation, operator: Operator) -> None:
    """With pushes swallowed and the longest poll there is, three gateways obey within the 30 s that are promised."""
    wait_logged(site)
    with redis_relay(site.redis_url) as relay:
        places = [site.add_gateway(redis_url=relay.url, LECTR_REGISTRY_POLL_S=NEVER_S) for _ in range(GATEWAYS)]
        gateways: list[Gateway] = [place.start() for place in places]
        for gateway in gateways:
            wait_until(lambda at=gateway: polls(at) >= 1)  # type: ignore[misc]
        key = operator.create_org("polled")[1]
        for gateway in gateways:
            until_status(gateway, key, 200, "pushed")
        relay.deafen()
        started_s = time.monotonic()
        operator.set_enabled("polled", enabled=False)
        for gateway in gateways:
            left_s = started_s + PROMISED_S - time.monotonic()
            wait_until(lambda at=gateway: ask(at, key) == 401, deadline_s=left_s)  # type: ignore[misc]
            print(f"without pushes, polled every {NEVER_S} s: {time.monotonic() - started_s:.1f} s")
        for gateway in gateways:
            gateway.kill()
