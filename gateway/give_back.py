"""Changes that Redis lost before they were in the log: gateways that obey them give them back.

A change is pushed at once, and logged half a second later, or when ClickHouse is back. If Redis loses its memory in
between, the log brings back the record before, and a key that was rotated away would come back with the next change.
Versions only go up, so the higher one is what an operator did last.

In: what this process took from its Redis. What only its disk has may be from another Redis, which a path or a URL was
changed from: that is told, and never given.
"""

import asyncio
import importlib.resources
from collections.abc import Iterable
from typing import Any, Final, cast

from gateway.directory import Directory
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log
from shared.organisation import Org
from shared.registry import CHANGES_CHANNEL, LOG_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, encode_org
from shared.tasks import cancelled

_SCRIPT: Final = importlib.resources.files("gateway").joinpath("give_back.lua").read_text(encoding="utf-8")
_KEYS: Final = (ORGS_KEY, VERSION_KEY, VERSIONS_KEY, LOG_KEY)
_ACTION: Final = "given back by a gateway: Redis had lost the change before it was logged"
_MOST_NAMED: Final = 20
_log = get_log("registry")


class GiveBack:
    """Of one registry. `redis` is the client's, which raises what it raises."""

    def __init__(self, redis: Any, directory: Directory) -> None:
        self._redis = redis
        self._directory = directory
        self._unproven: dict[str, int] = {}
        """Versions that only this gateway's disk had, by organisation."""
        self._due = self._is_proven = False
        self._failed_by = ""

    def start(self, kept: Iterable[Org]) -> None:
        """What the disk has."""
        self._unproven = {org.org: org.version for org in kept}
        # Without any, all that will be known is from Redis.
        self._is_proven = not self._unproven

    def ask(self) -> None:
        """All of a whole Redis was read again: it may lack something."""
        self._due = True

    async def look(self) -> None:
        """Give back what is missing, if it was asked for. What fails is said once, and tried again by the next call."""
        if not self._due:
            return
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001 - whatever Redis refuses: the registry itself goes on
            if cancelled():
                raise asyncio.CancelledError from None
            if self._failed_by != type(error).__name__:
                self._failed_by = type(error).__name__
                _log.warning("registry_not_given_back", error=self._failed_by, fix="it is tried again at each poll")
        else:
            self._due, self._failed_by = False, ""

    async def _look(self) -> None:
        found = await self._redis.zrange(VERSIONS_KEY, 0, -1, withscores=True)
        held = {_text(name): int(version) for name, version in cast("list[tuple[bytes, float]]", found)}
        ahead = [org for org in self._directory.all() if org.version > held.get(org.org, 0)]
        if not self._is_proven:
            self._unproven = {org.org: org.version for org in ahead}
            self._is_proven = True
        unproven = [org.org for org in ahead if self._unproven.get(org.org) == org.version]
        counters.registry_ahead.set(len(unproven))
        if unproven:
            _log.warning(
                "registry_ahead",
                organisations=len(unproven),
                first=sorted(unproven)[:_MOST_NAMED],
                reason="the copy on disk is newer than Redis, which lost changes, or is another one",
                fix="change them again, or delete registry.jsonl from LECTR_STATE_DIR and start anew",
            )
        given = [org.org for org in ahead if org.org not in unproven and await self._give(org)]
        counters.registry_given_back.inc(len(given))
        if given:
            _log.warning("registry_given_back", organisations=len(given), first=given[:_MOST_NAMED], reason=_ACTION)

    async def _give(self, org: Org) -> bool:
        record = encode_org(org)
        fields = ("org", org.org, "version", org.version, "at_ms", unix_ms(), "actor", "gateway", "action", _ACTION)
        arguments = (org.org, org.version, record, CHANGES_CHANNEL, *fields, "record", record)
        return bool(await self._redis.eval(_SCRIPT, len(_KEYS), *_KEYS, *arguments))


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
