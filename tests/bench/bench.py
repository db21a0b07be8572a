"""A run's common ground: the load generator, the targets, and one measured order against one of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.bench.loader import Loader, LoadFailed
from tests.bench.orders import JsonFigures, StreamFigures
from tests.bench.plan import Plan
from tests.bench.processes import cpu_ns
from tests.bench.progress import say
from tests.bench.targets import Target

T = TypeVar("T")
_TAIL_S = 0.1
"""What a gateway still does for a load after its last answer (Lectr's last frame of events) counts as well."""


@dataclass(frozen=True)
class Bench:
    """What every section needs."""

    plan: Plan
    loader: Loader
    targets: list[Target]
    upstream_pid: int

    def instruments_cpu_ns(self) -> int:
        """CPU time of the load generator and the upstream: past one core, they are what is measured."""
        return cpu_ns(self.loader.pid) + cpu_ns(self.upstream_pid)

    @property
    def gateways(self) -> list[Target]:
        """The targets without `direct`."""
        return [target for target in self.targets if target.pid is not None]

    def json(self, target: Target, requests: int, connections: int) -> tuple[JsonFigures, float | None]:
        """Plain requests: what the clients saw, and the gateway's CPU time per request in µs."""
        count = max(int(requests * target.effort), connections)
        before_ns = _cpu_ns(target)
        figures = self.loader.json(target.json(count, connections))
        spent_ns = _cpu_ns(target, tail=True) - before_ns
        _account(target, sent=count)
        return figures, spent_ns / 1000 / count if target.pid else None

    def streams(
        self,
        target: Target,
        streams: int,
        events: int,
        interval_ms: int,
        *,
        ramp_ms: int,
        patience: float = 4.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[StreamFigures, float | None]:
        """Streams: what the clients saw, and the gateway's CPU time in seconds.

        Given up after `patience` times the length that they should have.
        """
        length_s = (ramp_ms + events * interval_ms) / 1000
        order = target.streams(streams, events, interval_ms, ramp_ms=ramp_ms, deadline_s=patience * length_s + 2)
        before_ns = _cpu_ns(target)
        figures = self.loader.streams(order, meanwhile)
        spent_ns = _cpu_ns(target, tail=True) - before_ns
        ended = len(figures.longest_gaps_ms)
        _account(target, sent=ended, cut=streams - ended)
        return figures, spent_ns / 1e9 if target.pid else None

    def attempt(self, target: Target, what: str, measure: Callable[[], T]) -> T | None:
        """What was measured. A wrong answer stops the run, unless it is a peer's: that is named, and None."""
        say(f"{what}: {target.name}")
        try:
            return measure()
        except LoadFailed as failed:
            if target.exact:
                raise LoadFailed(f"{target.name}, {what}: {failed}") from None
            print(f"\n{target.name} failed at {what}: {failed}", flush=True)
            return None


def _cpu_ns(target: Target, *, tail: bool = False) -> int:
    if target.pid is None:
        return 0
    if tail:
        threading.Event().wait(_TAIL_S)
    return cpu_ns(target.pid)


def _account(target: Target, *, sent: int, cut: int = 0) -> None:
    if target.installation:
        target.installation.sent += sent
        target.installation.cut += cut
        target.installation.settle()
