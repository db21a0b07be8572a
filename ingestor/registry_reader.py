"""What this process needs of the registry: budgets and negotiated prices, read as far as they changed.

In: records in Redis; once, if Redis may lack some, the log in ClickHouse. Out: what organisations with budgets or
prices have. A record is replaced only by one with a higher version and never removed, so a Redis that lost its memory
takes no price away. Where a record cannot be read, what it held before counts; where nothing is known of it, its
prices are unknown, which is not the same as none.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from ingestor.org_prices import NO_PRICES, AllPrices, OrgPrices, UnreadablePrices
from ingestor.redis_link import Redis, translated
from ingestor.registry_log import RegistryLog
from shared import counters
from shared.logs import get_log
from shared.organisation import Budget
from shared.registry import COMPLETE_KEY, ORGS_KEY, VERSION_KEY, VERSIONS_KEY, RegistryFault, decode_org, version_of

_ORGS_PER_PAGE: Final = 500
_log = get_log("registry")
_Record = tuple[str, bytes | str]


class _State(NamedTuple):
    """Of the registry in Redis when it was looked at."""

    version: int
    complete: bytes | None
    """The mark that it has what the log has; another one each time that it was refilled."""


class RegistryReader:
    """Of the one registry. `read` first."""

    def __init__(self, redis: Redis, log: RegistryLog) -> None:
        self._redis = redis
        self._registry_log = log
        self._reading = asyncio.Lock()
        self._seen: _State | None = None
        self._versions: dict[str, int] = {}
        """Of organisations that have, or had, any of what is read here."""
        self._budgets: dict[str, tuple[Budget, ...]] = {}
        self._prices: dict[str, OrgPrices] = {}
        self._published: AllPrices = NO_PRICES
        self._changed = False

    @property
    def budgets(self) -> Mapping[str, tuple[Budget, ...]]:
        """Of organisations that have any."""
        return self._budgets

    @property
    def prices(self) -> AllPrices:
        """Of organisations that have any; later readings do not change it."""
        return self._published

    async def read(self) -> None:
        """Bring it up to date. Raises RedisFault; ClickHouseFault and SchemaFault the first time."""
        async with self._reading:
            with translated():
                version, complete = await self._redis.mget(VERSION_KEY, COMPLETE_KEY)
            found = _State(version_of(version), cast("bytes | None", complete))
            if found == self._seen:
                return
            if self._seen is None:
                await self._read_log(found)
            if self._seen is not None and found.complete == self._seen.complete and self._seen.version < found.version:
                await self._read_changed(self._seen.version)
            else:
                await self._read_all()
            self._seen = found
            if self._changed:
                # Another thread prices by what was published before.
                self._published, self._changed = dict(self._prices), False

    async def _read_log(self, found: _State) -> None:
        """What Redis lost while no process was there to remember it."""
        if found.complete is None or await self._registry_log.has_newer(found.version):
            async for page in self._registry_log.latest():
                self._take((org, record) for org, _, record in page)

    async def _read_changed(self, since: int) -> None:
        with translated():
            client = cast("Any", self._redis)
            names = await client.execute_command("ZRANGE", VERSIONS_KEY, f"({since}", "+inf", "BYSCORE")
        for start in range(0, len(names), _ORGS_PER_PAGE):
            page = names[start : start + _ORGS_PER_PAGE]
            with translated():
                records = await self._redis.hmget(ORGS_KEY, page)
            self._take((_text(name), record) for name, record in zip(page, records, strict=True) if record is not None)

    async def _read_all(self) -> None:
        cursor = 0
        while True:
            with translated():
                cursor, page = await self._redis.hscan(ORGS_KEY, cursor, count=_ORGS_PER_PAGE)
            self._take((_text(name), record) for name, record in cast("dict[bytes, bytes]", page).items())
            if not cursor:
                return

    def _take(self, records: Iterable[_Record]) -> None:
        for name, record in records:
            try:
                org = decode_org(record)
            except RegistryFault as fault:
                self._unreadable(name, fault)
                continue
            if org.version <= self._versions.get(name, -1):
                continue
            if org.budgets or org.prices or name in self._versions or name in self._prices:
                self._versions[name] = org.version
                _put(self._budgets, name, org.budgets)
                self._changed |= _put(self._prices, name, OrgPrices(org.version, org.prices))

    def _unreadable(self, name: str, fault: RegistryFault) -> None:
        counters.ingestor_registry_bad_records.inc()
        known = name in self._versions
        _log.error(
            "registry_record_unreadable",
            org=name,
            detail=str(fault),
            prices="as before" if known else "unknown: its requests are stored without a cost until it is readable",
        )
        if not known and name not in self._prices:
            self._changed |= _put(self._prices, name, UnreadablePrices())


def _put(values: dict[str, Any], name: str, value: Any) -> bool:
    """Keep what is not empty; whether something changed."""
    if value:
        values[name] = value
        return True
    return values.pop(name, None) is not None


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")
