"""The registry is lost, or comes back old, or nothing can be pushed, while clients are served: nobody is refused."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.registry import COMPLETE_KEY, ORGS_KEY, decode_org
from tests.canaries import provider_key
from tests.faults.load import loading
from tests.faults.site import GatewayPlace, Installation, installation
from tests.lectr import chat
from tests.parts import Gateway, fetch, wait_until
from tests.redis_relay import redis_relay
from tests.registry_operator import Operator
from tests.registry_site import DEADLINE_S, NEVER_S, ask, polls, until_status

RATE_PER_S = 60.0
LONGEST_POLL_S = 30.0


@contextmanager
def operating(site: Installation) -> Iterator[Operator]:
    operator = Operator(site.redis_url)
    try:
        yield operator
    finally:
        operator.close()


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


def stored(site: Installation) -> int:
    """Changes in the log."""
    return int(site.select("SELECT count() AS n FROM lectr.registry_log FINAL")[0]["n"])


@pytest.mark.full_timeout(300)
@pytest.mark.parametrize("lose", [flushed, pytest.param(emptied, marks=pytest.mark.only_in_full)])
def test_redis_loses_the_registry_under_load(tmp_path: Path, full: bool, lose: Callable[[Installation], None]) -> None:
    """No client is refused by any of three gateways, one of them restarted meanwhile; all comes back by itself."""
    with installation(tmp_path, gateways=3) as site, operating(site) as operator:
        names = {"acme", *(f"org-{number}" for number in range(20))}
        keys = {name: operator.create_org(name)[1] for name in sorted(names - {"acme"})}
        site.owner()
        wait_until(lambda: stored(site) == len(names) and site.pusher.client.exists(COMPLETE_KEY))
        with loading("registry", [place.url for place in site.gateways], site.key, RATE_PER_S) as load:
            for _ in range(3 if full else 1):
                load.wait_answered(60)
                lose(site)
                lost_s = time.monotonic()
                restarted = site.gateways[0]
                assert restarted.running.terminate() == 0
                restarted.start()
                assert ask(restarted.running, keys["org-7"]) == 200
                wait_until(lambda: served(site) >= names and site.pusher.client.exists(COMPLETE_KEY))
                print(f"{lose.__name__}: all {len(names)} back in Redis after {time.monotonic() - lost_s:.1f} s")
                obeyed_afterwards(site, operator, keys)
                load.wait_answered(60)
        assert {status for status in load.answered.values() if status != 200} == set()
        assert not load.wrong
        fresh = site.add_gateway("without-a-copy").start()
        assert {ask(fresh, key) for key in (site.key, *keys.values())} == {200}


def obeyed_afterwards(site: Installation, operator: Operator, keys: dict[str, str]) -> None:
    """A rotated key and a new organisation work everywhere, pushed as ever."""
    old, keys["org-3"] = keys["org-3"], operator.rotate_key("org-3")[1]
    made = f"made-{time.monotonic_ns()}"
    keys[made] = operator.create_org(made)[1]
    for place in site.gateways:
        until_status(place.running, keys["org-3"], 200, "rotated afterwards")
        until_status(place.running, keys[made], 200, "made afterwards")
        assert ask(place.running, old) == 401


class Watch:
    """Asks gateways over and over with keys that must not work, as a client with an old key would."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
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
                except OSError:  # it is being restarted
                    continue
                self.asked += len(found)
                self.wrong += [f"{place.port}: {status}" for status in found if status != 401]


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
def test_redis_comes_back_from_an_older_state(tmp_path: Path, *, edited: bool) -> None:
    """A backup of Redis from before a rotation and a switch: no gateway serves what was over, and Redis gets it all."""
    with installation(tmp_path, gateways=3) as site, operating(site) as operator:
        rotated, gone = operator.create_org("rotated")[1], operator.create_org("gone")[1]
        site.owner()
        wait_until(lambda: stored(site) == 3 and site.pusher.client.exists(COMPLETE_KEY))
        backup = site.directory / "backup"
        site.redis.kill()
        shutil.copytree(site.directory / "redis" / "appendonlydir", backup)
        site.restart_redis()
        org, new = operator.rotate_key("rotated")
        operator.set_enabled("gone", enabled=False)
        later = operator.create_org("later")[1]
        wait_until(lambda: stored(site) == 6, deadline_s=60)
        for place in site.gateways:
            until_status(place.running, later, 200, "before")
        with (
            Watch([rotated, gone]).of(site.gateways) as watch,
            loading("older", [place.url for place in site.gateways], new, RATE_PER_S) as load,
        ):
            load.wait_answered(20)
            site.redis.kill()
            shutil.rmtree(site.directory / "redis" / "appendonlydir")
            shutil.copytree(backup, site.directory / "redis" / "appendonlydir")
            site.restart_redis()
            back_s = time.monotonic()
            if edited:
                operator.create_org("edited")
            assert site.gateways[0].running.terminate() == 0
            site.gateways[0].start()
            wait_until(lambda: _version(site, "rotated") == org.version and "later" in served(site), deadline_s=90)
            print(f"an older state, edited {edited}: brought up to date after {time.monotonic() - back_s:.1f} s")
            load.wait_answered(20)
            before = watch.asked
            wait_until(lambda: watch.asked > before + 12)
        assert watch.wrong == []
        assert {status for status in load.answered.values() if status != 200} == set()
        fresh = site.add_gateway("without-a-copy").start()
        assert [ask(fresh, key) for key in (rotated, gone, new, later)] == [401, 401, 200, 200]


def _version(site: Installation, name: str) -> int:
    record = site.pusher.client.hget(ORGS_KEY, name)
    return 0 if record is None else decode_org(record).version


@pytest.mark.only_in_full
@pytest.mark.full_timeout(200)
def test_the_longest_poll(tmp_path: Path) -> None:
    """With pushes swallowed and the longest poll there is, three gateways obey within its 30 s."""
    with installation(tmp_path, gateways=0) as site, operating(site) as operator, redis_relay(site.redis_url) as relay:
        places = [site.add_gateway(redis_url=relay.url, LECTR_REGISTRY_POLL_S=NEVER_S) for _ in range(3)]
        site.start()
        wait_until(lambda: site.pusher.client.exists(COMPLETE_KEY))
        gateways: list[Gateway] = [place.running for place in places]
        for gateway in gateways:
            wait_until(lambda at=gateway: polls(at) >= 1)  # type: ignore[misc]
        key = operator.create_org("polled")[1]
        for gateway in gateways:
            until_status(gateway, key, 200, "pushed")
        relay.deafen()
        started_s = time.monotonic()
        operator.set_enabled("polled", enabled=False)
        for gateway in gateways:
            wait_until(lambda at=gateway: ask(at, key) == 401, deadline_s=LONGEST_POLL_S + DEADLINE_S)  # type: ignore[misc]
            print(f"without pushes, polled every {NEVER_S} s: {time.monotonic() - started_s:.1f} s")
