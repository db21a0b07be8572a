"""Takes records of organisations in, as Redis has them: read, merged, and on their way to the copy on disk.

In: names and records, whatever stands there. Out: what of it applies from now on. A record that cannot be read costs
itself alone: it is counted and named.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Final

from gateway.credential_reader import CredentialReader
from gateway.directory import Directory
from gateway.registry_copy import RegistryCopy
from shared import counters
from shared.logs import get_log, place_of
from shared.organisation import Org
from shared.registry import RegistryFault, decode_org, encode_org
from shared.rules import RuleTable

_BYTES_PER_TURN: Final = 256 * 1024
"""Decoded in one go: a millisecond or two in which no request goes on."""
_LONGEST_SHOWN: Final = 100
_BEGINNING: Final = 200
_NAMED: Final = re.compile(r'"org"\s*:\s*"([^"\\]+)"')
_MANY_RULES: Final = 500


class Intake:
    """The one way into a directory."""

    def __init__(
        self,
        directory: Directory,
        credentials: CredentialReader,
        copy: RegistryCopy,
        withhold: Callable[[Org], None],
    ) -> None:
        """`withhold` hears of records that cannot be written as they were read: a newer release knows more of them."""
        self._directory = directory
        self._credentials = credentials
        self._copy = copy
        self._withhold = withhold
        self._log = get_log("registry")

    async def take(self, records: Iterable[tuple[bytes | str, bytes | str | None]]) -> int:
        """Merge what can be read of these; how many were newer than what was known."""
        orgs, taken, turn_bytes = [], 0, 0
        for name, record in records:
            if record is None:
                continue
            try:
                org = decode_org(record)
                orgs.append(org)
                if encode_org(org) != (record.encode() if isinstance(record, str) else record):
                    self._withhold(org)
            except RegistryFault as fault:
                shown = name.decode(errors="replace") if isinstance(name, bytes) else name
                self._say_unreadable(shown or _name_in(record), str(fault))
            turn_bytes += len(record)
            if turn_bytes >= _BYTES_PER_TURN:
                taken += await self._keep(orgs)
                orgs, turn_bytes = [], 0
                await asyncio.sleep(0)
        return taken + await self._keep(orgs)

    async def take_pushed(self, record: bytes | str) -> int:
        """The same for one that came without a name."""
        return await self.take([("", record)])

    async def merge(self, orgs: list[Org]) -> list[Org]:
        """Merge what was read, with all that its rules need; the records that were newer than what was known.

        One whose rules cannot be indexed is as one that cannot be read.
        """
        await self._credentials.look_up(orgs)
        long = [org for org in orgs if len(org.rules) > _MANY_RULES and self._directory.is_news(org)]
        # Thousands of rules take a tenth of a second to index, which no request is to wait for.
        tables, defects = await asyncio.to_thread(_indexed, long) if long else ({}, {})
        for org, reason in defects.items():
            self._say_unreadable(org, reason)
        taken = self._directory.merge((org for org in orgs if org.org not in defects), tables)
        counters.registry_orgs.set(len(self._directory))
        return taken

    def _say_unreadable(self, org: str, reason: str) -> None:
        counters.registry_bad_records.inc()
        self._log.error("registry_record_unreadable", org=org[:_LONGEST_SHOWN], reason=reason)

    async def _keep(self, orgs: list[Org]) -> int:
        taken = await self.merge(orgs)
        self._copy.add(taken)
        return len(taken)


def _indexed(orgs: Iterable[Org]) -> tuple[dict[str, RuleTable], dict[str, str]]:
    """Indexes of rules, and why there is none, by organisation."""
    tables, defects = {}, {}
    for org in orgs:
        try:
            tables[org.org] = RuleTable(org.rules)
        except Exception as error:  # noqa: BLE001 - a defect met by one organisation is not to stop the others
            # Type and place only: the text of an exception may quote what clients send.
            defects[org.org] = f"its rules cannot be indexed: {type(error).__name__} at {place_of(error)}"
    return tables, defects


def _name_in(record: bytes | str) -> str:
    """The organisation that a record names at its beginning, as far as one can tell: it may be no record at all."""
    start = record[:_BEGINNING]
    found = _NAMED.search(start.decode(errors="replace") if isinstance(start, bytes) else start)
    return found[1] if found else ""
