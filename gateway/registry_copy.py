"""Keeps the copy of the registry on disk as new as the directory, beside everything else.

In: records that were taken, which apply already. Out: lines of the file. A disk that is slow or full holds up no
change: what is not written yet waits here, the latest record of each organisation, and is tried again.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from gateway.directory import Directory
from gateway.snapshot import Snapshot
from shared.logs import get_log
from shared.organisation import Org

_AGAIN_S: Final = 5.0


class RegistryCopy:
    """The copy of one directory."""

    def __init__(self, snapshot: Snapshot, directory: Directory) -> None:
        self._snapshot = snapshot
        self._directory = directory
        self._waiting: dict[str, Org] = {}
        self._due = asyncio.Event()
        self._failing = self._ending = False
        self._writing: asyncio.Task[None] | None = None
        self._log = get_log("registry")

    def start(self) -> None:
        """Write whatever is added, until closed."""
        self._writing = asyncio.create_task(self._run(), name="registry copy")

    def add(self, orgs: Iterable[Org]) -> None:
        """These were taken."""
        self._waiting.update((org.org, org) for org in orgs)
        self._due.set()

    async def close(self) -> None:
        """Write what is left, and stop."""
        self._ending = True
        self._due.set()
        if self._writing is not None:
            await self._writing

    async def _run(self) -> None:
        while not self._ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if self._waiting else None):
                    await self._due.wait()
            self._due.clear()
            await self._write()

    async def _write(self) -> None:
        orgs, self._waiting = self._waiting, {}
        if not orgs:
            return
        try:
            await asyncio.to_thread(self._snapshot.append, orgs.values())
            if self._snapshot.outdated:
                await asyncio.to_thread(self._snapshot.rewrite, self._directory.all())
        except OSError as error:
            self._waiting = orgs | self._waiting
            if not self._failing:
                self._log.error("registry_copy_not_written", reason=error.strerror, fix="LECTR_STATE_DIR")
            self._failing = True
        else:
            if self._failing:
                self._log.info("registry_copy_written")
            self._failing = False
