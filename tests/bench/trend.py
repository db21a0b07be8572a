"""Whether a figure grew over a soak: the median of its first quarter against that of its last. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trend:
    """A figure's course, and how much more at the end still counts as flat."""

    name: str
    first: float
    last: float
    allowed: float

    @property
    def verdict(self) -> str:
        return "growing" if self.last - self.first > self.allowed else "flat"


def trend(name: str, samples: Sequence[float], *, share: float, floor: float) -> Trend:
    """Allowed is that share of the first quarter's median, or the floor if it is more."""
    quarter = max(len(samples) // 4, 1)
    first = statistics.median(samples[:quarter])
    return Trend(name, first, statistics.median(samples[-quarter:]), max(first * share, floor))
