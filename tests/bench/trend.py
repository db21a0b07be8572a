"""Whether a figure still grew in the second half of a soak, and by how much an hour. Pure.

The first half is warm-up: caches fill, pools open, the allocator finds its size. The slope is the median of the slopes
between all pairs of samples, which neither a spike nor a sawtooth moves.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_HOUR_S = 3600


@dataclass(frozen=True)
class Trend:
    """A figure's course over the second half, and how much growth in that time still counts as flat."""

    name: str
    first_half: float
    """Median, for comparison only."""
    second_half: float
    per_hour: float
    growth: float
    """What the slope adds up to over the second half."""
    allowed: float

    @property
    def verdict(self) -> str:
        return "growing" if self.growth > self.allowed else "flat"


def trend(name: str, at_s: Sequence[float], values: Sequence[float], *, share: float, floor: float) -> Trend:
    """Allowed is that share of the second half's median, or the floor if it is more."""
    middle = len(values) // 2
    times, late = at_s[middle:], values[middle:]
    pairs = itertools.combinations(zip(times, late, strict=True), 2)
    slopes = [(later - earlier) / (later_s - earlier_s) for (earlier_s, earlier), (later_s, later) in pairs]
    per_s = statistics.median(slopes) if slopes else 0.0
    level = statistics.median(late)
    return Trend(
        name=name,
        first_half=statistics.median(values[: middle or 1]),
        second_half=level,
        per_hour=per_s * _HOUR_S,
        growth=per_s * (times[-1] - times[0]),
        allowed=max(level * share, floor),
    )
