"""The tables that a run prints, and the JSON that --keep writes."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.control import show_registry, show_rules
from tests.bench.goals import goals

RESULTS = Path(__file__).parent / "results"
_MB = 1_000_000
_TIMES = (
    ("requests_per_s", 9, 0),
    ("p50_ms", 9, 3),
    ("p99_ms", 10, 3),
    ("added_p50_ms", 9, 3),
    ("added_p99_ms", 10, 3),
)


def machine(pinning: str) -> dict[str, Any]:
    """The machine as the figures depend on it."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpu_lines if line.startswith("model name")), "")
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1e6, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pinning": pinning,
        "load_average": os.getloadavg()[0],
    }


def show(results: dict[str, Any]) -> None:
    """Print what was measured."""
    where = results["machine"]
    print(
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, "
        f"Linux {where['kernel']}, Python {where['python']}"
    )
    print(f"{where['pinning']}; load average at the start {where['load_average']:.2f}")
    print(
        f"while measuring, processes that are not part of it took {where['others']:.0%} of the machine, "
        f"its host {where['stolen']:.0%}"
    )
    print("; ".join(f"{name} {version}" for name, version in results["versions"].items()))
    if "json" in results:
        _show_requests(results)
    if "sse" in results:
        _show_events(results)
    if "streams" in results:
        _show_stalls(results)
    if "memory" in results:
        _show_memory(results["memory"])
    if "redis" in results:
        _show_outages(results)
    if "analytics" in results:
        _show_analytics(results["analytics"])
    if "rules" in results:
        show_rules(results["rules"])
    if "registry" in results:
        show_registry(results["registry"])
    print("\ngoal; figure; verdict")
    for goal in goals(results):
        figure = "-" if goal.figure is None else f"{goal.figure:.2f}"
        print(f"  {goal.text:<68}{figure:>9}  {goal.verdict}")


def keep(results: dict[str, Any], kind: str) -> Path:
    """Write the results where they are kept."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d-%H%M}-{kind}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _range(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"({min(known):.0f}-{max(known):.0f})" if known else ""


def _show_requests(results: dict[str, Any]) -> None:
    sizes = results["plan"]
    print(f"\nplain requests: medians of {sizes['rounds']} rounds of {sizes['requests']}; CPU is the gateway's own")
    times = f"{'req/s':>9}{'p50 ms':>9}{'p99 ms':>10}{'+p50':>9}{'+p99':>10}"
    print(f"  {'conns':>5}  {'target':<14}{'CPU us/req':>11}{'(rounds)':>16}{times}")
    for row in results["json"]:
        spread = _range(row["cpu_us_rounds"])
        times = "".join(_number(row[name], width, digits) for name, width, digits in _TIMES)
        print(f"  {row['connections']:>5}  {row['target']:<14}{_number(row['cpu_us'], 11, 1)}{spread:>16}{times}")
    print("  +p50, +p99: latency added to that without a gateway")


def _show_events(results: dict[str, Any]) -> None:
    sizes = results["plan"]
    print(
        f"\nserver-sent events: {sizes['sse_streams']} streams of {sizes['sse_events']} events, one every "
        f"{sizes['sse_interval_ms']} ms"
    )
    for row in results["sse"]:
        print(f"  {row['target']:<14}{row['cpu_us_per_event']:>8.1f} CPU us per relayed event")


def _show_stalls(results: dict[str, Any]) -> None:
    found = results["streams"]
    interval_ms = results["plan"]["level_interval_ms"]
    print(
        f"\nconcurrent streams on one core, an event every {interval_ms} ms; a stream stalls when it is silent\n"
        "for, or ends later by, more than twice the provider's own largest silence"
    )
    print(
        f"  {'target':<14}{'all stall-free':>15}{'99 %':>7}   of each level, CPU of the gateway, of load and upstream"
    )
    for row in found["targets"]:
        print(f"  {row['target']:<14}{row['stall_free']:>15}{row['nearly_stall_free']:>7}")
        for level in row["levels"]:
            worst = _number(level["worst_gap_ms"], 6, 0)
            own, theirs = (
                _number(100 * level[name] if level[name] is not None else None, 4, 0)
                for name in ("core_use", "instruments_use")
            )
            print(f"{'':<41}{level['free']:>5} of {level['streams']:<5}{worst} ms {own} % {theirs} %")
    print("  silences allowed: " + ", ".join(f"{limit:.0f} ms at {n}" for n, limit in found["limits_ms"].items()))


def _show_memory(rows: list[dict[str, Any]]) -> None:
    print("\nresident memory, MB, with all child processes")
    print(f"  {'target':<14}{'started':>9}{'after load':>12}{'streams':>9}{'at rest again':>15}")
    for row in rows:
        busy = _number(row["with_streams"] / _MB if row["with_streams"] else None, 9, 0)
        note = f"   {row['streams']} open streams" if row["streams"] else ""
        at_start, before, after = (row[name] / _MB for name in ("at_start", "before", "after"))
        print(f"  {row['target']:<14}{at_start:>9.0f}{before:>12.0f}{busy}{after:>15.0f}{note}")


def _show_outages(results: dict[str, Any]) -> None:
    found, sizes = results["redis"], results["plan"]
    print(
        f"\nRedis black-holed: {found['requests']} plain requests over {found['connections']} connections, about "
        f"{sizes['outage_s']:g} s, in each part of\n{sizes['rounds']} rounds (healthy, silent, healthy, SYNs dropped); "
        "none of their events was taken before Redis was back"
    )
    times = f"{'p50 ms':>9}{'p99 ms':>9}{'(parts)':>16}{'longest ms':>12}"
    print(f"  {'Redis':<14}{'CPU us/req':>11}{times}  p99 times healthy")
    for row in found["rows"]:
        spread = f"({min(row['p99_ms_parts']):.2f}-{max(row['p99_ms_parts']):.2f})"
        times = "".join(_number(row[name], width, 3) for name, width in (("p50_ms", 9), ("p99_ms", 9)))
        print(
            f"  {row['redis']:<14}{row['cpu_us']:>11.1f}{times}{spread:>16}{row['longest_ms']:>12.1f}"
            + _against_healthy(row)
        )
    low, high = found["healthy_spread"]
    print(
        f"  noise: the healthy parts' p99 are {low:.2f} to {high:.2f} times their median; those before SYNs dropped "
        f"{found['healthy_times_healthy']:.2f} times those before silent"
    )


def _against_healthy(row: dict[str, Any]) -> str:
    if row["redis"] == "healthy":
        return ""
    verdict = "within the healthy parts' spread" if row["within_noise"] else "ABOVE the healthy parts' spread"
    return f"  {row['p99_times_healthy']:.2f}, {verdict}"


def _show_analytics(found: dict[str, Any]) -> None:
    print(
        f"\nanalytics were on: {found['sent']} requests through lectr, {found['rows']} rows, {found['events']} "
        f"distinct events, {found['metered']} with the provider's usage"
    )
    if found["cut_by_load"]:
        print(f"  {found['cut_by_load']} more were given up by the load generator and may have rows too")
    spent = ", ".join(f"{name} {us:.0f}" for name, us in found["cold_cpu_us"].items())
    print(f"  CPU us per request behind the gateway, the whole run through: {spent}")
