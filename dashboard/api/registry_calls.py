"""The registry for a server: its client blocks, so what asks it runs in threads; and whether Redis answers at all.

In: a function of the registry. Out: what it returns, or raises. Of a Redis Cluster that is away the client cannot even
be made: that is tried again at each call.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from dashboard.clickhouse import ClickHouse
from dashboard.registry import Registry, RegistryUnavailable
from shared.environment import SecretUrl

T = TypeVar("T")
_THREADS: Final = 8
_CHECK_TIMEOUT_S: Final = 3.0
_CHECK_KEPT_S: Final = 1.0
"""So long a look at Redis is told again: whoever asks often has Redis asked no oftener."""


class RegistryCalls:
    """Threads with one registry. `close` when nothing asks any more."""

    def __init__(self, redis_url: SecretUrl, *, actor: str, clickhouse: ClickHouse | None = None) -> None:
        self._redis_url = redis_url
        self._actor = actor
        self._clickhouse = clickhouse
        self._registry: Registry | None = None
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry")
        self._check: asyncio.Future[None] | None = None
        self._checked_s = 0.0

    async def run(self, work: Callable[[Registry], T]) -> T:
        """Call it with the registry, in a thread. Raises RegistryUnavailable, SettingsFault, and what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(self.open()))

    def open(self) -> Registry:
        """The registry, for threads. Raises RegistryUnavailable; SettingsFault of a URL that cannot be used."""
        with self._opening:
            if self._registry is None:
                self._registry = Registry(self._redis_url, actor=self._actor, clickhouse=self._clickhouse)
            return self._registry

    async def check(self) -> None:
        """Whether Redis answers, and answers soon. Raises RegistryUnavailable."""
        loop = asyncio.get_running_loop()
        if self._check is None or (self._check.done() and loop.time() - self._checked_s > _CHECK_KEPT_S):
            self._check = loop.run_in_executor(self._threads, lambda: self.open().check())
            self._check.add_done_callback(self._checked)
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                # Several may wait for one look, and it goes on without them.
                await asyncio.shield(self._check)
        except TimeoutError:
            raise RegistryUnavailable("Redis does not answer in time") from None

    async def close(self) -> None:
        """Give the threads and connections back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._registry is not None:
            self._registry.close()

    def _checked(self, check: asyncio.Future[None]) -> None:
        self._checked_s = asyncio.get_running_loop().time()
        if not check.cancelled():
            # Looked at here, as those who waited may have gone.
            check.exception()
