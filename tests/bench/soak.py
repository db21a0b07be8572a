"""`python -m tests.bench.soak --minutes 60`: a steady mixed load through Lectr, and whether it grows.

Plain requests, streams, clients that leave in the middle, refusals and cut streams; every answer is checked, and at
the end every request must be one row. Memory, open files and tasks of gateway and ingestor are looked at all the time;
if one of them still grows in the second half, the exit code is 1.
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
from tests.parts import Gateway, Ingestor

_SAMPLE_EVERY_S = 10.0
_EVENTS = 100
_INTERVAL_MS = 20
_SAMPLES_AT_LEAST = 60
"""Also in a short run: half of them are judged."""
_MB = 1_000_000
_FILES = 4096
_ALLOWED_MEMORY = {"share": 0.03, "floor": 2.0}
"""In the second half. Of an hour, 2 MB are about 6 bytes a request: less than any object that could be forgotten."""
_ALLOWED_COUNT = {"share": 0.05, "floor": 3.0}


@dataclass
class Sampler:
    """Looks at gateway and ingestor now and then; `look` may be called as often as one likes."""

    installation: Installation
    seconds: float
    samples: list[dict[str, float]] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        elapsed_s = time.monotonic() - self.started_s
        every_s = min(_SAMPLE_EVERY_S, self.seconds / _SAMPLES_AT_LEAST)
        if elapsed_s < len(self.samples) * every_s:
            return
        sample = {"at_s": round(elapsed_s, 1), **self.now()}
        self.samples.append(sample)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in sample.items() if name != "at_s")
        say(f"{elapsed_s / 60:.1f} of {self.seconds / 60:.1f} min: {shown}")

    def now(self) -> dict[str, float]:
        """The figures of this moment."""
        sample: dict[str, float] = {}
        for part in (self.installation.gateway, self.installation.ingestor):
            pid = part.process.pid
            sample[f"{part.name}_rss_mb"] = rss_bytes(pid) / _MB
            sample[f"{part.name}_open_files"] = open_files(pid)
            sample[f"{part.name}_tasks"] = _tasks(part)
        return sample


def _tasks(part: Gateway | Ingestor) -> float:
    with urllib.request.urlopen(f"{part.ops_url}/metrics", timeout=10) as answer:
        found = re.search(rf"^lectr_{part.name}_tasks (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found, f"the {part.name} does not publish how many tasks it has"
    return float(found[1])


def main() -> None:
    """Soak and judge; exit code 1 when something grows, or when an answer or a row is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="the first half is warm-up; it takes some ten")
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
            say("counting rows")
            results.update(answered=figures.answered, rows=_verify(installation, figures.answered))
        except LoadFailed as failed:
            clear()
            sys.exit(f"soak: STOPPED, an answer was wrong: {failed}")
        except AssertionError as broken:
            clear()
            sys.exit(f"soak: STOPPED, a promise was broken: {broken}")
        results["at_rest"] = sampler.now()
        clear()
    results["samples"] = sampler.samples
    trends = _trends(sampler.samples)
    results["trends"] = [{**asdict(found), "verdict": found.verdict} for found in trends]
    _show(results, trends)
    if args.keep:
        print(f"\nkept in {report.keep(results, 'soak').name}")
    if growing := [found.name for found in trends if found.verdict == "growing"]:
        sys.exit(f"soak: growing: {', '.join(growing)}")


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
    at_s = [sample["at_s"] for sample in samples]
    found = []
    for name in [name for name in samples[0] if name != "at_s"]:
        allowed = _ALLOWED_MEMORY if name.endswith("_mb") else _ALLOWED_COUNT
        found.append(trend(name, at_s, [sample[name] for sample in samples], **allowed))
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
    minutes = results["minutes"] / 2
    print(
        f"\n{'':<22}{'median of half':>17}{'at':>8}{'slope':>10}{'growth in the':>16}\n"
        f"{'':<22}{'first':>8}{'second':>9}{'rest':>8}{'per hour':>10}{'second half':>16}{'allowed':>9}  verdict"
    )
    for found in trends:
        print(
            f"{found.name:<22}{found.first_half:>8.1f}{found.second_half:>9.1f}{results['at_rest'][found.name]:>8.1f}"
            f"{found.per_hour:>+10.2f}{found.growth:>+16.2f}{found.allowed:>+9.1f}  {found.verdict}"
        )
    per_request = trends[0].growth * _MB / (requests / 2)
    print(f"\ngateway memory: {per_request:+.1f} bytes per request of the second half")
    growing = [found.name for found in trends if found.verdict == "growing"]
    said = f"growing: {', '.join(growing)}" if growing else "flat: memory, open files and tasks of gateway and ingestor"
    print(f"verdict, over the last {minutes:g} minutes: {said}")


if __name__ == "__main__":
    main()
