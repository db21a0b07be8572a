"""Keeps the directory of organisations current: read from Redis at start, pushed on change, polled for missed pushes.

A poll reads what has a higher version than the last one saw; all of it, some hundred records at a time, when Redis lost
its memory or is another one. What was taken is kept on disk: a start with Redis down serves from there.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

from gateway.budgets import Budgets
from gateway.credentials import Credentials
from gateway.directory import Directory
from gateway.snapshot import Snapshot
from gateway.spending import Spending
from shared import counters
from shared.environment import SecretUrl, SettingsFault
from shared.logs import get_log
from shared.organisation import Org
from shared.redis_client import Subscription, close_redis, open_redis, subscribe_near
from shared.registry import (
    CHANGES_CHANNEL,
    COMPLETE_KEY,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    RegistryFault,
    decode_org,
)
from shared.tasks import cancelled

_SOCKET_TIMEOUT_S: Final = 5.0
_RECONNECT_S: Final = 0.5
_RECORDS_PER_READ: Final = 200
"""Decoded in one go: the longest that a large registry holds up requests."""
_MOST_CHANGED: Final = 5_000
"""More changed records than these are not asked for one by one."""


_START_IT: Final = "start Redis there, or point LECTR_REDIS_URL at the right one; retrying"
_CURES: Final = {
    "AuthenticationError": "put the right password into LECTR_REDIS_URL, redis://:PASSWORD@HOST/0; retrying",
    "NoPermissionError": "give the user of LECTR_REDIS_URL the rights on keys and channels lectr:*; retrying",
}


class Registry:
    """Keeps a Directory current from Redis until closed. Raises SettingsFault for a URL that redis-py cannot use."""

    def __init__(self, redis_url: SecretUrl, *, poll_s: float, snapshot: Snapshot, credentials: Credentials) -> None:
        self.directory = Directory()
        self.loaded = asyncio.Event()
        """Set once the registry was read, from Redis or from the copy on disk."""
        self.redis_failing = False
        self._poll_s = poll_s
        self._snapshot = snapshot
        self._credentials = credentials
        self._seen: tuple[str, int] | None = None
        """Generation and version of what was read last."""
        self._shown_url = str(redis_url)
        self._redis = open_redis(redis_url, connect_timeout_s=_SOCKET_TIMEOUT_S, reply_timeout_s=_SOCKET_TIMEOUT_S)
        self._following: asyncio.Task[None] | None = None
        self._log = get_log("registry")

    async def start(self) -> None:
        """Begin following; serves from the copy on disk at once if there is one."""
        kept: list[Org] = []
        try:
            kept = await asyncio.to_thread(self._snapshot.load)
        except SettingsFault as fault:
            # Redis has it all; without Redis either, the gateway says that it is not ready.
            counters.registry_bad_records.inc()
            self._log.error("registry_copy_unreadable", reason=str(fault))
        if self._snapshot.unreadable:
            counters.registry_bad_records.inc(self._snapshot.unreadable)
            self._log.error(
                "registry_copy_unreadable",
                lines=self._snapshot.unreadable,
                fix=f"Redis has these records; if it says so at each start, delete {self._snapshot.path}",
            )
        if kept:
            await asyncio.to_thread(self._credentials.look_up, kept)
            self.directory.merge(kept)
            counters.registry_orgs.set(len(self.directory))
            self.loaded.set()
            self._log.info("registry_from_disk", orgs=len(kept))
        self._following = asyncio.create_task(self._follow(), name="registry")

    def spending(self, budgets: Budgets) -> Spending:
        """What tells the budgets of the organisations known here what was spent."""
        return Spending(self._redis, self.directory, budgets)

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await close_redis(self._redis)

    async def _follow(self) -> None:
        while True:
            try:
                # Subscribed before the first read: a change in between is then seen twice, not never.
                async with await subscribe_near(self._redis, VERSION_KEY, CHANGES_CHANNEL) as changes:
                    while True:
                        await self._poll()
                        await self._listen(changes)
            except Exception as error:  # noqa: BLE001 - whatever stands in the way: counted, said, and tried again
                if cancelled():
                    raise asyncio.CancelledError from None
                counters.registry_refreshes.labels("failed").inc()
                if not self.redis_failing:
                    self._log.warning(
                        "redis_unavailable",
                        error=type(error).__name__,
                        url=self._shown_url,
                        fix=_CURES.get(type(error).__name__, _START_IT),
                    )
                self.redis_failing = True
                await asyncio.sleep(_RECONNECT_S)

    async def _poll(self) -> None:
        await asyncio.to_thread(self._credentials.look_again)
        version, generation = await self._redis.mget(VERSION_KEY, COMPLETE_KEY)
        found = (_text(generation), int(version or 0))
        if found != self._seen:
            await self._read_changed(found)
            self._seen = found
        counters.registry_refreshes.labels("read").inc()
        if self.redis_failing:
            self._log.info("redis_available")
            self.redis_failing = False
        self.loaded.set()

    async def _read_changed(self, found: tuple[str, int]) -> None:
        """Read what is newer than what was read last, or all of it where that does not say enough."""
        names: Sequence[bytes | str] = ()
        if self._seen is not None and self._seen[0] == found[0] and self._seen[1] < found[1]:
            names = await cast("Any", self._redis).execute_command(
                "ZRANGE", VERSIONS_KEY, f"({self._seen[1]}", "+inf", "BYSCORE", "LIMIT", 0, _MOST_CHANGED + 1
            )
        if 0 < len(names) <= _MOST_CHANGED:
            for some in _batched(names, _RECORDS_PER_READ):
                records = await self._redis.hmget(ORGS_KEY, list(some))
                await self._merge(self._decoded(record for record in records if record is not None))
            return
        cursor = 0
        while True:
            cursor, page = await self._redis.hscan(ORGS_KEY, cursor, count=_RECORDS_PER_READ)
            await self._merge(self._decoded(cast("dict[bytes, bytes]", page).values()))
            if not cursor:
                return

    async def _listen(self, changes: Subscription) -> None:
        """Take pushes until it is time to poll."""
        deadline = asyncio.get_running_loop().time() + self._poll_s
        while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            message = await changes.get_message(timeout=min(left_s, _SOCKET_TIMEOUT_S / 2))
            # The driver may take a cancellation for its own timeout, and say that there is no message.
            if cancelled():
                raise asyncio.CancelledError
            if message is not None:
                counters.registry_refreshes.labels("pushed").inc()
                await self._merge(self._decoded([message["data"]]))

    def _decoded(self, records: Iterable[bytes | str]) -> list[Org]:
        orgs = []
        for record in records:
            try:
                orgs.append(decode_org(record))
            except RegistryFault as fault:
                counters.registry_bad_records.inc()
                self._log.error("registry_record_unreadable", reason=str(fault))
        return orgs

    async def _merge(self, orgs: list[Org]) -> None:
        if any(org.credentials for org in orgs):
            # Before the rules that need them apply.
            await asyncio.to_thread(self._credentials.look_up, orgs)
        taken = self.directory.merge(orgs)
        if taken:
            counters.registry_orgs.set(len(self.directory))
            try:
                await asyncio.to_thread(self._snapshot.append, taken)
                if self._snapshot.outdated:
                    await asyncio.to_thread(self._snapshot.rewrite, self.directory.all())
            except OSError as error:
                self._log.error("registry_copy_not_written", reason=error.strerror, fix="LECTR_STATE_DIR")


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _batched(names: Sequence[bytes | str], size: int) -> Iterator[Sequence[bytes | str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
