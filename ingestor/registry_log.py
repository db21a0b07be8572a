"""The log of what operators set: from Redis into ClickHouse, and from there back into a Redis that lost its memory.

In: the stream of changes, and the records that Redis serves. Out: one row for each change. A row that is stored twice
is one row; an entry leaves the stream only when its row is stored.
"""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, cast

import msgspec

from ingestor.clickhouse import ClickHouse
from ingestor.redis_link import Redis, load_script, translated
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log
from shared.registry import (
    COMPLETE_KEY,
    LOG_KEY,
    ORGS_KEY,
    VERSION_KEY,
    VERSIONS_KEY,
    RegistryFault,
    decode_org,
    version_of,
)

TABLE: Final = "registry_log"
_COLUMNS: Final = ("org", "version", "at", "actor", "action", "record")
_ENTRIES_PER_INSERT: Final = 100
_ORGS_PER_PAGE: Final = 500
_LATEST: Final = f"""
SELECT org, max(version), argMax(record, version) FROM {TABLE} WHERE org > {{after:String}}
GROUP BY org ORDER BY org LIMIT {_ORGS_PER_PAGE}
"""  # noqa: S608 - a constant
_VERSIONS: Final = f"SELECT org, max(version) FROM {TABLE} WHERE org IN {{orgs:Array(String)}} GROUP BY org"  # noqa: S608

_log = get_log("registry")


class State(NamedTuple):
    """What Redis says of itself."""

    mark: bytes | str | None
    """There as long as it is the Redis that was compared with the log; None: it lost its memory."""
    version: int
    """The highest that it knows."""


class Comparison(NamedTuple):
    """Redis and the log."""

    adopted: int
    """Records that the log lacked, and has now."""
    lacking: int
    """Records that Redis lacks, or has in an older version."""


Row = tuple[str, int, datetime, str, str, str]


class RegistryLog:
    """Of the one registry."""

    def __init__(self, redis: Redis, clickhouse: ClickHouse) -> None:
        self._redis = redis
        self._clickhouse = clickhouse
        self._restore = load_script(redis, "restore.lua")

    async def store(self) -> int:
        """Store what is on the stream; how many changes. Raises RedisFault, ClickHouseFault, SchemaFault."""
        stored = 0
        while True:
            with translated():
                found = await self._redis.xrange(LOG_KEY, count=_ENTRIES_PER_INSERT)
            entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
            if not entries:
                return stored
            rows = [row for entry in entries if (row := _row(*entry))]
            if rows:
                await self._clickhouse.insert_rows(TABLE, _COLUMNS, rows)
            with translated():
                await self._redis.xdel(LOG_KEY, *(entry[0] for entry in entries))
            counters.registry_changes_stored.inc(len(rows))
            stored += len(rows)

    async def state(self) -> State:
        """What Redis says of itself. Raises RedisFault."""
        with translated():
            mark, version = await self._redis.mget(COMPLETE_KEY, VERSION_KEY)
        return State(mark, version_of(version))

    async def has_newer(self, version: int) -> bool:
        """Whether it has a later change than this one. Raises ClickHouseFault, SchemaFault."""
        ((logged,),) = await self._clickhouse.query(f"SELECT max(version) FROM {TABLE}")  # noqa: S608 - a constant
        return int(logged) > version

    async def latest(self) -> AsyncIterator[list[tuple[str, int, str]]]:
        """Pages of organisation, version and record of its last change. Raises ClickHouseFault, SchemaFault."""
        after = ""
        while page := await self._clickhouse.query(_LATEST, {"after": after}):
            yield [(str(org), int(version), str(record)) for org, version, record in page]
            after = str(page[-1][0])

    async def refill(self) -> int:
        """Bring back into Redis what the log has and it does not; how many records. Raises as `store`."""
        restored = 0
        async for page in self.latest():
            arguments = [argument for org, version, record in page for argument in (org, version, record)]
            with translated():
                restored += int(await self._restore(keys=(ORGS_KEY, VERSION_KEY, VERSIONS_KEY), args=arguments))
        with translated():
            # Another value whenever something came back: gateways then read everything again.
            await self._redis.set(COMPLETE_KEY, secrets.token_hex(8), nx=not restored)
        if restored:
            counters.registry_records_restored.inc(restored)
            _log.warning(
                "registry_restored", records=restored, reason="Redis had lost them, the log in ClickHouse had not"
            )
        return restored

    async def compare(self) -> Comparison:
        """Store records that Redis has and the log lacks, as after an upgrade; how many, and what Redis lacks.

        Raises as `store`.
        """
        adopted = lacking = cursor = 0
        seen: set[str] = set()
        while True:
            with translated():
                cursor, page = await self._redis.hscan(ORGS_KEY, cursor, count=_ORGS_PER_PAGE)
            records = {
                name.decode(): record for name, record in cast("dict[bytes, bytes]", page).items() if _is_utf8(name)
            }
            logged = await self._logged(list(records)) if records else {}
            new = await self._adopt(records, logged)
            adopted += len(new)
            lacking += sum(_version_in(record) < logged.get(org, -1) for org, record in records.items())
            seen.update(logged, new)
            if not cursor:
                break
        ((orgs,),) = await self._clickhouse.query(f"SELECT uniqExact(org) FROM {TABLE}")  # noqa: S608 - a constant
        return Comparison(adopted, lacking + max(0, int(orgs) - len(seen)))

    async def _logged(self, orgs: list[str]) -> dict[str, int]:
        """The latest versions that the log has of these."""
        return {str(org): int(version) for org, version in await self._clickhouse.query(_VERSIONS, {"orgs": orgs})}

    async def _adopt(self, records: dict[str, bytes], logged: dict[str, int]) -> list[str]:
        """Store those that are newer than what the log has; whose they are."""
        at = datetime.fromtimestamp(unix_ms() / 1_000, UTC)
        rows: list[Row] = []
        for org, record in records.items():
            try:
                version = decode_org(record).version
            except RegistryFault as fault:
                _log.error("registry_record_unreadable", org=org, reason=str(fault))
                continue
            if version > logged.get(org, -1):
                rows.append((org, version, at, "ingestor", "found in Redis", record.decode()))
        if rows:
            await self._clickhouse.insert_rows(TABLE, _COLUMNS, rows)
        return [row[0] for row in rows]


class _Versioned(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(le=2**53)] = -1


def _version_in(record: bytes) -> int:
    """The version of a record, readable or not: a newer release may have made it. -1 for what is none at all."""
    try:
        return msgspec.json.decode(record, type=_Versioned).version
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return -1


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        _log.error("registry_record_unreadable", org=name.decode(errors="replace"), reason="its name is no UTF-8")
        return False
    return True


def _row(entry_id: bytes, fields: dict[bytes, bytes]) -> Row | None:
    try:
        texts = [fields[name].decode() for name in (b"org", b"actor", b"action", b"record")]
        at_ms, version = int(fields[b"at_ms"]), int(fields[b"version"])
        at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    except (KeyError, ValueError, OverflowError, OSError) as error:
        # Its record is served and adopted; only who made it what it is is lost.
        counters.registry_changes_unreadable.inc()
        _log.error("registry_change_unreadable", entry=entry_id.decode(errors="replace"), error=type(error).__name__)
        return None
    org, actor, action, record = texts
    return (org, version, at, actor, action, record)
