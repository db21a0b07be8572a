"""`python -m tests.bench.soak --minutes 60`: a steady mixed load through Lectr, and whether it grows.

Plain requests, streams, clients that leave in the middle, refusals and cut streams; every answer is checked, and at
the end every request must be one row.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.installation import FEATURE, Installation, start_installation
from tests.bench.loader import Loader, LoadFailed
from tests.bench.orders import SoakOrder
from tests.bench.payloads import json_request, stream_request
from tests.bench.processes import allow_many_files, choose_cores, on_core, open_files, rss_bytes
from tests.bench.progress import clear, say
from tests.bench.targets import Target, start_upstream
from tests.bench.trend import Trend, trend

_SAMPLE_EVERY_S = 10.0
_EVENTS = 100
_INTERVAL_MS = 20
_WARM_UP_SHARE = 0.1
_WARM_UP_AT_MOST_S = 60.0
_MB = 1_000_000
_FILES = 4096
_TASKS = re.compile(r"^\w*tasks\w*(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


@dataclass
class Sampler:
    """Looks at the gateway now and then; `look` may be called as often as one likes."""

    installation: Installation
    seconds: float
    samples: list[dict[str, float]] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        elapsed_s = time.monotonic() - self.started_s
        warm_up_s = min(self.seconds * _WARM_UP_SHARE, _WARM_UP_AT_MOST_S)
        every_s = min(_SAMPLE_EVERY_S, self.seconds / 20)
        if elapsed_s < warm_up_s + len(self.samples) * every_s:
            return
        sample = {"at_s": round(elapsed_s, 1), **self.now()}
        self.samples.append(sample)
        shown = f"gateway {sample['gateway_rss_mb']:.1f} MB, {sample['gateway_open_files']:.0f} open files"
        say(f"{elapsed_s / 60:.1f} of {self.seconds / 60:.1f} min: {shown}")

    def now(self) -> dict[str, float]:
        """The figures of this moment."""
        gateway = self.installation.gateway
        sample: dict[str, float] = {
            "gateway_rss_mb": rss_bytes(gateway.process.pid) / _MB,
            "gateway_open_files": open_files(gateway.process.pid),
            "ingestor_rss_mb": rss_bytes(self.installation.ingestor.process.pid) / _MB,
        }
        with urllib.request.urlopen(f"{gateway.ops_url}/metrics", timeout=10) as answer:
            tasks = _TASKS.search(answer.read().decode())
        return {**sample, "gateway_tasks": float(tasks[1])} if tasks else sample


def main() -> None:
    """Soak and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of cores to the kernel")
    parser.add_argument("--keep", action="store_true", help=f"write the figures into {report.RESULTS.name}/")
    args = parser.parse_args()
    allow_many_files(_FILES)
    cores = choose_cores(pin=not args.no_pin)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "minutes": args.minutes,
        "machine": report.machine(str(cores)),
    }
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        say("starting")
        upstream = parts.enter_context(start_upstream(folder, cores)).url_in("listening on")
        installation = parts.enter_context(start_installation(folder / "lectr", cores, upstream))
        with on_core(cores.load):
            loader = parts.enter_context(Loader())
        sampler = Sampler(installation, args.minutes * 60)
        try:
            figures = loader.soak(_order(installation, args.minutes * 60), sampler.look)
        except LoadFailed as failed:
            clear()
            sys.exit(f"soak: STOPPED, an answer was wrong: {failed}")
        say("counting rows")
        results.update(answered=figures.answered, rows=_verify(installation, figures.answered), at_rest=sampler.now())
        clear()
    results["samples"] = sampler.samples
    trends = _trends(sampler.samples)
    results["trends"] = [{**asdict(found), "verdict": found.verdict} for found in trends]
    _show(results, trends)
    if args.keep:
        print(f"\nkept in {report.keep(results, 'soak').name}")


def _order(installation: Installation, seconds: float) -> SoakOrder:
    gateway = installation.gateway
    fields = {"X-Lectr-Key": installation.key, "X-Lectr-Feature": FEATURE}
    target = Target("lectr", gateway.url, gateway.process.pid, fields=fields)
    paced = stream_request(_EVENTS, _INTERVAL_MS)
    host, port = target.address
    return SoakOrder(
        host=host,
        port=port,
        seconds=seconds,
        plain=target.request(json_request()),
        stream=target.request(paced),
        refused=target.request(json_request("status-500")),
        cut=target.request(paced.replace(b'"pace-', b'"cut-')),
        events=_EVENTS,
    )


def _verify(installation: Installation, answered: dict[str, int]) -> dict[str, int]:
    """AssertionError unless each request is one row, and those read to the end have the provider's usage."""
    installation.sent = sum(answered.values())
    installation.settle()
    counts = installation.counts()
    assert counts["rows"] == counts["events"] == installation.sent, (counts, answered)
    assert counts["metered"] >= answered["plain"] + answered["stream"], (counts, answered)
    return counts


def _trends(samples: list[dict[str, float]]) -> list[Trend]:
    found = []
    for name in [name for name in samples[0] if name != "at_s"]:
        share, floor = (0.05, 3.0) if name.endswith("_mb") else (0.1, 5.0)
        found.append(trend(name, [sample[name] for sample in samples], share=share, floor=floor))
    return found


def _show(results: dict[str, Any], trends: list[Trend]) -> None:
    where = results["machine"]
    print(f"{where['cpu']}, {where['cores']} cores, Python {where['python']}; {where['pinning']}")
    requests = sum(results["answered"].values())
    kinds = ", ".join(f"{name} {count}" for name, count in results["answered"].items())
    print(
        f"{results['minutes']:g} minutes, {requests} requests ({kinds}), "
        f"each of them one of {results['rows']['rows']} rows"
    )
    print(f"\n{'medians':<22}{'first quarter':>14}{'last quarter':>14}{'at rest':>10}{'allowed':>10}  verdict")
    for found in trends:
        print(
            f"{found.name:<22}{found.first:>14.1f}{found.last:>14.1f}{results['at_rest'][found.name]:>10.1f}"
            f"{'+' + format(found.allowed, '.1f'):>10}  {found.verdict}"
        )
    # Between the middles of the two quarters lie three quarters of the load.
    per_request = (trends[0].last - trends[0].first) * _MB / (requests * 0.75)
    print(f"\ngateway memory: {per_request:+.0f} bytes per request between the two")
    growing = [found.name for found in trends if found.verdict == "growing"]
    print(f"verdict: {'growing: ' + ', '.join(growing) if growing else 'flat'}")


if __name__ == "__main__":
    main()
