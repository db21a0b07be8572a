"""Changes that Redis lost before they were in the log: gateways that obey them give them back.

A change is pushed at once, and logged half a second later, or when ClickHouse is back. If Redis loses its memory in
between, the log brings back the record before, and a key that was rotated away would come back with the next change.
Versions only go up, so the higher one is what an operator did last.

In: what this process took from its Redis, as it was there. What only its disk has may be from another Redis, which a
path or a URL was changed from, and what a newer release wrote cannot be written here: these are told, never given.
"""

import asyncio
import importlib.resources
import secrets
from collections.abc import Iterable
from typing import Any, Final

from gateway.directory import Directory
from shared import counters
from shared.logs import get_log
from shared.organisation import Org
from shared.registry import (
    CHANGES_CHANNEL,
    COMPLETE_KEY,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    RegistryFault,
    decode_org,
    encode_org,
)
from shared.tasks import cancelled

_SCRIPT: Final = importlib.resources.files("gateway").joinpath("give_back.lua").read_text(encoding="utf-8")
_KEYS: Final = (ORGS_KEY, VERSION_KEY, VERSIONS_KEY, COMPLETE_KEY)
_PAGE: Final = 500
"""Compared in one go: less than a millisecond in which no request goes on."""
_MOST_GIVEN: Final = 500
"""By one look, so that pushes do not wait: the rest by the next one."""
_MOST_NAMED: Final = 20
_log = get_log("registry")


class GiveBack:
    """Of one registry. `redis` is the client's, which raises what it raises."""

    def __init__(self, redis: Any, directory: Directory) -> None:
        self._redis = redis
        self._directory = directory
        self._unproven: dict[str, int] = {}
        """Versions that Redis was not seen to have, by organisation."""
        self._unwritable: dict[str, int] = {}
        """Versions that a newer release wrote, with more in them than is known here."""
        self._due = False
        self._failed_by = ""
        self._told: list[str] = []

    def doubt(self, kept: Iterable[Org]) -> None:
        """These are from the disk."""
        self._unproven = {org.org: org.version for org in kept}

    def withhold(self, org: Org) -> None:
        """It cannot be written as Redis had it."""
        self._unwritable[org.org] = org.version

    def ask(self) -> None:
        """Redis may be another one than before, or lack what it had."""
        self._due = True

    async def look(self) -> None:
        """Give back what is missing, if it was asked for. What fails is said once, and tried again by the next call."""
        if not self._due:
            return
        try:
            self._due = await self._look()
            self._failed_by = ""
        except Exception as error:  # noqa: BLE001 - whatever Redis refuses: the registry itself goes on
            if cancelled():
                raise asyncio.CancelledError from None
            if self._failed_by != type(error).__name__:
                self._failed_by = type(error).__name__
                _log.warning("registry_not_given_back", error=self._failed_by, fix="it is tried again at each poll")

    async def _look(self) -> bool:
        """Whether to look again soon."""
        ahead = await self._ahead()
        names = {org.org for org in ahead}
        self._unproven = {name: version for name, version in self._unproven.items() if name in names}
        withheld = sorted(org.org for org in ahead if not self._may_give(org))
        counters.registry_ahead.set(len(withheld))
        if withheld and withheld != self._told:
            _log.warning(
                "registry_ahead",
                organisations=len(withheld),
                first=withheld[:_MOST_NAMED],
                reason="what this gateway has from its disk, or of a newer release, is newer than what Redis has",
                fix="change these once more; if they are another installation's, delete registry.jsonl and start anew",
            )
        self._told = withheld
        # The highest last: who polls by version in between has not passed the others.
        own = sorted(filter(self._may_give, ahead), key=lambda org: org.version)
        given = []
        for org in own[:_MOST_GIVEN]:
            if cancelled():
                raise asyncio.CancelledError
            if await self._give(org):
                given.append(org.org)
        counters.registry_given_back.inc(len(given))
        if given:
            _log.warning(
                "registry_given_back",
                organisations=len(given),
                first=given[:_MOST_NAMED],
                reason="Redis had lost these changes before they were logged",
            )
        return bool(withheld) or len(own) > _MOST_GIVEN

    def _may_give(self, org: Org) -> bool:
        return org.version not in {self._unproven.get(org.org), self._unwritable.get(org.org)}

    async def _ahead(self) -> list[Org]:
        """What is known here and Redis has older, or not."""
        found: list[Org] = []
        orgs = self._directory.all()
        for start in range(0, len(orgs), _PAGE):
            page = orgs[start : start + _PAGE]
            scores = await self._redis.zmscore(VERSIONS_KEY, [org.org for org in page])
            suspects = [org for org, score in zip(page, scores, strict=True) if score is None or score < org.version]
            if suspects:
                # Releases before the versions of records kept none.
                records = await self._redis.hmget(ORGS_KEY, [org.org for org in suspects])
                found += [
                    org for org, record in zip(suspects, records, strict=True) if _version_in(record) < org.version
                ]
            await asyncio.sleep(0)
        return found

    async def _give(self, org: Org) -> bool:
        arguments = (org.org, org.version, encode_org(org), CHANGES_CHANNEL, secrets.token_hex(8))
        return bool(await self._redis.eval(_SCRIPT, len(_KEYS), *_KEYS, *arguments))


def _version_in(record: bytes | str | None) -> int:
    if record is None:
        return -1
    try:
        return decode_org(record).version
    except RegistryFault:
        return -1
