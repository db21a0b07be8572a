"""Plain requests: CPU per request and latency, at few and many connections, alternating between the targets."""

import statistics
from functools import partial
from typing import Any

import msgspec

from tests.bench.bench import Bench

_WARM_UP_CONNECTIONS = 16


def measure_requests(bench: Bench) -> list[dict[str, Any]]:
    """One row per number of connections and target: medians over the rounds, and every round's CPU figure."""
    plan = bench.plan
    for target in bench.targets:
        measure = partial(bench.json, target, plan.warm_up_requests, _WARM_UP_CONNECTIONS)
        bench.attempt(target, "json, warming up", measure)
    rows = []
    for connections in plan.connections:
        runs: dict[str, list[dict[str, float | None]]] = {target.name: [] for target in bench.targets}
        for number in range(1, plan.rounds + 1):
            for target in bench.targets:
                what = f"json, {connections} connections, round {number}/{plan.rounds}"
                measure = partial(bench.json, target, plan.requests, connections)
                if found := bench.attempt(target, what, measure):
                    figures, cpu_us = found
                    runs[target.name].append({"cpu_us": cpu_us, **msgspec.structs.asdict(figures)})
        rows += [_row(name, connections, run) for name, run in runs.items() if run]
    _add_latency_over_direct(rows)
    return rows


def _row(name: str, connections: int, runs: list[dict[str, float | None]]) -> dict[str, Any]:
    row: dict[str, Any] = {"target": name, "connections": connections}
    for figure in runs[0]:
        values = [value for run in runs if (value := run[figure]) is not None]
        row[figure] = statistics.median(values) if values else None
    row["cpu_us_rounds"] = [run["cpu_us"] for run in runs]
    return row


def _add_latency_over_direct(rows: list[dict[str, Any]]) -> None:
    direct = {row["connections"]: row for row in rows if row["target"] == "direct"}
    for row in rows:
        base = direct.get(row["connections"])
        for quantile in ("p50_ms", "p99_ms"):
            row[f"added_{quantile}"] = row[quantile] - base[quantile] if base and base is not row else None
