"""`python -m tests.side_by_side`: all tests, as three pytest processes at once; what most tests do is wait.

The first one has what the two groups below leave, which hold most tests that bring installations of their own and take
about as long. Each ends with the search for leaks, over what it wrote itself. Exit code 0 only if all are green.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

LEAKS = "tests/test_leaks.py"
GROUPS = (
    (
        "tests/faults",
        "tests/model",
    ),
    (
        "tests/conformance",
        "tests/test_admin_api_process.py",
        "tests/test_clickhouse_cluster.py",
        "tests/test_clickhouse_door.py",
        "tests/test_clickhouse_door_process.py",
        "tests/test_control_plane.py",
        "tests/test_dashboard_cli.py",
        "tests/test_local_stack.py",
        "tests/test_redis_cluster.py",
        "tests/test_redis_sentinel.py",
        "tests/test_registry_outages.py",
        "tests/test_repair.py",
        "tests/test_rollup.py",
        "tests/test_schema_watch.py",
        "tests/test_startup.py",
        "tests/test_waited_for.py",
    ),
)


def main() -> int:
    """Run all; the first one's output as it comes, the others' when they have ended."""
    pytest = (sys.executable, "-m", "pytest")
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(len(GROUPS))]
        beside = []
        for group, log in zip(GROUPS, logs, strict=True):
            with log.open("wb") as output:
                beside.append(subprocess.Popen((*pytest, *group, LEAKS), stdout=output, stderr=output))
        others = [f"--ignore={path}" for group in GROUPS for path in group]
        codes = [subprocess.run((*pytest, *others), check=False).returncode]
        for group, log, process in zip(GROUPS, logs, beside, strict=True):
            print(f"\nbeside it: {', '.join(group)} ...", flush=True)
            codes.append(process.wait())
            print(log.read_text(encoding="utf-8", errors="replace"))
    print("all are green" if not any(codes) else f"NOT green: exit codes {codes}")
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
