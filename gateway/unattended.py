"""Answers that are read to their end although their client left, where its organisation wants exact usage.

In: the exchange of a client that leaves. Out: whether it goes on without it. Bounded in number and in time; what is
beyond a bound is cancelled like any other.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from shared import counters
from shared.clock import monotonic_ns
from shared.organisation import ALL_FEATURES

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from shared.organisation import Org

MARK_DRAINED: Final = "drained"
MARK_CUT: Final = "drain_cut"
"""It took too long, or the process had to end: the usage is what had come."""
MARK_REFUSED: Final = "drain_refused"
"""There were too many at that moment: it was cancelled like any other."""


def wants_drain(org: "Org", feature: str) -> bool:
    """Whether answers for this feature are to be read to their end in any case."""
    return feature in org.drain_features or ALL_FEATURES in org.drain_features


class Unattended:
    """All of this process."""

    def __init__(self, *, most: int, timeout_s: float) -> None:
        self._most = most
        self._timeout_s = timeout_s
        self._ending: dict[asyncio.Task[None], asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._ending)

    def take_over(self, task: "asyncio.Task[None]", exchange: "Exchange") -> bool:
        """The client left: whether the exchange goes on without it. It is cancelled if it takes too long."""
        if len(self._ending) >= self._most:
            counters.drained.labels("too_many").inc()
            exchange.marks += (MARK_REFUSED,)
            return False
        exchange.client_left(monotonic_ns())
        exchange.marks += (MARK_DRAINED,)
        counters.client_disconnects.inc()
        self._ending[task] = asyncio.get_running_loop().call_later(self._timeout_s, _give_up, task)
        task.add_done_callback(self._end)
        return True

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._ending.pop(task).cancel()
        if not task.cancelled():
            counters.drained.labels("ended").inc()


def _give_up(task: "asyncio.Task[None]") -> None:
    counters.drained.labels("timed_out").inc()
    task.cancel()
