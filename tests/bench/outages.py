"""Redis black-holed: latency and CPU of plain requests while it is silent or drops SYNs, next to healthy rounds.

A gateway of this section's own reaches Redis through a relay, so that the other sections measure without one. Each
round has a healthy part before either outage: the healthy parts differ by noise alone, which is what an outage is
judged by. The ingestor pauses while requests are measured, so that the parts differ in Redis and in nothing else.
"""

import contextlib
import json
import signal
import statistics
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.bench.bench import Bench
from tests.bench.installation import FEATURE, Installation
from tests.bench.processes import on_core
from tests.bench.targets import Target
from tests.parts import Gateway, Part, fetch, running, upstreams_of, wait_until
from tests.redis_relay import RedisRelay, redis_relay

HEALTHY, SILENT, UNREACHABLE = "healthy", "silent", "SYNs dropped"
_ORDER = (HEALTHY, SILENT, HEALTHY, UNREACHABLE)
_CONNECTIONS = 16
_PIECE_S = 1.0
"""A part is measured in pieces, and their median counts: a pause of the machine spoils a piece and not the part."""
_BACK_WITHIN_S = 60.0
"""The gateway gives a connection 5 s, an answer 5 s, and pauses up to 7.5 s between two attempts."""

Run = dict[str, float]


@dataclass(frozen=True)
class Site:
    """The gateway, and the Redis that is taken from it."""

    installation: Installation
    relay: RedisRelay
    gateway: Gateway
    target: Target

    def said(self) -> dict[str, Any]:
        """What the gateway says about Redis."""
        said: dict[str, Any] = json.loads(fetch(f"{self.gateway.ops_url}/readyz")[1])
        return said

    def wait_healthy(self) -> None:
        """Until everything sent is stored, and the gateway is on good terms with Redis again."""
        self.installation.settle()
        wait_until(lambda: self.said()["redis"] == "ok", deadline_s=_BACK_WITHIN_S, every_s=0.1)

    def away(self, state: str) -> AbstractContextManager[None]:
        """Redis is in this state inside, and healthy afterwards."""
        if state == SILENT:
            return _stopped(self.installation.redis)
        return self._unreachable() if state == UNREACHABLE else contextlib.nullcontext()

    @contextlib.contextmanager
    def _unreachable(self) -> Iterator[None]:
        self.relay.drop_syns()
        try:
            yield
        finally:
            self.relay.take_syns()


@contextlib.contextmanager
def _stopped(part: Part) -> Iterator[None]:
    part.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        part.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _site(installation: Installation) -> Iterator[Site]:
    cores = installation.cores
    with contextlib.ExitStack() as parts:
        with on_core(cores.cold):
            relay = parts.enter_context(redis_relay(installation.redis_url))
        with on_core(cores.gateway):
            upstreams = upstreams_of(installation.upstream_url)
            gateway = Gateway(installation.folder / "outages", relay.url, upstreams).wait()
        parts.enter_context(running(gateway))
        fields = {"X-Lectr-Key": installation.key, "X-Lectr-Feature": FEATURE}
        # Without the installation: rows are not waited for while Redis is away.
        target = Target("lectr", gateway.url, gateway.process.pid, fields=fields)
        yield Site(installation, relay, gateway, target)


def measure_outages(bench: Bench, installation: Installation) -> dict[str, Any]:
    """Medians over the rounds for each state of Redis, and how the p99 of each compares with the healthy ones."""
    plan = bench.plan
    runs: dict[str, list[Run]] = {HEALTHY: [], SILENT: [], UNREACHABLE: []}
    with _site(installation) as site:
        site.wait_healthy()
        warm_up = _measure(bench, site, HEALTHY, [plan.warm_up_requests], "warming up")
        pieces = [int(warm_up["requests_per_s"] * _PIECE_S)] * int(plan.outage_s / _PIECE_S)
        for number in range(1, plan.rounds + 1):
            for state in _ORDER:
                runs[state].append(_measure(bench, site, state, pieces, f"round {number}/{plan.rounds}"))
    return {"requests": sum(pieces), "connections": _CONNECTIONS, **summary(runs)}


def _measure(bench: Bench, site: Site, state: str, pieces: Sequence[int], what: str) -> Run:
    """One part of a round. AssertionError unless Redis was in that state, and has every event afterwards."""
    installation, requests = site.installation, sum(pieces)
    answered_bytes = site.relay.answered_bytes
    with _stopped(installation.ingestor), site.away(state):
        runs = [_piece(bench, site.target, count, f"Redis {state}, {what}") for count in pieces]
        waiting = site.said()["waiting_events"]
    installation.sent += requests
    if state == HEALTHY:
        assert site.relay.answered_bytes > answered_bytes, "Redis was called healthy and answered nothing"
    else:
        assert waiting == requests, f"Redis was {state}, and took {requests - waiting} of {requests} events"
    site.wait_healthy()
    return _row(runs)


def _piece(bench: Bench, target: Target, requests: int, what: str) -> Run:
    found = bench.attempt(target, what, partial(bench.json, target, requests, _CONNECTIONS))
    assert found
    figures, cpu_us = found
    return {
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "longest_ms": figures.longest_ms,
        "requests_per_s": figures.requests_per_s,
        "cpu_us": cpu_us or 0.0,
    }


def summary(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """A row per state, and the noise: how far healthy parts are from each other. Pure."""
    healthy_ms = [run["p99_ms"] for run in runs[HEALTHY]]
    middle_ms = statistics.median(healthy_ms)
    first_ms, second_ms = (statistics.median(healthy_ms[start::2]) for start in (0, 1))
    spread = [min(healthy_ms) / middle_ms, max(healthy_ms) / middle_ms]
    rows: list[dict[str, Any]] = [{"redis": state, **_row(found)} for state, found in runs.items()]
    for row in rows:
        row["p99_ms_parts"] = [run["p99_ms"] for run in runs[row["redis"]]]
        row["p99_times_healthy"] = row["p99_ms"] / middle_ms
        row["within_noise"] = row["p99_times_healthy"] <= spread[1]
    return {"rows": rows, "healthy_spread": spread, "healthy_times_healthy": second_ms / first_ms}


def _row(runs: Sequence[Run]) -> Run:
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {**medians, "longest_ms": max(run["longest_ms"] for run in runs)}
