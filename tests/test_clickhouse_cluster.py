"""The cluster form of the tables, judged by the real engine's parser, and what is said to servers that do not fit.

No server with Keeper can be had here: what replicas do together is not tested.
"""

import asyncio
import re

import pytest

from ingestor.clickhouse import ClickHouse
from ingestor.cluster import SETTINGS, database_statement, drop_view_statement, for_cluster, shape_problem, tables_in
from ingestor.faults import MigrationFault, SchemaFault
from ingestor.migrate import _RECORD_TABLE
from ingestor.migration_files import read_migrations
from ingestor.presence import is_new
from ingestor.settings import ClickHouseAddress, clickhouse_address, load_settings
from shared.environment import SecretUrl, SettingsFault
from tests.parts import migrate

SINGLE = [_RECORD_TABLE.strip(), *(statement for file in read_migrations() for statement in file.statements)]
TABLES = tables_in(SINGLE)
CLUSTER = for_cluster(SINGLE, cluster="main", database="lectr", tables=TABLES)
PATH = r"'/clickhouse/tables/\{shard\}/lectr/(\w+)', '\{replica\}'"
REPLICATED = re.compile(rf"Replicated(\w*MergeTree)\({PATH}(?:, (\w+))?\)")


def address(url: str, database: str = "lectr", cluster: str = "main") -> ClickHouseAddress:
    return clickhouse_address(SecretUrl(f"{url}/{database}"), cluster)


def single_form(formatted: str) -> str:
    """A formatted statement with everything taken out that the cluster's form adds."""

    def engine(found: re.Match[str]) -> str:
        return f"{found[1]}({found[3]})" if found[3] else found[1]

    return REPLICATED.sub(engine, formatted).replace(" ON CLUSTER main", "").replace("lectr.", "")


async def test_the_engine_reads_the_clusters_form(clickhouse_url: str) -> None:
    """Each statement is parsed, says ON CLUSTER, and differs from a single server's in engine and names alone."""
    server = await ClickHouse.connect(address(clickhouse_url, cluster=""), database=False)
    try:
        question = "SELECT formatQuerySingleLine({single:String}), formatQuerySingleLine({cluster:String})"
        pairs = [
            (await server.query(question, {"single": single, "cluster": cluster}))[0]
            for single, cluster in zip(SINGLE, CLUSTER, strict=True)
        ]
        for other in (database_statement("lectr", "main"), drop_view_statement("lectr", "requests_to_hourly", "main")):
            ((formatted,),) = await server.query("SELECT formatQuerySingleLine({sql:String})", {"sql": other})
            assert formatted.endswith(" ON CLUSTER main")
    finally:
        await server.close()
    for single, cluster in pairs:
        assert cluster.count(" ON CLUSTER main ") == 1
        assert single_form(cluster) == single
        assert len(REPLICATED.findall(cluster)) == single.startswith("CREATE TABLE")


def test_every_table_has_a_path_of_its_own() -> None:
    """Replicas of a table find each other by its path in Keeper, which no other table has."""
    paths = [found[2] for statement in CLUSTER for found in REPLICATED.finditer(statement)]
    tables = ["gateway_boots", "ingestion_progress", "migrations", "registry_log", "requests", "requests_hourly"]
    assert sorted(paths) == tables


def test_no_name_depends_on_the_current_database() -> None:
    """Every table that a statement reads or fills is named with its database: replicas have another one in use."""
    bare = [name for sql in CLUSTER for name in re.findall(r"\b(?:FROM|JOIN|TO) (\w+)", sql) if name in TABLES]
    assert bare == []
    assert sum(sql.count(" `lectr`.requests AS r") for sql in CLUSTER) >= 6


@pytest.mark.parametrize(
    "statement",
    [
        "RENAME TABLE requests TO others",
        "CREATE TABLE requests (x UInt8)\nENGINE = MergeTree ORDER BY x",
        "CREATE TABLE IF NOT EXISTS x (x UInt8)\nENGINE = Memory",
        "INSERT INTO requests VALUES (1)",
    ],
)
def test_a_statement_without_a_clusters_form_is_refused(statement: str) -> None:
    """A future migration cannot run on one replica alone by oversight."""
    with pytest.raises(MigrationFault, match="no form for a cluster"):
        for_cluster([statement], cluster="main", database="lectr", tables=TABLES)


@pytest.mark.parametrize(
    ("shards", "macros", "reason"),
    [
        ({}, set(), "no such cluster there; it knows none"),
        ({"b": 1, "a": 1}, {"shard", "replica"}, "no such cluster there; it knows a, b"),
        ({"main": 2}, {"shard", "replica"}, "has 2 shards; name a cluster of one shard"),
        ({"main": 1}, {"layer"}, "lacks the macro replica and shard; add it to <macros>"),
        ({"main": 1}, {"shard"}, "lacks the macro replica; add"),
        ({"main": 1, "other": 2}, {"shard", "replica", "layer"}, ""),
    ],
)
def test_what_is_wrong_with_a_cluster_is_said(shards: dict[str, int], macros: set[str], reason: str) -> None:
    """The fault names the variable, what was found, and the cure; one shard with both macros is fine."""
    problem = shape_problem("main", shards, macros)
    assert reason in problem
    assert problem.startswith("LECTR_CLICKHOUSE_CLUSTER='main': ") or not reason


async def test_a_server_of_no_cluster_is_refused(clickhouse_url: str) -> None:
    """Neither the migration nor the ingestor works on a server that does not know the cluster."""
    server = await ClickHouse.connect(address(clickhouse_url), database=False)
    try:
        with pytest.raises(SchemaFault, match=r"LECTR_CLICKHOUSE_CLUSTER='main': no such cluster there"):
            await server.check_cluster()
    finally:
        await server.close()


async def test_tables_of_one_server_are_refused_in_a_cluster(clickhouse_url: str) -> None:
    """Rows in a table that does not replicate would be on one server alone."""
    await asyncio.to_thread(migrate, clickhouse_url)
    server = await ClickHouse.connect(address(clickhouse_url))
    try:
        with pytest.raises(SchemaFault, match=r"requests is of this server alone \(MergeTree\); name a new database"):
            await server.check_schema()
    finally:
        await server.close()


async def test_every_statement_carries_the_settings_of_a_cluster(clickhouse_url: str) -> None:
    """The real engine takes them: inserts wait for a majority, questions see what it has. A single server gets none."""
    await asyncio.to_thread(migrate, clickhouse_url)
    found = []
    for cluster in ("main", ""):
        server = await ClickHouse.connect(address(clickhouse_url, cluster=cluster))
        try:
            question = ", ".join(f"toString(getSetting('{name}'))" for name in SETTINGS)
            found.append((await server.query(f"SELECT {question}"))[0])
            await is_new(server, 0)
        finally:
            await server.close()
    assert found[0] == ("auto", "false", "60000", "1", "60")
    assert found[1][0] == "0"


async def test_inserts_into_a_cluster_take_turns(clickhouse_url: str) -> None:
    """One insert at a time, as ClickHouse refuses a second one; on a single server they run side by side."""
    for cluster, most in (("main", 1), ("", 3)):
        server = await ClickHouse.connect(address(clickhouse_url, cluster=cluster), database=False)
        inside: list[int] = []
        together: list[int] = []

        async def insert(server: ClickHouse, inside: list[int], together: list[int]) -> None:
            async with server.turn:
                inside.append(1)
                await server.query("SELECT 1")
                together.append(len(inside))
                await server.query("SELECT 1")
                inside.pop()

        await asyncio.gather(*(insert(server, inside, together) for _ in range(3)))
        await server.close()
        assert max(together) == most


async def test_running_inserts_are_looked_for_on_every_replica(clickhouse_url: str) -> None:
    """An insert of an earlier owner may still run on another replica."""
    for cluster, expected in (("main", "clusterAllReplicas(`main`, system.processes)"), ("", "system.processes")):
        server = await ClickHouse.connect(address(clickhouse_url, cluster=cluster), database=False)
        await server.close()
        assert server.everywhere("system.processes") == expected


def test_a_name_that_is_no_clusters_is_refused() -> None:
    """The name becomes part of statements: only letters, digits and _ . - are taken."""
    for name in ("a`b", "a b", "a;b", "'"):
        with pytest.raises(SettingsFault, match=r"^LECTR_CLICKHOUSE_CLUSTER="):
            load_settings({"LECTR_CLICKHOUSE_CLUSTER": name})
    assert load_settings({"LECTR_CLICKHOUSE_CLUSTER": "main-1.eu_w"}).clickhouse_cluster == "main-1.eu_w"
