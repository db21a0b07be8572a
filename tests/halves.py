"""`python -m tests.halves`: all tests, as two pytest processes side by side; what most tests do is wait.

The second half holds most tests that bring installations of their own, and as many others as make it as long. Each half
ends with the search for leaks, over what it wrote itself. Exit code 0 only if both are green.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

LEAKS = "tests/test_leaks.py"
SECOND = (
    "tests/conformance",
    "tests/faults",
    "tests/model",
    "tests/test_local_stack.py",
)


def main() -> int:
    """Run both; the first one's output as it comes, the second one's when it has ended."""
    pytest = (sys.executable, "-m", "pytest")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "second"
        with log.open("wb") as output:
            second = subprocess.Popen((*pytest, *SECOND, LEAKS), stdout=output, stderr=output)
            first = subprocess.run((*pytest, *(f"--ignore={path}" for path in SECOND)), check=False)
            print(f"\nthe other half ({', '.join(SECOND)}) ...", flush=True)
            second.wait()
        print(log.read_text(encoding="utf-8", errors="replace"))
    codes = first.returncode, second.returncode
    print("both halves are green" if not any(codes) else f"NOT green: exit codes {codes}")
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
