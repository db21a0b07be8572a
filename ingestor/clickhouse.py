"""ClickHouse over HTTP, and the one place where its driver's exceptions become ours.

In: blocks and tokens. Out: stored rows, or a ClickHouseFault that says what to do. Never retries by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Final

from aiohttp import ClientError
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from ingestor.cluster import SETTINGS, shape_problem
from ingestor.columns import Columns, column_problem, columns_in
from ingestor.faults import SCHEMA_CODES, Action, ClickHouseFault, SchemaFault, action_of
from ingestor.migration_files import read_migrations
from ingestor.rows import COLUMNS
from ingestor.settings import ClickHouseAddress

TABLE: Final = "requests"
FILLED: Final = "requests_hourly"
FILLER: Final = "requests_to_hourly"
"""The materialized view that brings the rows of TABLE into the rollup FILLED."""
BOOTS: Final = "gateway_boots"
NEEDED: Final = (TABLE, FILLED, BOOTS, "ingestion_progress", "registry_log")
"""Every table that an ingestor fills."""
CONNECT_TIMEOUT_S: Final = 10
ANSWER_TIMEOUT_S: Final = 120
_RANGES_PER_QUERY: Final = 1_000
"""About 90 bytes each; ClickHouse refuses queries of more than 256 KiB (code 62)."""
_PIECE_BYTES: Final = 256 * 1024
_MIGRATE_HINT: Final = "run: python -m ingestor migrate"
_GONE_CODES: Final = frozenset({60, 81})
"""UNKNOWN_TABLE and UNKNOWN_DATABASE, which a migration makes; of a changed column it knows the cure alone."""
_SHARDS: Final = "SELECT cluster, toUInt32(uniqExact(shard_num)) FROM system.clusters GROUP BY cluster"
_TABLES: Final = """
SELECT name, arrayFilter((view, home) -> home = currentDatabase(), dependencies_table, dependencies_database)
FROM system.tables WHERE database = currentDatabase()
"""
_COLUMNS: Final = """
SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND table IN {tables:Array(String)}
"""
_ENGINE: Final = "SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
_INSERT_SETTINGS: Final = {
    # Sent with every insert, as servers differ in their defaults from release to release.
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # One batch is one block: the deduplication token counts per block.
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "min_insert_block_size_bytes": 0,
    # Events of many days at once (a long outage, a wrong clock) are stored, not refused.
    "max_partitions_per_insert_block": 0,
    "max_execution_time": ANSWER_TIMEOUT_S,
}


class ClickHouse:
    """One connection pool to one database."""

    def __init__(self, client: AsyncClient, address: ClickHouseAddress) -> None:
        self._client = client
        self._address = address
        self.turn: AbstractAsyncContextManager[object] = asyncio.Lock() if address.cluster else nullcontext()
        """To be held around an insert: a cluster refuses one that comes before the one before is kept by a majority."""

    @classmethod
    async def connect(cls, address: ClickHouseAddress, *, database: bool = True) -> "ClickHouse":
        """Connect, without naming the database if it may not exist yet.

        Raises ClickHouseFault, SchemaFault if the database is not there.
        """
        with _translated(address):
            client = await create_async_client(
                interface=address.interface,
                host=address.host,
                port=address.port,
                username=address.user,
                password=address.password.reveal(),
                database=address.database if database else "default",
                compress=False,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=ANSWER_TIMEOUT_S,
                autogenerate_session_id=False,
                query_retries=0,
                client_name="lectr-ingestor",
                settings=SETTINGS if address.cluster else {},
            )
        return cls(client, address)

    async def insert(self, token: str, partition: int, block: bytes) -> None:
        """Store a block in Native format of the columns `rows.COLUMNS`. Raises ClickHouseFault, SchemaFault.

        A second insert under the same token stores nothing, whatever it holds.
        """
        with _translated(self._address):
            await self._client.raw_insert(
                TABLE,
                [column.name for column in COLUMNS],
                # In pieces it goes out as it is; the driver would copy bytes behind the statement, in the event loop.
                # And pieces it cannot repeat: bytes it does, whatever its settings say, behind a lease that ran out.
                _pieces(block),
                fmt="Native",
                settings={
                    **_INSERT_SETTINGS,
                    **(SETTINGS if self._address.cluster else {}),
                    "insert_deduplication_token": token,
                    "log_comment": log_comment(partition),
                },
            )

    async def stored_rows(self, ranges: Sequence[tuple[int, int, int]]) -> int:
        """How many rows there are of these (gateway_boot, first seq, end seq) ranges. Raises ClickHouseFault."""
        rows = 0
        for start in range(0, len(ranges), _RANGES_PER_QUERY):
            tests = " OR ".join(
                f"(gateway_boot = {boot:d} AND gateway_seq >= {first:d} AND gateway_seq < {end:d})"
                for boot, first, end in ranges[start : start + _RANGES_PER_QUERY]
            )
            with _translated(self._address):
                result = await self._client.query(f"SELECT count() FROM {TABLE} WHERE {tests}")  # noqa: S608 - integers
            rows += int(result.result_rows[0][0])
        return rows

    async def check_cluster(self) -> None:
        """Raise SchemaFault unless the server belongs to the cluster of the settings, and that has a usable shape."""
        if self._address.cluster:
            shards = {str(name): int(count) for name, count in await self.query(_SHARDS)}
            macros = {str(name) for (name,) in await self.query("SELECT macro FROM system.macros")}
            if problem := shape_problem(self._address.cluster, shards, macros):
                raise SchemaFault(f"{self._address.shown}: {problem}")

    async def tables(self) -> dict[str, frozenset[str]]:
        """The tables and views of the database, each with the materialized views that its inserts feed."""
        return {str(name): frozenset(map(str, views)) for name, views in await self.query(_TABLES)}

    async def check_schema(self, needed: Columns | None = None) -> None:
        """Raise SchemaFault unless the needed tables are there, filled, with their columns and types of these.

        Without `needed` they are those that this release's inserts fill.
        """
        needed = _shipped() if needed is None else needed
        tables = await self.tables()
        if missing := [name for name in needed if name not in tables]:
            raise SchemaFault(f"{self._address.shown}: no table {', '.join(missing)}; {_MIGRATE_HINT}")
        if TABLE in needed and FILLER not in tables[TABLE]:
            raise SchemaFault(
                f"{self._address.shown}: no materialized view {FILLER} of {TABLE}, so {FILLED} gets no rows; "
                f"{_MIGRATE_HINT}, then: python -m ingestor rollup --rebuild"
            )
        if TABLE in needed:
            await self._check_engine()
        found: dict[str, dict[str, str]] = {}
        for table, name, kind in await self.query(_COLUMNS, {"tables": list(needed)}):
            found.setdefault(str(table), {})[str(name)] = str(kind)
        place = {"database": self._address.database, "cluster": self._address.cluster}
        if problem := column_problem(needed, found, **place):
            raise SchemaFault(f"{self._address.shown}: {problem}")

    async def _check_engine(self) -> None:
        if not self._address.cluster:
            return
        parameters = {"table": TABLE}
        ((engine,),) = await self.query(_ENGINE, parameters)
        if not str(engine).startswith("Replicated"):
            raise SchemaFault(
                f"{self._address.shown}: LECTR_CLICKHOUSE_CLUSTER is set, but {TABLE} is of this server alone "
                f"({engine}); name a new database in LECTR_CLICKHOUSE_URL, migrate it, and copy the rows"
            )

    def everywhere(self, table: str) -> str:
        """A table of the system, of every server that may be working for us."""
        return f"clusterAllReplicas(`{self._address.cluster}`, {table})" if self._address.cluster else table

    async def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query, `parameters` bound by the server. Raises ClickHouseFault, SchemaFault."""
        with _translated(self._address):
            return [tuple(row) for row in (await self._client.query(sql, parameters=parameters)).result_rows]

    async def execute(self, sql: str, parameters: dict[str, Any] | None = None) -> None:
        """Run a statement without a result. Raises ClickHouseFault, SchemaFault."""
        with _translated(self._address):
            await self._client.command(sql, parameters=parameters)

    async def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Store rows that are no events. Raises ClickHouseFault, SchemaFault."""
        async with self.turn:
            with _translated(self._address):
                await self._client.insert(table, rows, column_names=columns)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


@cache
def _shipped() -> Columns:
    return columns_in([statement for file in read_migrations() for statement in file.statements], NEEDED)


def log_comment(partition: int) -> str:
    """How ClickHouse names the inserts of a partition while they run."""
    return f"lectr-ingestor-{partition}"


async def _pieces(block: bytes) -> AsyncIterator[bytes]:
    view = memoryview(block)
    for start in range(0, len(block), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]  # type: ignore[misc] # HTTP takes any buffer


@contextmanager
def _translated(address: ClickHouseAddress) -> Iterator[None]:
    try:
        yield
    except ClickHouseError as error:
        code: int | None = getattr(error, "code", None)
        if code in SCHEMA_CODES:
            further = "" if code in _GONE_CODES else ", which names the column that is wrong and its cure"
            raise SchemaFault(f"{address.shown}: {error}; {_MIGRATE_HINT}{further}") from error
        raise ClickHouseFault(f"{address.shown}: {error}", action=action_of(code), code=code) from error
    except (OSError, ClientError) as error:
        raise ClickHouseFault(
            f"{address.shown}: {type(error).__name__}: {error}", action=Action.RETRY, code=None
        ) from error
