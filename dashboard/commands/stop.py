"""SIGINT and SIGTERM for a command that makes many changes: it ends between two of them, and says how far it came."""

import signal
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Of the main thread."""

    def __init__(self) -> None:
        self.told = False
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def listen(self) -> None:
        """From now on signals are remembered, and do nothing else."""
        for number in _SIGNALS:
            signal.signal(number, self._hear)

    def forget(self) -> None:
        """They do again what they did: a person who is being asked is not kept waiting."""
        for number, handler in self._before.items():
            # None is a handler that Python did not set, and cannot.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.told = True
