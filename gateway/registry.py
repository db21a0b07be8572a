"""Organisations in memory: read from Redis at start, pushed on change, polled in case a push was missed.

A record is replaced only by one with a higher version and never removed, so a Redis that comes back empty changes
nothing here. The last state seen is kept in the state directory: a start with Redis down serves from it.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from shared import counters
from shared.environment import SecretUrl, SettingsFault
from shared.logs import get_log
from shared.redis_client import Subscription, close_redis, open_redis, subscribe_near
from shared.registry import CHANGES_CHANNEL, ORGS_KEY, VERSION_KEY, Org, RegistryFault, decode_org
from shared.tasks import cancelled

_SOCKET_TIMEOUT_S: Final = 5.0
_RECONNECT_S: Final = 0.5
_SNAPSHOT_NAME: Final = "registry.json"


class Directory:
    """The organisations known, by key hash. Pure: merging decides, nothing is read."""

    def __init__(self) -> None:
        self._by_name: dict[str, Org] = {}
        self._by_hash: dict[str, Org] = {}
        self.changes = 0
        """Grows whenever what `find` answers may have changed."""

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, key_sha256: str) -> Org | None:
        """The organisation whose current key has this hash."""
        return self._by_hash.get(key_sha256)

    def all(self) -> list[Org]:
        """Every record, for the copy on disk."""
        return list(self._by_name.values())

    def merge(self, orgs: Iterable[Org]) -> int:
        """Take what is newer than what is known; the number of records that changed."""
        changed = 0
        for org in orgs:
            known = self._by_name.get(org.org)
            if known is not None:
                if org.version <= known.version:
                    continue
                self._by_hash.pop(known.key_sha256, None)
            self._by_name[org.org] = org
            self._by_hash[org.key_sha256] = org
            changed += 1
        self.changes += changed
        return changed


class Snapshot:
    """The last registry seen, as a JSON file of records (hashes, never keys)."""

    def __init__(self, state_dir: str) -> None:
        self._path = Path(state_dir) / _SNAPSHOT_NAME if state_dir else None
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsFault(f"LECTR_STATE_DIR={state_dir!r}: cannot be used: {error.strerror}") from None

    def load(self) -> list[Org]:
        """The records kept, empty if there are none. Raises SettingsFault for a file that is not ours."""
        if self._path is None or not self._path.exists():
            return []
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Org])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsFault(
                f"LECTR_STATE_DIR={str(self._path.parent)!r}: {self._path.name} there is unreadable "
                f"({type(error).__name__}); delete it to start without"
            ) from None

    def save(self, orgs: list[Org]) -> None:
        """Replace the file as a whole, so that a crash leaves the old one or the new one."""
        if self._path is None:
            return
        # A name of its own: other workers keep the same file.
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(orgs))
            file.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(partial, self._path)  # noqa: PTH105 - the atomic rename is the point


_START_IT: Final = "start Redis there, or point LECTR_REDIS_URL at the right one; retrying"
_CURES: Final = {
    "AuthenticationError": "put the right password into LECTR_REDIS_URL, redis://:PASSWORD@HOST/0; retrying",
    "NoPermissionError": "give the user of LECTR_REDIS_URL the rights on keys and channels lectr:*; retrying",
}


class Registry:
    """Keeps a Directory current from Redis until closed. Raises SettingsFault for a URL that redis-py cannot use."""

    def __init__(self, redis_url: SecretUrl, *, poll_s: float, snapshot: Snapshot) -> None:
        self.directory = Directory()
        self.loaded = asyncio.Event()
        """Set once the registry was read, from Redis or from the copy on disk."""
        self.redis_failing = False
        self._poll_s = poll_s
        self._snapshot = snapshot
        self._version: bytes | str = b""
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
        if kept:
            await self._merge(kept)
            self.loaded.set()
            self._log.info("registry_from_disk", orgs=len(kept))
        self._following = asyncio.create_task(self._follow(), name="registry")

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
                    self._version = b""
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
        version = await self._redis.get(VERSION_KEY) or b"0"
        if version != self._version:
            records = await self._redis.hgetall(ORGS_KEY)
            await self._merge(self._decoded(records.values()))
            self._version = version
        counters.registry_refreshes.labels("read").inc()
        if self.redis_failing:
            self._log.info("redis_available")
            self.redis_failing = False
        self.loaded.set()

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
        if self.directory.merge(orgs):
            counters.registry_orgs.set(len(self.directory))
            try:
                await asyncio.to_thread(self._snapshot.save, self.directory.all())
            except OSError as error:
                self._log.error("registry_copy_not_written", reason=error.strerror, fix="LECTR_STATE_DIR")
