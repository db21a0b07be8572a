"""Takes records of organisations in, as Redis has them: read, merged, and on their way to the copy on disk.

In: names and records, whatever stands there. Out: what of it applies from now on. A record that cannot be read costs
itself alone: it is counted and named.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.credentials import Credentials
from gateway.directory import Directory
from gateway.registry_copy import RegistryCopy
from shared import counters
from shared.logs import get_log
from shared.organisation import Org
from shared.registry import RegistryFault, decode_org

_BYTES_PER_TURN: Final = 256 * 1024
"""Decoded in one go: a millisecond or two in which no request goes on."""
_LONGEST_SHOWN: Final = 100


class Intake:
    """The one way into a directory."""

    def __init__(self, directory: Directory, credentials: Credentials, copy: RegistryCopy) -> None:
        self._directory = directory
        self._credentials = credentials
        self._copy = copy
        self._log = get_log("registry")

    async def take(self, records: Iterable[tuple[bytes | str, bytes | str | None]]) -> int:
        """Merge what can be read of these; how many were newer than what was known."""
        orgs, taken, turn_bytes = [], 0, 0
        for name, record in records:
            if record is None:
                continue
            try:
                orgs.append(decode_org(record))
            except RegistryFault as fault:
                counters.registry_bad_records.inc()
                shown = name if isinstance(name, str) else name.decode(errors="replace")
                self._log.error("registry_record_unreadable", org=shown[:_LONGEST_SHOWN], reason=str(fault))
            turn_bytes += len(record)
            if turn_bytes >= _BYTES_PER_TURN:
                taken += await self._merge(orgs)
                orgs, turn_bytes = [], 0
                await asyncio.sleep(0)
        return taken + await self._merge(orgs)

    async def take_pushed(self, record: bytes | str) -> int:
        """The same for one that came without a name."""
        return await self.take([(_name_in(record), record)])

    async def _merge(self, orgs: list[Org]) -> int:
        if any(org.credentials for org in orgs):
            # Before the rules that need them apply.
            await asyncio.to_thread(self._credentials.look_up, orgs)
        taken = self._directory.merge(orgs)
        counters.registry_orgs.set(len(self._directory))
        self._copy.add(taken)
        return len(taken)


class _Named(msgspec.Struct):
    org: str = ""


def _name_in(record: bytes | str) -> str:
    """The organisation that a record names, as far as one can tell: it may be no record at all."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(record, type=_Named).org
    return ""
