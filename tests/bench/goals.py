"""The goals, each with its figure of this run. A goal that is missed is printed, and nothing else happens. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_AT = 16
_MB = 1_000_000
_MANY_STREAMS = 1000


@dataclass(frozen=True)
class Goal:
    """A bound, and what was measured; None where the run had no such figure."""

    text: str
    bound: float
    figure: float | None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.figure is None:
            return "not measured"
        met = self.figure >= self.bound if self.at_least else self.figure <= self.bound
        return "met" if met else "MISSED"


def goals(results: dict[str, Any]) -> list[Goal]:
    """Every goal, from the results of a run."""
    return [
        *_requests(results.get("json", [])),
        *_streams(results),
        *_memory(results.get("memory", [])),
        *_outages(results.get("redis", {}).get("rows", [])),
        *_control(results),
    ]


def _requests(rows: list[dict[str, Any]]) -> Iterator[Goal]:
    def figure(target: str, name: str, connections: int) -> float | None:
        found = (r[name] for r in rows if r["target"] == target and r["connections"] == connections)
        return next(found, None)

    own = figure("lectr", "cpu_us", _AT)

    def against(target: str) -> tuple[float | None, float | None]:
        """Ours over theirs, and theirs over ours."""
        theirs = figure(target, "cpu_us", _AT)
        return (own / theirs, theirs / own) if own and theirs else (None, None)

    yield Goal("CPU us per request, 16 connections: at most 100", 100, own)
    yield Goal("... times a bare aiohttp proxy's: at most 0.55", 0.55, against("bare aiohttp")[0])
    yield Goal("... times nginx's: at most 4.5", 4.5, against("nginx")[0])
    yield Goal("... times fewer than LiteLLM's: at least 80", 80, against("litellm")[1], at_least=True)
    yield Goal("... times fewer than Portkey's: at least 12", 12, against("portkey")[1], at_least=True)
    yield Goal("added latency, 1 connection, p50 ms: at most 0.35", 0.35, figure("lectr", "added_p50_ms", 1))
    yield Goal("added latency, 1 connection, p99 ms: at most 1", 1, figure("lectr", "added_p99_ms", 1))


def _streams(results: dict[str, Any]) -> Iterator[Goal]:
    events = {row["target"]: row["cpu_us_per_event"] for row in results.get("sse", [])}
    ratio = events["lectr"] / events["nginx"] if {"lectr", "nginx"} <= events.keys() else None
    yield Goal("CPU per relayed SSE event, times nginx's: at most 1.5", 1.5, ratio)
    free = {row["target"]: row["stall_free"] for row in results.get("streams", {}).get("targets", [])}
    yield Goal("stall-free streams of 50 events/s on one core: at least 400", 400, free.get("lectr"), at_least=True)


def _memory(rows: list[dict[str, Any]]) -> Iterator[Goal]:
    row = next((row for row in rows if row["target"] == "lectr"), None)
    rest = max(row["at_start"], row["before"]) / _MB if row else None
    busy = row["with_streams"] / _MB if row and row["streams"] >= _MANY_STREAMS else None
    yield Goal("resident memory at rest, before and after the load, MB: at most 70", 70, rest)
    yield Goal("resident memory with 1,000 open streams, MB: at most 150", 150, busy)


def _outages(rows: list[dict[str, Any]]) -> Iterator[Goal]:
    times = {row["redis"]: row["p99_times_healthy"] for row in rows}
    yield Goal("p99 with Redis silent, times healthy: at most 1.25", 1.25, times.get("silent"))
    yield Goal("p99 with Redis dropping SYNs, times healthy: at most 1.25", 1.25, times.get("SYNs dropped"))


def _control(results: dict[str, Any]) -> Iterator[Goal]:
    yield Goal(
        "CPU us per request, 10,000 rules over one, none applies: at most 5",
        5,
        results.get("rules", {}).get("many_over_one_us"),
    )
    compared = {row["orgs"]: row["comparisons"] for row in results.get("registry", {}).get("lookups", [])}
    ratio = compared[max(compared)] / compared[min(compared)] if compared else None
    yield Goal("comparisons per key, 100,000 organisations over 1,000: at most 1", 1, ratio)
