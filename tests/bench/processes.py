"""Processes as the kernel accounts for them: CPU time, memory, open files, and which core they may use."""

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SCHEDULER_CLOCK: Final = 2
_BACKGROUND: Final = 15
"""Niceness of the cold path where it shares a core with the load generator."""


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_ns(pid: int) -> int:
    """User and system time of the process and its descendants."""
    return sum(_own_cpu_ns(member) for member in tree(pid))


def _own_cpu_ns(pid: int) -> int:
    # The clock holds what /proc/PID/stat shows as utime + stime, in ns instead of ticks of 10 ms.
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns(~pid << 3 | _SCHEDULER_CLOCK)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // _TICKS_PER_S


def machine_use() -> dict[str, float]:
    """Since its start, in seconds of one core: what processes took, what the host kept, all there was, what is ours."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, idle, waiting, interrupts, soft_interrupts, stolen = (value / _TICKS_PER_S for value in fields)
    busy = user + nice + system + interrupts + soft_interrupts
    return {
        "busy": busy,
        "stolen": stolen,
        "all": busy + idle + waiting + stolen,
        "ours": cpu_ns(os.getpid()) / 1e9,
    }


def shares(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Of the machine's time in between: what went to processes that are not ours, and to other machines."""
    spent = {name: after[name] - before[name] for name in after}
    others = max(spent["busy"] - spent["ours"], 0.0)
    return {"others": others / spent["all"], "stolen": spent["stolen"] / spent["all"]}


def rss_bytes(pid: int) -> int:
    """Resident memory of the process and its descendants."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def open_files(pid: int) -> int:
    """Open file descriptors of the process alone."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def allow_many_files(wanted: int) -> int:
    """Raise this process' and its children's limit of open files; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else soft


def to_background(pid: int) -> None:
    """Let the process run when nothing else wants its core, with all its threads."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), _BACKGROUND)


@dataclass(frozen=True)
class Cores:
    """Which core each kind of process runs on; None leaves it to the kernel."""

    gateway: int | None = None
    load: int | None = None
    cold: int | None = None

    @property
    def cold_shares(self) -> bool:
        """Whether Redis, ingestor and ClickHouse would take time from the load generator."""
        return self.load is not None and self.cold == self.load

    def __str__(self) -> str:
        if self.gateway is None:
            return "not pinned"
        cold = "the same core, in the background" if self.cold_shares else f"core {self.cold}"
        return f"gateway on core {self.gateway}; load and upstream on core {self.load}; Redis to ClickHouse on {cold}"


def choose_cores(*, pin: bool) -> Cores:
    """The gateway under test gets a core of its own; what is behind Redis too, if there is a third."""
    cores = sorted(os.sched_getaffinity(0))
    if not pin or len(cores) < 2:
        return Cores()
    return Cores(gateway=cores[0], load=cores[1], cold=cores[min(2, len(cores) - 1)])


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes started inside stay on this core, and so do all their threads and children."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
