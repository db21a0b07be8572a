"""Reads the files that provider keys are in, beside everything else: a disk may hang, and the registry may not.

In: references. Out: what was found, for gateway/credentials.py. Files are read again with every poll, so that a key
which was replaced on disk needs no restart. Whoever needs a new one waits half a second at most; what is late is taken
when it comes. A file that does not answer costs the thread that waits for it, and the other files of its folder are
left alone meanwhile; everything else goes on in another thread.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from gateway.credentials import Credentials, is_file, read
from shared.organisation import Org

_PATIENCE_S: Final = 0.5
_MOST_THREADS: Final = 16
"""Threads that wait for a disk cannot be ended: so many folders may hang before no other file is read either."""


class _Look:
    """Files that are being read."""

    def __init__(self, references: Iterable[str]) -> None:
        self.left = deque(references)
        self.at: set[str] = set()
        """What threads are at."""
        self.read = 0
        self.ended = asyncio.Event()


class CredentialReader:
    """Of one Credentials."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._threads: list[threading.Thread] = []
        self._stuck: set[str] = set()
        """What threads have been at for too long."""
        self._changing = threading.Lock()
        """What is stuck and what is late change with it: or what has just answered would be late for ever."""
        self._due = asyncio.Event()
        self._new: set[asyncio.Task[None]] = set()
        self._again: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read again whenever it is time to, until closed."""
        self._again = asyncio.create_task(self._run(), name="credentials")

    async def close(self) -> None:
        """Stop. Threads that wait for a disk are left behind, and hold up no exit."""
        tasks = [*self._new, *filter(None, [self._again])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look_again(self) -> None:
        """It is time to find everything anew."""
        self._due.set()

    async def look_up(self, orgs: Iterable[Org]) -> None:
        """Find what these refer to and was not looked for yet; goes on without waiting where that takes its time."""
        new = self._credentials.new_in(orgs)
        files = {reference for reference in new if is_file(reference)}
        for reference in new - files:
            self._credentials.take(reference, read(reference))
        if files:
            # A start with many waits once, not once for some hundred organisations.
            patience_s = 0 if self._new else _PATIENCE_S
            task = asyncio.create_task(self._look(files), name="new credentials")
            self._new.add(task)
            task.add_done_callback(self._new.discard)
            await asyncio.wait({task}, timeout=patience_s)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self._look(self._credentials.files())

    async def _look(self, references: Iterable[str]) -> None:
        """Read all of these that can be read."""
        look = _Look(references)
        while self._leave_out(look) and self._begin(look):
            await self._is_over_or_stuck(look)
        for reference in look.left.copy():
            self._credentials.late(reference)

    def _leave_out(self, look: _Look) -> int:
        """Nothing of folders in which a file does not answer; how many are left."""
        with self._changing:
            folders = {_folder_of(reference) for reference in self._stuck}
            if folders:
                everything, look.left = look.left.copy(), deque()
                for reference in everything:
                    if _folder_of(reference) not in folders:
                        look.left.append(reference)
                    elif reference not in self._stuck:
                        self._credentials.late(reference)
        return len(look.left)

    def _begin(self, look: _Look) -> bool:
        """Start a thread; whether one could be."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= _MOST_THREADS:
            return False
        # Not one of an executor, which the end of the process would wait for.
        thread = threading.Thread(target=self._read, args=(look, asyncio.get_running_loop()), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more of them
            return False
        self._threads.append(thread)
        return True

    async def _is_over_or_stuck(self, look: _Look) -> None:
        """Wait until all is read, or nothing more is."""
        while True:
            before = look.read
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await look.ended.wait()
                return
            with self._changing:
                if look.read == before:
                    for reference in look.at - self._stuck:
                        self._credentials.late(reference)
                    self._stuck |= look.at
                    return

    def _read(self, look: _Look, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: one file after the other."""
        while True:
            with self._changing:
                if not look.left:
                    break
                reference = look.left.popleft()
                look.at.add(reference)
            found = read(reference)
            with self._changing:
                self._credentials.take(reference, found)
                look.at.discard(reference)
                look.read += 1
                was_stuck = reference in self._stuck
                self._stuck.discard(reference)
            if was_stuck:
                # Its folder answers again.
                _tell(loop, self.look_again)
        _tell(loop, look.ended.set)


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the process ends
        loop.call_soon_threadsafe(act)


def _folder_of(reference: str) -> str:
    return reference.rpartition("/")[0]
