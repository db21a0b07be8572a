"""The ClickHouse door through clickhouse-connect, as the ingestor and the dashboard use it."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import clickhouse_connect
import pytest
from clickhouse_connect import dbapi
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.door_process import DoorProcess
from tests.parts import running

COLUMNS = {
    "id": "UInt64",
    "at": "DateTime64(3, 'UTC')",
    "cost": "Decimal(18, 9)",
    "model": "LowCardinality(String)",
    "maybe": "Nullable(String)",
    "digest": "FixedString(4)",
    "event": "UUID",
    "tags": "Array(String)",
}
ROWS: dict[str, list[Any]] = {
    "id": [1, 2**64 - 1],
    "at": [dt.datetime(2026, 11, 23, 1, 2, 3, 456_000, dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
    "cost": [Decimal("0.000000001"), Decimal("123456789.123456789")],
    "model": ["gpt", "ünïcode 'quoted'"],
    "maybe": [None, ""],
    "digest": [b"abcd", b"\x00\xff\x01\x02"],
    "event": [UUID(int=1), UUID("01900000-0000-7000-8000-000000000000")],
    "tags": [[], ["a", "b'c"]],
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    started = DoorProcess(tmp_path_factory.mktemp("door"))
    with running(started.part):
        listed = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        started.do(
            f"CREATE TABLE typed ({listed}) ENGINE = MergeTree ORDER BY id",
            "CREATE TABLE raw (a Int64, CONSTRAINT small CHECK a < 100) ENGINE = MergeTree ORDER BY a "
            "SETTINGS non_replicated_deduplication_window = 1000",
            "CREATE TABLE sums (k Int8, n UInt64) ENGINE = SummingMergeTree ORDER BY k "
            "SETTINGS non_replicated_deduplication_window = 1000",
            "CREATE MATERIALIZED VIEW to_sums TO sums AS SELECT 0 AS k, throwIf(a = 50) + 1 AS n FROM raw",
        )
        yield started


@pytest.fixture
def client(door: DoorProcess) -> Iterator[Client]:
    with clickhouse_connect.get_client(dsn=door.url) as connected:
        yield connected


@pytest.fixture
async def async_client(door: DoorProcess) -> AsyncIterator[AsyncClient]:
    connected = await clickhouse_connect.get_async_client(dsn=door.url, autogenerate_session_id=False)
    yield connected
    await connected.close()


@pytest.mark.parametrize("compression", [False, "lz4", "zstd", "gzip", "br"])
def test_native_insert_and_query(door: DoorProcess, compression: str | bool) -> None:
    """Columns of every type the product stores come back as they were sent, with and without compression."""
    door.do("TRUNCATE TABLE typed")
    with clickhouse_connect.get_client(dsn=door.url, compress=compression, tz_mode="aware") as client:
        summary = client.insert("typed", list(ROWS.values()), column_names=list(ROWS), column_oriented=True)
        assert summary.written_rows == 2
        result = client.query("SELECT * FROM typed ORDER BY id")
    assert result.column_names == tuple(COLUMNS)
    assert [list(column) for column in zip(*result.result_rows, strict=True)] == list(ROWS.values())


def test_empty_result_and_command(client: Client) -> None:
    """Commands, empty results and column probes behave as with a server."""
    assert client.command("SELECT 5") == 5
    assert client.query("SELECT id FROM typed WHERE id = 3").result_rows == []
    assert client.query("SELECT id, at FROM typed LIMIT 0").column_names == ("id", "at")
    assert client.ping()
    assert str(client.server_version).startswith("2")


def test_binds_and_settings(client: Client) -> None:
    """Server-side binds and settings of the client reach the engine."""
    hostile = "it's \\ \t {x:String} %s; --"
    assert client.query("SELECT {x:String}", parameters={"x": hostile}).result_rows == [(hostile,)]
    assert client.query("SELECT {d:Array(String)}", parameters={"d": [hostile]}).result_rows == [([hostile],)]
    result = client.query("SELECT getSetting('log_comment')", settings={"log_comment": hostile})
    assert result.result_rows == [(hostile,)]


def test_session_of_the_client(client: Client) -> None:
    """A client's own session keeps its temporary table."""
    client.command("CREATE TEMPORARY TABLE scratch (a Int8)")
    client.insert("scratch", [[1], [2]], column_names=["a"])
    assert client.query("SELECT sum(a) FROM scratch").result_rows == [(3,)]


def test_stream_of_blocks(client: Client) -> None:
    """A large result can be read block by block."""
    with client.query_column_block_stream("SELECT number FROM numbers(3000000)") as blocks:
        assert sum(len(block[0]) for block in blocks) == 3_000_000


async def test_failing_inserts_fail(async_client: AsyncClient) -> None:
    """Rows rejected by a constraint or by a materialized view are an error for the client, with its code."""
    for value, code in ((100, 469), (50, 395)):
        with pytest.raises(DatabaseError) as failed:
            await async_client.insert("raw", [[value]], column_names=["a"])
        assert failed.value.code == code
    assert (await async_client.query("SELECT count() FROM raw WHERE a = 100")).result_rows == [(0,)]
    with pytest.raises(DatabaseError) as failed:
        await async_client.insert("raw", [[1]], column_names=["a"], settings={"no_such": 1})


async def test_token_makes_inserts_idempotent(async_client: AsyncClient) -> None:
    """The same token twice stores rows and their rollup once; another token stores them again."""
    await async_client.command("TRUNCATE TABLE raw")
    await async_client.command("TRUNCATE TABLE sums")
    settings = {
        "async_insert": 0,
        "max_insert_block_size": 1_048_576,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        "log_comment": "ing-1",
    }
    for token, expected in (("t1", 3), ("t1", 3), ("t2", 6)):
        await async_client.insert(
            "raw", [[1], [2], [3]], column_names=["a"], settings={**settings, "insert_deduplication_token": token}
        )
        counts = await async_client.query("SELECT (SELECT count() FROM raw), (SELECT sum(n) FROM sums)")
        assert counts.result_rows == [(expected, expected)]


async def test_many_queries_at_once(async_client: AsyncClient) -> None:
    """Fifty concurrent queries all get their own answer."""

    async def one(number: int) -> int:
        result = await async_client.query("SELECT {n:UInt32} + count() FROM numbers(10000)", parameters={"n": number})
        return int(result.result_rows[0][0])

    async with asyncio.timeout(60):
        assert await asyncio.gather(*(one(number) for number in range(50))) == [n + 10_000 for n in range(50)]


def test_dbapi(door: DoorProcess) -> None:
    """The DB-API layer, on which SQLAlchemy stands, works."""
    connection = dbapi.connect(dsn=door.url)
    cursor = connection.cursor()
    cursor.execute("SELECT number, toString(number) FROM numbers(3) WHERE number > %(low)s", {"low": 0})
    assert cursor.fetchall() == [(1, "1"), (2, "2")]
    connection.close()
