"""`make bench`: what a request costs through Lectr, analytics on, next to other gateways, side by side in one run."""

import argparse
import contextlib
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.bench import Bench
from tests.bench.control import measure_registry, measure_rules
from tests.bench.lineup import NAMES, Lineup, start_lineup
from tests.bench.loader import Loader, LoadFailed
from tests.bench.outages import measure_outages
from tests.bench.plain import measure_requests
from tests.bench.plan import ALONE, FULL, QUICK, SECTIONS, Plan
from tests.bench.processes import allow_many_files, choose_cores, cpu_ns, machine_use, on_core, rss_bytes, shares
from tests.bench.progress import clear, say
from tests.bench.streams import measure_events, measure_memory, measure_stalls

_FILES = 4096
"""Two sockets per stream, and some."""
_OTHER_FILES = 200


@dataclass(frozen=True)
class Choice:
    """What a person asked for."""

    plan: Plan
    sections: set[str]
    targets: set[str]
    pin: bool
    kind: str
    keep: bool


def main() -> None:
    """Measure and print; keep the figures with --keep."""
    choice = _arguments()
    plan = _within_limits(choice.plan)
    cores = choose_cores(pin=choice.pin)
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": report.machine(str(cores)),
        "plan": asdict(plan),
    }
    problem = ""
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        targets = {"direct"} if choice.sections <= ALONE else choice.targets
        lineup = parts.enter_context(start_lineup(folder, cores, targets))
        with on_core(cores.load):
            loader = parts.enter_context(Loader())
        results["versions"] = lineup.versions
        before = machine_use()
        try:
            _measure(Bench(plan, loader, lineup.targets, lineup.upstream.process.pid), lineup, choice.sections, results)
        except LoadFailed as failed:
            problem = f"STOPPED, an answer was wrong: {failed}"
        except AssertionError as broken:
            problem = f"STOPPED, a promise was broken: {broken}"
        results["machine"].update(shares(before, machine_use()))
        clear()
        say("stopping")
    clear()
    report.show(results)
    if problem:
        sys.exit(f"\nbench: {problem}")
    if choice.keep:
        print(f"\nkept in {report.keep(results, choice.kind).name}")


def _arguments() -> Choice:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and rougher, a minute or two")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, by comma: " + " ".join(SECTIONS))
    parser.add_argument("--targets", default="", help="targets, by comma; default: all that are installed")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int, help="plain requests per round and target")
    parser.add_argument("--no-pin", action="store_true", help="leave the choice of cores to the kernel")
    parser.add_argument("--keep", action="store_true", help=f"write the figures into {report.RESULTS.name}/")
    args = parser.parse_args()
    sections = set(args.only.split(","))
    if unknown := sections - set(SECTIONS):
        parser.error(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    wanted = set(filter(None, args.targets.split(",")))
    if unknown := {name for name in wanted if name not in {known.split()[0] for known in NAMES}}:
        parser.error(f"--targets: no {', '.join(sorted(unknown))}; there are {', '.join(n.split()[0] for n in NAMES)}")
    sizes = {name: value for name in ("rounds", "requests") if (value := getattr(args, name)) is not None}
    plan = replace(QUICK if args.quick else FULL, **sizes)
    return Choice(plan, sections, wanted, not args.no_pin, "quick" if args.quick else "bench", args.keep)


def _within_limits(plan: Plan) -> Plan:
    """The plan with as many streams as this user may open files for."""
    files = allow_many_files(_FILES)
    if files >= _FILES:
        return plan
    most = (files - _OTHER_FILES) // 2
    print(f"this user may open {files} files: at most {most} streams are tried (ulimit -Hn)", file=sys.stderr)
    levels = tuple(level for level in plan.levels if level <= most)
    return replace(plan, memory_streams=min(plan.memory_streams, most), levels=levels)


def _measure(bench: Bench, lineup: Lineup, sections: set[str], results: dict[str, Any]) -> None:
    installation = lineup.installation
    at_start = {target.name: rss_bytes(target.pid) for target in bench.targets if target.pid}
    cold = installation.cold_path if installation else {}
    cold_before_ns = {name: cpu_ns(pid) for name, pid in cold.items()}
    if "json" in sections:
        results["json"] = measure_requests(bench)
    if "sse" in sections:
        results["sse"] = measure_events(bench)
    if "memory" in sections:
        results["memory"] = measure_memory(bench, at_start)
    if "streams" in sections:
        results["streams"] = measure_stalls(bench)
    if "redis" in sections and installation:
        results["redis"] = measure_outages(bench, installation)
    if installation:
        say("counting rows")
        found: dict[str, Any] = installation.verify()
        spent = {name: cpu_ns(pid) - cold_before_ns[name] for name, pid in cold.items()}
        found["cold_cpu_us"] = {name: ns / 1000 / max(found["sent"], 1) for name, ns in spent.items()}
        results["analytics"] = found
    if "rules" in sections:
        results["rules"] = measure_rules(bench.plan)
    if "registry" in sections:
        results["registry"] = measure_registry()


if __name__ == "__main__":
    main()
