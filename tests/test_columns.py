"""Columns that somebody changed: found in each table that an ingestor fills, named with the statement that cures."""

import random
import re
import subprocess

import pytest

from ingestor.clickhouse import NEEDED, ClickHouse, _shipped
from ingestor.columns import Column, column_problem, columns_in
from ingestor.faults import SchemaFault
from ingestor.migrate import migrate
from ingestor.rows import COLUMNS
from ingestor.settings import ClickHouseAddress
from tests.ingestor_process import address
from tests.parts import execute, run_command, select

MADE = """CREATE TABLE IF NOT EXISTS t
(
    a DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'When; it''s, DEFAULT',
    b LowCardinality(String),
    c String ALIAS concat(a, ', ', b) COMMENT 'Both',
    d Bool DEFAULT false,
    INDEX i a TYPE minmax GRANULARITY 4
)
ENGINE = MergeTree
ORDER BY a
SETTINGS
    index_granularity = 1
COMMENT 'A table'"""
ADDED = "ALTER TABLE t\n    ADD COLUMN IF NOT EXISTS e Decimal(38, 12) DEFAULT 1 COMMENT 'More'"
KINDS = {"a": "DateTime64(3, 'UTC')", "b": "LowCardinality(String)", "c": "String", "d": "Bool", "e": "Decimal(38, 12)"}
CHANGES = [
    ("requests", "DROP COLUMN sdk", "requests has no column sdk", "ADD COLUMN sdk String"),
    ("requests", "RENAME COLUMN task TO task_old", "requests has no column task", "ADD COLUMN task String"),
    ("requests", "MODIFY COLUMN status String", "requests.status is String", "MODIFY COLUMN status UInt16"),
    ("requests", "DROP COLUMN event_id", "requests has no column event_id", "ADD COLUMN event_id String ALIAS .*"),
    (
        "requests_hourly",
        "DROP COLUMN errors",
        "requests_hourly has no column errors",
        r"ADD COLUMN errors SimpleAggregateFunction\(sum, UInt64\)",
    ),
    ("gateway_boots", "DROP COLUMN killed", "gateway_boots has no column killed", "ADD COLUMN killed Bool"),
    ("gateway_boots", "MODIFY COLUMN events String", "gateway_boots.events is S", "MODIFY COLUMN events UInt64"),
    (
        "ingestion_progress",
        "DROP COLUMN retired",
        "ingestion_progress has no column retired",
        "ADD COLUMN retired Bool DEFAULT false",
    ),
]


async def fault_of(place: ClickHouseAddress) -> str:
    """What the look at the start and while working says of the database."""
    database = await ClickHouse.connect(place)
    try:
        await database.check_schema()
    except SchemaFault as fault:
        return str(fault)
    finally:
        await database.close()
    return ""


def problem(**changed: str | None) -> str:
    """What is said of a table of which these columns have another type, or none."""
    kinds = {name: kind for name, kind in {**KINDS, **changed}.items() if kind is not None}
    return column_problem(columns_in([MADE, ADDED], ["t"]), {"t": kinds}, database="lectr", cluster="")


def test_columns_are_read_from_the_statements() -> None:
    """Their types, and what else makes them, comments left out; tables that are not asked for have none."""
    assert columns_in([MADE, ADDED], ["t"])["t"] == [
        Column("a", KINDS["a"], f"{KINDS['a']} CODEC(Delta, ZSTD(1))", added=False),
        Column("b", KINDS["b"], KINDS["b"], added=False),
        Column("c", "String", "String ALIAS concat(a, ', ', b)", added=False),
        Column("d", "Bool", "Bool DEFAULT false", added=False),
        Column("e", KINDS["e"], f"{KINDS['e']} DEFAULT 1", added=True),
    ]
    assert columns_in([MADE, ADDED], ["u"]) == {}


def test_what_is_wrong_is_said_with_its_cure() -> None:
    """A missing column and one of another type; others beside them, and their order, are no matter."""
    assert problem() == ""
    assert problem(z="String") == ""
    assert problem(e="Decimal(38,12)", c="LowCardinality(String)") == ""
    assert problem(b=None).endswith(": ALTER TABLE lectr.t ADD COLUMN b LowCardinality(String)")
    assert "migrate" not in problem(b=None)
    assert "run: python -m ingestor migrate; if it is missing after that, " in problem(e=None)
    assert problem(d="UInt8") == "t.d is UInt8, expected Bool; run: ALTER TABLE lectr.t MODIFY COLUMN d Bool"
    assert problem(a="Date", b=None, d=None, e=None).endswith("; and 2 more columns")


def test_in_a_cluster_the_cure_is_for_all_servers() -> None:
    """As every statement of a migration."""
    said = column_problem(columns_in([MADE], ["t"]), {"t": {}}, database="lectr", cluster="main-1")
    assert "ALTER TABLE lectr.t ON CLUSTER `main-1` ADD COLUMN a " in said


async def test_every_column_of_a_new_database_is_known(clickhouse_url: str) -> None:
    """The engine has just the columns and types that were read from the files, and inserts name none beside them."""
    await migrate(address(clickhouse_url, "fresh"))
    question = "SELECT table, name, type FROM system.columns WHERE database = 'fresh' ORDER BY position"
    rows = select(clickhouse_url, question)
    found = {table: [(row["name"], row["type"]) for row in rows if row["table"] == table] for table in NEEDED}
    read = {table: [(column.name, column.kind) for column in columns] for table, columns in _shipped().items()}
    assert read == found
    assert {tuple(column) for column in COLUMNS} <= set(read["requests"])


@pytest.mark.parametrize(("table", "change", "said", "cure"), CHANGES, ids=lambda value: value.replace(" ", "_")[:40])
async def test_a_changed_column_is_named_and_cured(
    clickhouse_url: str, table: str, change: str, said: str, cure: str
) -> None:
    """By the look of an ingestor and at the end of a migration; the statement that they name puts it right."""
    place = address(clickhouse_url, "changed")
    execute(clickhouse_url, "DROP DATABASE IF EXISTS changed SYNC")
    await migrate(place)
    assert await fault_of(place) == ""
    execute(clickhouse_url, f"ALTER TABLE changed.{table} {change}")
    fault = await fault_of(place)
    assert f"{place.shown}: {said}" in fault
    outcome = await migrate(place)
    assert (outcome.applied, outcome.again) == ([], [])
    assert outcome.unfit == fault.replace("run: python -m ingestor migrate; if it is missing after that, ", "")
    statement = re.search(rf"ALTER TABLE changed\.{table} {cure}$", fault)
    assert statement, fault
    execute(clickhouse_url, statement[0])
    assert await fault_of(place) == ""
    assert (await migrate(place)).unfit == ""


async def test_columns_of_others_in_any_order_are_fine(clickhouse_url: str) -> None:
    """Of users or of a newer release, wherever they stand."""
    place = address(clickhouse_url, "more")
    await migrate(place)
    for table in NEEDED:
        name = random.choice(_shipped()[table]).name
        execute(clickhouse_url, f"ALTER TABLE more.{table} ADD COLUMN mine String FIRST")
        execute(clickhouse_url, f"ALTER TABLE more.{table} ADD COLUMN yours Array(UInt8) AFTER {name}")
    assert await fault_of(place) == ""
    assert (await migrate(place)).unfit == ""


def test_the_command_ends_with_the_fault(clickhouse_url: str) -> None:
    """Exit code 2 and the fault with its setting, behind what was done all the same; never "up to date"."""
    url = f"{clickhouse_url}/columns_by_command"

    def run() -> subprocess.CompletedProcess[str]:
        return run_command("ingestor", "migrate", LECTR_CLICKHOUSE_URL=url)

    assert run().returncode == 0
    execute(clickhouse_url, "ALTER TABLE columns_by_command.gateway_boots DROP COLUMN killed")
    execute(clickhouse_url, "DROP TABLE columns_by_command.event_gaps")
    for printed in ("made again: 0006_exact_gaps.sql (event_gaps)\n", ""):
        done = run()
        assert (done.returncode, done.stdout) == (2, printed)
        assert done.stderr.startswith(f"lectr ingestor: LECTR_CLICKHOUSE_URL={url}: gateway_boots has no")
        assert done.stderr.endswith(": ALTER TABLE columns_by_command.gateway_boots ADD COLUMN killed Bool\n")
    execute(clickhouse_url, "ALTER TABLE columns_by_command.gateway_boots ADD COLUMN killed Bool")
    assert run().returncode == 0
