"""Keeps the registry as a file declares it: at start, when the file changes, and when the registry does.

In: the registry, and the path of a file that somebody else writes, such as a mounted ConfigMap. What the file does not
declare is disabled. A faulty file changes nothing: what the last good one said goes on being kept, and the fault is
logged, counted and to be read here. Whatever a look meets, the next one comes.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dashboard.declared.apply import apply
from dashboard.declared.file import Stamp, declared_in, read_bytes, stamp_of
from dashboard.declared.plan import Change, plan
from dashboard.declared.records import Declared
from dashboard.registry import Registry, RegistryIncomplete, RegistryUnavailable
from shared import counters
from shared.logs import get_log
from shared.registry import RegistryFault

_TICK_S: Final = 1.0
_COMPARE_EVERY_S: Final = 60.0
_INCOMPLETE_S: Final = 10.0
"""So long the log may take to fill a Redis that lost its memory; then the file does."""
_MOST_LOGGED: Final = 20
_NO_STAMP: Final = Stamp(-1, -1, -1, -1)

_log = get_log("registry_file")


class _Ended(Exception):
    """The process is told to end."""


class FileKeeper:
    """Of one file. The registry stays its owner's to close, after `run` has ended."""

    def __init__(self, registry: Registry, path: str) -> None:
        self._path = path
        self._registry = registry.as_actor(f"file:{Path(path).name}")
        self._ended = threading.Event()
        self._seen: Stamp | None = _NO_STAMP
        self._taken: Stamp | None = _NO_STAMP
        self._digest = b""
        self._declared: Declared | None = None
        """What the last good content says."""
        self._read_due_s = 0.0
        self._keep_due_s = 0.0
        self._incomplete_since_s: float | None = None
        self._file_fault: str | None = None
        self._registry_fault: str | None = None
        self._kept = False

    @property
    def fault(self) -> str | None:
        """Why the registry may not be as the file says; a line for each reason. None if nothing is wrong."""
        return self._file_fault or self._registry_fault

    @property
    def kept(self) -> bool:
        """Whether the registry was, since the start, as the file said at that moment."""
        return self._kept

    async def run(self) -> None:
        """For ever. When it is cancelled, the change that is being made is made, and no other."""
        self._ended.clear()
        while True:
            looking = asyncio.get_running_loop().run_in_executor(None, self.look)
            try:
                await asyncio.shield(looking)
            except asyncio.CancelledError:
                self._ended.set()
                await asyncio.wait([looking])
                raise
            await asyncio.sleep(_TICK_S)

    def look(self) -> None:
        """Once, blocking. A faulty file or registry raises nothing."""
        stamp, now_s = stamp_of(self._path), time.monotonic()
        # A file that is just being written may read as a whole one with fewer organisations.
        settled, self._seen = stamp == self._seen, stamp
        if settled and (stamp != self._taken or now_s >= self._read_due_s):
            self._read_due_s = now_s + _COMPARE_EVERY_S
            if self._take(stamp):
                self._keep_due_s = now_s
        if self._declared is not None and now_s >= self._keep_due_s:
            self._keep(self._declared)

    def _take(self, stamp: Stamp | None) -> bool:
        """Whether there is something new, and good."""
        try:
            data = read_bytes(self._path)
            if stamp_of(self._path) != stamp:
                return False
            digest = hashlib.sha256(data).digest()
            new = digest != self._digest
            declared = declared_in(data, self._path) if new else None
            if declared is not None:
                # Against nothing: may it be pruned to, before it takes the place of what is known to be good?
                plan(declared.orgs, (), prune=True)
                self._declared, self._digest = declared, digest
                for warning in declared.warnings[:_MOST_LOGGED]:
                    _log.warning("registry_file_warning", detail=warning)
        except RegistryFault as fault:
            counters.registry_file_looks.labels("faulty").inc()
            counters.registry_file_faulty.set(1)
            if self._file_fault != str(fault):
                self._file_fault = str(fault)
                problems = str(fault).splitlines()[:_MOST_LOGGED]
                _log.error("registry_file_faulty", path=self._path, problems=problems, kept=self._declared is not None)
            new = False
        else:
            counters.registry_file_faulty.set(0)
            if self._file_fault is not None:
                _log.info("registry_file_good_again", path=self._path)
            self._file_fault = None
        self._taken = stamp
        return new

    def _keep(self, declared: Declared) -> None:
        try:
            made = self._apply(declared)
        except _Ended:
            pass
        except RegistryIncomplete as fault:
            if self._incomplete_since_s is None:
                self._incomplete_since_s = time.monotonic()
            self._not_kept("unavailable", fault)
        except RegistryUnavailable as fault:
            # At the next look. Whatever comes back then gets its time anew.
            self._incomplete_since_s = None
            self._not_kept("unavailable", fault)
        except RegistryFault as fault:
            self._keep_due_s = time.monotonic() + _COMPARE_EVERY_S
            self._not_kept("refused", fault)
        else:
            self._keep_due_s = time.monotonic() + _COMPARE_EVERY_S
            self._registry_fault, self._kept, self._incomplete_since_s = None, True, None
            counters.registry_file_looks.labels("changed" if made else "unchanged").inc()
            if made:
                _log.info("registry_file_applied", path=self._path, organisations=len(made), first=_told(made))

    def _apply(self, declared: Declared) -> list[Change]:
        since_s = self._incomplete_since_s
        if since_s is None or time.monotonic() - since_s < _INCOMPLETE_S:
            return apply(self._registry, declared.orgs, prune=True, progress=self._go_on)
        # Nobody fills it: what the file says is what should be there.
        made = apply(self._registry.as_it_is(), declared.orgs, prune=True, progress=self._go_on)
        self._registry.mark_whole()
        return made

    def _not_kept(self, outcome: str, fault: Exception) -> None:
        counters.registry_file_looks.labels(outcome).inc()
        if self._registry_fault != str(fault):
            self._registry_fault = str(fault)
            _log.error("registry_file_not_applied", path=self._path, outcome=outcome, detail=str(fault))

    def _go_on(self, _made: int, _all: int) -> None:
        if self._ended.is_set():
            raise _Ended


def _told(made: Sequence[Change]) -> list[str]:
    return [f"{change.org}: {change.action}" for change in made[:_MOST_LOGGED]]
