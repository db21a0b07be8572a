"""The file that declares the registry, kept beside the API where a setting names one."""

import asyncio
from typing import Final, Literal

from dashboard.api.registry_calls import RegistryCalls
from dashboard.declared.keeper import FileKeeper
from dashboard.registry import RegistryUnavailable

_AGAIN_S: Final = 1.0
State = Literal["kept", "waiting", "faulty"]


class RegistryFile:
    """Of one file. `run` is cancelled before the registry is closed."""

    def __init__(self, calls: RegistryCalls, path: str) -> None:
        self._calls = calls
        self._path = path
        self._keeper: FileKeeper | None = None

    @property
    def state(self) -> State:
        """kept: the registry is as the file says. waiting: not yet. faulty: the log says why it may not be."""
        keeper = self._keeper
        if keeper is not None and keeper.fault is not None:
            return "faulty"
        return "kept" if self.was_kept else "waiting"

    @property
    def was_kept(self) -> bool:
        """Whether it was, at some moment since the start, as the file said then."""
        return self._keeper is not None and self._keeper.kept

    async def run(self) -> None:
        """For ever. When it is cancelled, the change that is being made is made, and no other."""
        while self._keeper is None:
            try:
                registry = await self._calls.run(lambda opened: opened)
            except RegistryUnavailable:
                await asyncio.sleep(_AGAIN_S)
            else:
                self._keeper = FileKeeper(registry, self._path)
        await self._keeper.run()
