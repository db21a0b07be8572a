"""Keeps the directory of organisations current: read from Redis at start, pushed on change, polled for missed pushes.

A poll reads what has a higher version than the last one saw; all of it, some hundred records at a time, when Redis lost
its memory or is another one. Where nothing can be pushed, polls go on alone; a change that was seen by a poll first has
its push missed, so that the subscription is made anew. What was taken is kept on disk: a start with Redis down serves
from there.

Nothing is served before all organisations are known: a Redis that lost its memory says so by a mark that it lacks, and
clients whose keys are refused take that as final.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.budgets import Budgets
from gateway.credential_reader import CredentialReader
from gateway.credentials import Credentials
from gateway.directory import Directory
from gateway.give_back import GiveBack
from gateway.intake import Intake
from gateway.registry_copy import RegistryCopy
from gateway.snapshot import Snapshot
from gateway.spending import Spending
from shared import counters
from shared.environment import SecretUrl, SettingsFault
from shared.logs import get_log
from shared.redis_client import Subscription, close_redis, open_redis, subscribe_near
from shared.registry import (
    CHANGES_CHANNEL,
    COMPLETE_KEY,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    version_of,
)
from shared.tasks import cancelled

if TYPE_CHECKING:
    from shared.organisation import Org

_SOCKET_TIMEOUT_S: Final = 5.0
_RECONNECT_S: Final = 0.5
_INCOMPLETE_S: Final = 1.0
_SAY_AGAIN_S: Final = 60.0
_RECORDS_PER_READ: Final = 200
_MOST_CHANGED: Final = 5_000
"""More changed records than these are not asked for one by one."""


_SILENT: Final = "registry not loaded: Redis (LECTR_REDIS_URL) does not answer, or refuses"
_INCOMPLETE: Final = "Redis lacks the mark that it has every organisation"
_MARK_IT: Final = (
    "an ingestor sets it within a second once it reaches Redis and ClickHouse: start one beside this Redis "
    "(LECTR_REDIS_URL), or see what the log of the one that runs says"
)
_UNMARKED: Final = f"{_INCOMPLETE}; {_MARK_IT}"
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
        """Set once all organisations are known, from Redis or from the copy on disk."""
        self._incomplete = False
        """Whether Redis was seen last without its mark."""
        self._say_due_s = 0.0
        """When to say next that it is waited for."""
        self._failing_by = ""
        """The error that was said last."""
        self._poll_s = poll_s
        self._snapshot = snapshot
        self._redis = open_redis(redis_url, connect_timeout_s=_SOCKET_TIMEOUT_S, reply_timeout_s=_SOCKET_TIMEOUT_S)
        self._credentials = CredentialReader(credentials)
        self._copy = RegistryCopy(snapshot, self.directory)
        self._give_back = GiveBack(self._redis, self.directory)
        self._intake = Intake(self.directory, self._credentials, self._copy, self._give_back.withhold)
        self._seen: tuple[str, int] | None = None
        """Generation and version of what was read last."""
        self._poll_due_s = 0.0
        """When the next poll is due, on the loop's clock."""
        self._shown_url = str(redis_url)
        self._following: asyncio.Task[None] | None = None
        self._log = get_log("registry")

    async def start(self) -> None:
        """Begin following; serves from the copy on disk at once if there is one."""
        self._credentials.start()
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
                first=self._snapshot.first_unreadable,
                fix=f"Redis has these records; if it says so at each start, delete {self._snapshot.path}",
            )
        self._give_back.doubt(kept)
        if kept:
            await self._intake.merge(kept)
            self._set_loaded()
            self._log.info("registry_from_disk", orgs=len(kept))
        self._following = asyncio.create_task(self._follow(), name="registry")

    @property
    def redis_failing(self) -> bool:
        """Whether changes cannot be pushed, if they are seen at all."""
        return bool(self._failing_by)

    @property
    def problem(self) -> str:
        """Why this gateway cannot serve, empty if it can."""
        if self.loaded.is_set():
            return ""
        return f"registry not loaded: {_UNMARKED}" if self._is_unmarked else _SILENT

    @property
    def warning(self) -> str:
        """What is wrong although it serves, empty if nothing is."""
        return _UNMARKED if self._is_unmarked and self.loaded.is_set() else ""

    @property
    def _is_unmarked(self) -> bool:
        return self._incomplete and not self._failing_by

    def spending(self, budgets: Budgets) -> Spending:
        """What tells the budgets of the organisations known here what was spent."""
        return Spending(self._redis, self.directory, budgets)

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            await self._copy.close()
        await self._credentials.close()
        await close_redis(self._redis)

    async def _follow(self) -> None:
        while True:
            try:
                # Subscribed before the first read: a change in between is then seen twice, not never.
                async with await subscribe_near(self._redis, VERSION_KEY, CHANGES_CHANNEL) as changes:
                    # It may be another server than the one before, and have less.
                    self._give_back.ask()
                    await self._poll()
                    if self._failing_by:
                        self._log.info("redis_available")
                        self._failing_by = ""
                    await self._listen(changes)
                    while not await self._poll():
                        await self._listen(changes)
                # Either the push is on its way, or nothing comes through this connection any more.
                counters.registry_refreshes.labels("missed").inc()
            except Exception as error:  # noqa: BLE001 - whatever stands in the way: counted, said, and tried again
                if cancelled():
                    raise asyncio.CancelledError from None
                counters.registry_refreshes.labels("failed").inc()
                self._say_failing(type(error).__name__)
                await self._poll_alone()
                await asyncio.sleep(_RECONNECT_S)

    def _say_failing(self, error: str) -> None:
        """Once for each kind of error: a lost connection may be followed by a refused one."""
        if error != self._failing_by:
            self._log.warning("redis_unavailable", error=error, url=self._shown_url, fix=_CURES.get(error, _START_IT))
        self._failing_by = error

    async def _poll_alone(self) -> None:
        """Poll if it is time to, although the way for pushes is closed."""
        if asyncio.get_running_loop().time() < self._poll_due_s:
            return
        # What stands in its way stood in the way of the subscription too, and was said.
        with contextlib.suppress(Exception):
            await self._poll()
        if cancelled():
            raise asyncio.CancelledError

    async def _poll(self) -> int:
        """Read what changed; how many records of it were not known."""
        self._credentials.look_again()
        version, generation = await self._redis.mget(VERSION_KEY, COMPLETE_KEY)
        found, taken = (_text(generation), version_of(version)), 0
        if found != self._seen:
            if version and not found[1]:
                counters.registry_bad_records.inc()
                self._log.error("registry_version_unreadable", key=VERSION_KEY, fix="the next change sets it anew")
            taken = await self._read_changed(found)
            self._seen = found
        counters.registry_refreshes.labels("read").inc()
        self._incomplete = not generation
        counters.registry_incomplete.set(self._incomplete)
        now_s = asyncio.get_running_loop().time()
        if not self.loaded.is_set():
            if await self._is_whole(generation):
                self._set_loaded()
            elif self._incomplete and now_s >= self._say_due_s:
                self._log.warning("registry_incomplete", reason=_INCOMPLETE, fix=_MARK_IT)
                self._say_due_s = now_s + _SAY_AGAIN_S
        # Without the mark Redis lost its memory a moment ago, and will have everything back in another one.
        soon = self._incomplete or not self.loaded.is_set()
        self._poll_due_s = now_s + (min(self._poll_s, _INCOMPLETE_S) if soon else self._poll_s)
        if generation:
            await self._give_back.look()
        return taken

    async def _is_whole(self, mark: bytes | str | None) -> bool:
        """Whether what was just read is every organisation that there is, by the mark that Redis had before."""
        if mark:
            return bool(await self._redis.get(COMPLETE_KEY) == mark)
        # Releases before the mark kept no versions of single records, and no log that could have more. The records
        # are asked for first: what is refilled between the two questions comes with versions.
        return bool(await self._redis.exists(ORGS_KEY)) and not await self._redis.exists(VERSIONS_KEY)

    def _set_loaded(self) -> None:
        self.loaded.set()
        # Not before: a copy of a part of them would be served from by the next process.
        self._copy.start()

    async def _read_changed(self, found: tuple[str, int]) -> int:
        """Read what is newer than what was read last, or all of it where that does not say enough; how many it was."""
        names: Sequence[bytes | str] = ()
        if self._seen is not None and self._seen[0] == found[0] and self._seen[1] < found[1]:
            names = await cast("Any", self._redis).execute_command(
                "ZRANGE", VERSIONS_KEY, f"({self._seen[1]}", "+inf", "BYSCORE", "LIMIT", 0, _MOST_CHANGED + 1
            )
        taken = cursor = 0
        if 0 < len(names) <= _MOST_CHANGED:
            for some in _batched(names, _RECORDS_PER_READ):
                taken += await self._intake.take(zip(some, await self._redis.hmget(ORGS_KEY, list(some)), strict=True))
            return taken
        while True:
            cursor, page = await self._redis.hscan(ORGS_KEY, cursor, count=_RECORDS_PER_READ)
            taken += await self._intake.take(cast("dict[bytes, bytes]", page).items())
            if not cursor:
                self._give_back.ask()
                return taken

    async def _listen(self, changes: Subscription) -> None:
        """Take pushes until it is time to poll."""
        while (left_s := self._poll_due_s - asyncio.get_running_loop().time()) > 0:
            message = await changes.get_message(timeout=min(left_s, _SOCKET_TIMEOUT_S / 2))
            # The driver may take a cancellation for its own timeout, and say that there is no message.
            if cancelled():
                raise asyncio.CancelledError
            if message is not None:
                counters.registry_refreshes.labels("pushed").inc()
                await self._intake.take_pushed(message["data"])


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _batched(names: Sequence[bytes | str], size: int) -> Iterator[Sequence[bytes | str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
