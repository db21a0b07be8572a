"""`make bench`: what a request costs through the gateway, with analytics on, next to a bare aiohttp proxy.

Same mock provider, same load generator, alternating rounds in one run. The figure that is stable on a noisy machine is
CPU time of the process per request, read from /proc.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.lectr import chat, start_lectr
from tests.parts import Part, clean_environ, running, wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESULTS = Path(__file__).parent / "results"


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def load(url: str, headers: dict[str, str], body: bytes, *, requests: int, connections: int) -> list[float]:
    """Send the same request many times; the latencies in ms."""
    latencies: list[float] = []
    left = requests

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            started = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{url} answered {answer.status}")
            latencies.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session) for _ in range(connections)))
    return latencies


async def measure(name: str, pid: int, url: str, headers: dict[str, str], body: bytes, args: Any) -> dict[str, Any]:
    """One round against one target: CPU per request and latency quantiles."""
    before = cpu_s(pid)
    latencies = await load(url, headers, body, requests=args.requests, connections=args.connections)
    spent = cpu_s(pid) - before
    return {
        "target": name,
        "cpu_us": spent / len(latencies) * 1e6,
        "p50_ms": statistics.median(latencies),
        "p99_ms": statistics.quantiles(latencies, n=100)[98],
    }


async def rounds(targets: list[tuple[str, int, str, dict[str, str]]], args: Any) -> list[dict[str, Any]]:
    """Alternate between the targets, plain and streamed, and keep the medians."""
    found = []
    for kind in ("json", "stream"):
        body = json.dumps(chat(stream=kind == "stream")).encode()
        measured: dict[str, list[dict[str, Any]]] = {}
        for number in range(args.rounds + 1):
            for name, pid, url, headers in targets:
                print(f"\r{kind}: round {number}/{args.rounds} {name:<12}", end="", file=sys.stderr, flush=True)
                figures = await measure(name, pid, url, headers, body, args)
                if number:  # the first round warms up
                    measured.setdefault(name, []).append(figures)
        for name, runs in measured.items():
            medians = {k: round(statistics.median(run[k] for run in runs), 2) for k in ("cpu_us", "p50_ms", "p99_ms")}
            found.append({"kind": kind, "target": name, **medians})
    print(file=sys.stderr)
    return found


def main() -> None:
    """Measure and print; keep the figures with --keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="per round")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write the figures into tests/bench/results/")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, start_lectr(Path(folder)) as lectr:
        command = [sys.executable, "-m", "tests.bench.bare_proxy", f"{lectr.mock.url}/openai"]
        bare = Part("bare", command, clean_environ(), Path(folder) / "logs")
        with running(bare):
            head = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
            tagged = {**head, "X-Lectr-Key": lectr.key, "X-Lectr-Feature": "bench"}
            path = "/v1/chat/completions"
            targets = [
                ("mock alone", lectr.mock.process.pid, f"{lectr.mock.url}/openai{path}", head),
                ("bare aiohttp", bare.process.pid, bare.url_in("listening on") + path, head),
                ("lectr", lectr.gateway.process.pid, lectr.url + path, tagged),
            ]
            figures = asyncio.run(rounds(targets, args))
        sent = 2 * args.requests * (args.rounds + 1)
        count = "SELECT count() AS rows FROM lectr.requests WHERE feature = 'bench'"
        stored = wait_until(lambda: n if (n := lectr.select(count)[0]["rows"]) >= sent else 0, deadline_s=60)
    report(figures, args, stored)


def report(figures: list[dict[str, Any]], args: Any, stored: int) -> None:
    """The table, and the ratio to the yardstick."""
    print(f"{args.requests} requests a round, {args.connections} connections, medians of {args.rounds} rounds")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; CPU is the target's own\n"
    )
    print(f"{'':<8}{'target':<14}{'CPU us/request':>15}{'p50 ms':>9}{'p99 ms':>9}")
    for row in figures:
        print(f"{row['kind']:<8}{row['target']:<14}{row['cpu_us']:>15.0f}{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}")
    for kind in ("json", "stream"):
        by_name = {row["target"]: row["cpu_us"] for row in figures if row["kind"] == kind}
        print(f"\n{kind}: lectr / bare aiohttp = {by_name['lectr'] / by_name['bare aiohttp']:.2f} in CPU per request")
    print(f"\nrows stored while measuring: {stored}")
    if args.keep:
        RESULTS.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        kept = {"at": now.isoformat(timespec="seconds"), "cores": os.cpu_count(), "figures": figures}
        path = RESULTS / f"{now:%Y-%m-%d}-gateway.json"
        path.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"kept in {path.name}")


if __name__ == "__main__":
    main()
