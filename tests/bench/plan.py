"""How much is measured: the sizes of a full and of a quick run."""

from dataclasses import dataclass, replace

SECTIONS = ("json", "sse", "memory", "streams", "redis", "rules", "registry")
ALONE = frozenset({"rules", "registry"})
"""Sections that bring what they measure, and need no target."""


@dataclass(frozen=True)
class Plan:
    """The sizes of a run."""

    rounds: int = 5
    requests: int = 4000
    """Per round and target, not streamed."""
    warm_up_requests: int = 8000
    connections: tuple[int, ...] = (1, 16, 64)
    sse_streams: int = 100
    sse_events: int = 201
    sse_interval_ms: int = 5
    levels: tuple[int, ...] = (100, 200, 400, 600, 800, 1000)
    """Concurrent streams that are tried for stalls, of 50 events/s each."""
    level_events: int = 150
    level_interval_ms: int = 20
    memory_streams: int = 1000
    outage_s: float = 7.0
    """How long Redis is away. Longer than the gateway's patience with it (5 s), so that the time-out is in it."""
    ruled_rounds: int = 15
    """Of requests to a gateway with rules; more make the median steadier."""


FULL = Plan()
QUICK = replace(
    FULL,
    rounds=2,
    requests=1000,
    warm_up_requests=1500,
    connections=(1, 16),
    sse_events=101,
    levels=(200, 400),
    level_events=75,
    outage_s=2.0,
    ruled_rounds=7,
)
