"""`python -m tests.bench.ingest --events 1000000`: what an event costs its gateway, and on its way into ClickHouse.

Real Redis, the real engine behind its door, a real ingestor. The stream is filled by the gateway's own script while
the lease of its partition is held here, so the ingestor is up and idle when it begins. CPU is that of the processes,
user and system, which other load on the machine changes little; wall time is what it is. Every event must be one row,
or the run ends with an error. Several runs in a row: --repeat.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tests.bench.gateway_events import GatewayFigures, measure_gateway
from tests.bench.ingest_events import traffic
from tests.bench.processes import cpu_ns
from tests.bench.progress import clear, say
from tests.ingestor_process import OwnStores, Pusher, readiness, serving, stores
from tests.parts import Ingestor, wait_until

FRAME_EVENTS: Final = 500
_GATEWAYS: Final = 4
_LEASE_MS: Final = 2_000
_LOOK_EVERY_S: Final = 0.2
_DEADLINE_S: Final = 1_800.0
_HOLDER: Final = "bench"
_HOLD_MS: Final = 3_600_000
_QUIET_DEADLINE_S: Final = 300.0


@dataclass(frozen=True)
class Figures:
    """Of one run; microseconds of CPU per event but for the last three."""

    ingestor_us: float
    engine_us: float
    merges_us: float
    """What the engine did after the last insert, until it was quiet."""
    redis_us: float
    redis_bytes: float
    """Memory that an event takes while it waits."""
    wall_s: float
    events: int

    @property
    def per_core(self) -> float:
        """Events per second that one core of ingestor brings into ClickHouse."""
        return 1e6 / self.ingestor_us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--frame-events", type=int, default=FRAME_EVENTS, help="events in a frame")
    parser.add_argument("--batch-events", type=int, default=100_000, help="LECTR_BATCH_MAX_EVENTS of the ingestor")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--linger-s", type=float, default=0.0, help="wait before it begins, to attach a profiler")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gateway = measure_gateway(Path(folder), args.events)
    found = []
    for number in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as made:
            found.append(_measure(made, args, f"run {number + 1} of {args.repeat}"))
    clear()
    _show_gateway(gateway)
    _show(found)


def _measure(made: OwnStores, args: argparse.Namespace, run: str) -> Figures:
    made.pusher.client.set(made.pusher.partition.lease, _HOLDER, px=_HOLD_MS)
    before_bytes = _memory(made)
    sent = 0
    for count in _fill(made.pusher, args.events, args.frame_events):
        sent += count
        say(f"{run}: {sent:,} of {args.events:,} events in the stream")
    queued_bytes = (_memory(made) - before_bytes) / sent
    say(f"{run}: waiting for Redis to write its file anew, which a filling stream makes it do")
    wait_until(lambda: not _rewriting(made), deadline_s=_QUIET_DEADLINE_S, every_s=0.5)
    settings = {
        "LECTR_LEASE_MS": str(_LEASE_MS),
        "LECTR_BATCH_MAX_AGE_MS": "1000",
        "LECTR_BATCH_MAX_EVENTS": str(args.batch_events),
    }
    with serving(made.ingestor("measured", **settings)) as ingestor:
        wait_until(lambda: readiness(ingestor)[1]["partitions"] == {"0": "standby"})
        if args.linger_s:
            say(f"{run}: ingestor is process {ingestor.process.pid}")
            time.sleep(args.linger_s)  # noqa: TID251 - for a person at another terminal
        before, started_s = _cpu(made, ingestor), time.monotonic()
        made.pusher.client.delete(made.pusher.partition.lease)
        _watch(made, sent, args.frame_events, run)
        wall_s, after = time.monotonic() - started_s, _cpu(made, ingestor)
    rows, distinct = made.figures()
    if not rows == distinct == sent:
        clear()
        sys.exit(f"ingest: STOPPED, {sent} events became {rows} rows, {distinct} distinct")
    say(f"{run}: waiting for the engine's merges")
    counted = cpu_ns(made.clickhouse.process.pid)
    wait_until(lambda: not _merging(made), deadline_s=_QUIET_DEADLINE_S, every_s=0.5)
    merges_us = (cpu_ns(made.clickhouse.process.pid) - counted) / 1_000 / sent
    per_event = {name: (after[name] - before[name]) / 1_000 / sent for name in after}
    return Figures(
        per_event["ingestor"], per_event["engine"], merges_us, per_event["redis"], queued_bytes, wall_s, sent
    )


def _fill(pusher: Pusher, events: int, frame_events: int) -> Iterator[int]:
    """Push the events of several gateways in turns; yields how many went into the stream."""
    for gateway in range(_GATEWAYS):
        share = events // _GATEWAYS + (gateway < events % _GATEWAYS)
        made = traffic(share, seed=gateway)
        while part := list(islice(made, 20 * frame_events)):
            pusher.push(1_000 + gateway, part, frame_events=frame_events)
            yield len(part)


def _watch(made: OwnStores, events: int, frame_events: int, run: str) -> None:
    def look() -> bool:
        waiting = made.pusher.waiting() * frame_events
        say(f"{run}: about {max(events - waiting, 0):,} of {events:,} events stored")
        return waiting == 0

    wait_until(look, deadline_s=_DEADLINE_S, every_s=_LOOK_EVERY_S)


def _cpu(made: OwnStores, ingestor: Ingestor) -> dict[str, int]:
    parts = {"ingestor": ingestor, "engine": made.clickhouse, "redis": made.redis}
    return {name: cpu_ns(part.process.pid) for name, part in parts.items()}


def _memory(made: OwnStores) -> int:
    info: Any = made.pusher.client.info("memory")
    return int(info["used_memory"])


def _rewriting(made: OwnStores) -> bool:
    info: Any = made.pusher.client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _merging(made: OwnStores) -> int:
    return int(made.select("SELECT count() AS n FROM system.merges")[0]["n"])


def _show_gateway(found: GatewayFigures) -> None:
    print("gateway, CPU microseconds per event: ", end="")
    print(f"made {found.encode_us:.2f} + journaled {found.journal_us:.2f} + shipped {found.ship_us:.2f}", end="")
    print(f" = {found.all_us:.2f}\n")


def _show(found: list[Figures]) -> None:
    print(f"{'':<10}{'CPU, microseconds per event':>46}{'Redis bytes':>13}{'wall':>8}{'events per s and':>19}")
    print(
        f"{'events':<10}{'ingestor':>10}{'engine':>9}{'merges after':>14}{'redis':>13}"
        f"{'per event':>13}{'s':>8}{'ingestor core':>19}"
    )
    for run in found:
        print(
            f"{run.events:<10}{run.ingestor_us:>10.2f}{run.engine_us:>9.2f}{run.merges_us:>14.2f}{run.redis_us:>13.2f}"
            f"{run.redis_bytes:>13.0f}{run.wall_s:>8.1f}{run.per_core:>19,.0f}"
        )


if __name__ == "__main__":
    main()
