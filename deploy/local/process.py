"""One child process of the laptop stack: its log goes to a file, it is awaited by what it prints."""

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_TAIL_BYTES: Final = 2_000
KILL_AFTER_S: Final = 20.0


_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the stack dies without stopping its parts (prctl(2); runs in the child)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class ChildFailed(Exception):
    """A part of the stack did not start or ended by itself; the text holds the end of its log."""


class Child:
    """A running child process. Its stdout and stderr go to `log`, which starts empty."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, patience_s: float) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._patience_s = patience_s

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        *,
        patience_s: float = KILL_AFTER_S,
        held: Sequence[int] = (),
    ) -> "Child":
        """Start a command in a session of its own, so that Ctrl-C reaches only the stack, which stops it in order.

        `held`: file descriptors that the child keeps open, so that a lock on them lasts as long as it runs.
        """
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=held,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        return cls(name, process, log, patience_s)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def line_with(self, marker: str, timeout_s: float) -> str:
        """Wait for a line of output that contains the marker. Raises ChildFailed if it ends first or takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    ended = self.process.returncode is not None
                    for line in self._output().splitlines():
                        if marker in line:
                            return line
                    if ended:
                        raise self.failure(f"ended with exit code {self.process.returncode}")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.process.wait(), 0.05)
        except TimeoutError:
            raise self.failure(f"did not serve within {timeout_s:.0f} s") from None

    async def succeed(self, timeout_s: float) -> None:
        """Wait for it to end well. Raises ChildFailed otherwise."""
        try:
            await asyncio.wait_for(self.process.wait(), timeout_s)
        except TimeoutError:
            raise self.failure(f"did not finish within {timeout_s:.0f} s") from None
        if self.process.returncode:
            raise self.failure(f"ended with exit code {self.process.returncode}")

    def failure(self, what: str) -> ChildFailed:
        """Say what happened, with the end of the log."""
        return ChildFailed(f"{self.name} {what}\n{self._output()[-_TAIL_BYTES:].strip() or '(it printed nothing)'}")

    async def stop(self) -> None:
        """SIGTERM, patience, then SIGKILL."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), self._patience_s)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def _output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")
