"""Streams: CPU per relayed event, how many run without a stall on one core, and the memory of a thousand."""

import statistics
from functools import partial
from typing import Any

from tests.bench.bench import Bench
from tests.bench.processes import rss_bytes
from tests.bench.progress import say
from tests.bench.targets import Target

_WARM_UP_SHARE = 0.25
_SSE_RAMP_MS = 100
_LEVEL_RAMP_MS = 1000
_MEMORY_EVENTS = 5
_MEMORY_INTERVAL_MS = 800
_NEARLY_ALL = 0.99
_SILENCE_INTERVALS = 2
"""A silence longer than so many of the provider's own is a stall."""
_ATTEMPTS = 2
_LONG_PATIENCE = 30.0
"""Where only CPU time or memory counts, a slow gateway may take its time."""
_CALM = 1.2
_PATIENCE = 1.5
"""A level that takes longer than this is lost already."""


def measure_events(bench: Bench) -> list[dict[str, Any]]:
    """CPU per relayed event; medians over the rounds."""
    plan = bench.plan
    runs: dict[str, list[float]] = {target.name: [] for target in bench.gateways}
    for number in range(plan.rounds + 1):
        for target in bench.gateways:
            most = min(plan.sse_streams, target.most_streams)
            streams = most if number else max(int(most * _WARM_UP_SHARE), 1)
            measure = partial(
                bench.streams,
                target,
                streams,
                plan.sse_events,
                plan.sse_interval_ms,
                ramp_ms=_SSE_RAMP_MS,
                patience=_LONG_PATIENCE,
            )
            found = bench.attempt(target, f"sse, {streams} streams, round {number}/{plan.rounds}", measure)
            if found and number:
                figures, cpu_s = found
                assert len(figures.longest_gaps_ms) == streams, f"{target.name}: streams did not end"
                runs[target.name].append((cpu_s or 0) * 1e6 / (streams * plan.sse_events))
    return [
        {"target": name, "cpu_us_per_event": statistics.median(found), "rounds": found}
        for name, found in runs.items()
        if found
    ]


def measure_stalls(bench: Bench) -> dict[str, Any]:
    """The largest number of concurrent streams without a stall, for each gateway on its core.

    A silence is one, and so is a late end: who falls behind steadily makes no gap.
    The provider's own largest silence, seen without a gateway in the same run, is allowed for.
    """
    limits: dict[int, float] = {}
    direct = next(target for target in bench.targets if target.pid is None)
    rows = []
    for target in bench.gateways:
        levels = []
        for level in target.levels or bench.plan.levels:
            if level not in limits:
                limits[level] = _limit_ms(bench, direct, level)
            levels.append(_try_level(bench, target, level, limits[level]))
            if levels[-1]["free"] < _NEARLY_ALL * level:
                break
        rows.append(
            {
                "target": target.name,
                "stall_free": _largest(levels, 1.0),
                "nearly_stall_free": _largest(levels, _NEARLY_ALL),
                "levels": levels,
            }
        )
    return {"limits_ms": limits, "targets": rows}


def _largest(levels: list[dict[str, Any]], share: float) -> int:
    return max((level["streams"] for level in levels if level["free"] >= share * level["streams"]), default=0)


def _limit_ms(bench: Bench, direct: Target, level: int) -> float:
    """The longest silence that is no stall at this level."""
    plan = bench.plan
    own_ms = []
    # The calmer of two runs: a pause of the machine must not make the test easier.
    for _ in range(_ATTEMPTS):
        say(f"streams, {level} at once: the provider's own silences")
        figures, _cpu = bench.streams(
            direct, level, plan.level_events, plan.level_interval_ms, ramp_ms=_LEVEL_RAMP_MS, patience=_PATIENCE
        )
        own_ms.append(max([plan.level_interval_ms, *figures.longest_gaps_ms]))
        if own_ms[-1] < _CALM * plan.level_interval_ms:
            break
    return _SILENCE_INTERVALS * min(own_ms)


def _try_level(bench: Bench, target: Target, level: int, limit_ms: float) -> dict[str, Any]:
    """The better of at most two attempts: on a shared machine a single pause is not the gateway's."""
    plan = bench.plan
    best: dict[str, Any] = {"streams": level, "free": -1, "ended": 0}
    best.update(worst_gap_ms=None, core_use=None, instruments_use=None)
    measure = partial(
        bench.streams,
        target,
        level,
        plan.level_events,
        plan.level_interval_ms,
        ramp_ms=_LEVEL_RAMP_MS,
        patience=_PATIENCE,
    )
    # As if all were open all the time: the ramp at the start is one at the end too.
    length_s = plan.level_events * plan.level_interval_ms / 1000
    for _ in range(_ATTEMPTS):
        before_ns = bench.instruments_cpu_ns()
        found = bench.attempt(target, f"streams, {level} at once", measure)
        if found is None:
            break
        figures, cpu_s = found
        gaps_ms = figures.longest_gaps_ms
        in_time_ms = length_s * 1000 + limit_ms
        free = sum(
            gap_ms <= limit_ms and took_ms <= in_time_ms
            for gap_ms, took_ms in zip(gaps_ms, figures.took_ms, strict=True)
        )
        if free > best["free"]:
            busy_s = max(length_s, figures.wall_s - _LEVEL_RAMP_MS / 1000)
            best.update(free=free, ended=len(gaps_ms), worst_gap_ms=max(gaps_ms, default=None))
            instruments_s = (bench.instruments_cpu_ns() - before_ns) / 1e9
            best.update(core_use=(cpu_s or 0) / busy_s, instruments_use=instruments_s / busy_s)
        if free == level:
            break
    return {**best, "free": max(best["free"], 0)}


def measure_memory(bench: Bench, at_start: dict[str, int]) -> list[dict[str, Any]]:
    """Resident memory after the start, after the load so far, with many open streams, and at rest after those."""
    rows = []
    for target in bench.gateways:
        assert target.pid
        streams = min(bench.plan.memory_streams, target.most_streams)
        seen = [rss_bytes(target.pid)]
        measure = partial(
            bench.streams,
            target,
            streams,
            _MEMORY_EVENTS,
            _MEMORY_INTERVAL_MS,
            ramp_ms=2 * _LEVEL_RAMP_MS,
            patience=_LONG_PATIENCE,
            meanwhile=partial(_look, target.pid, seen),
        )
        found = bench.attempt(target, f"memory, {streams} open streams", measure)
        most_open = found[0].most_open if found else 0
        assert most_open == streams or not target.exact, f"{target.name}: only {most_open} of {streams} streams open"
        rows.append(
            {
                "target": target.name,
                "at_start": at_start[target.name],
                "before": seen[0],
                "streams": most_open,
                "with_streams": max(seen) if most_open else None,
                "after": rss_bytes(target.pid),
            }
        )
    return rows


def _look(pid: int, seen: list[int]) -> None:
    seen.append(rss_bytes(pid))
