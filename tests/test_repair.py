"""What a database has lost is made again by `migrate`, as a new database has it, whatever else is there."""

import asyncio
from pathlib import Path

import pytest

from ingestor.faults import MigrationFault
from ingestor.migrate import Outcome, migrate
from ingestor.repair import lost_in, make_again
from tests.ingestor_process import address
from tests.parts import execute, run_command, select

OLD, NEW = "CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 2"
TABLE = "CREATE TABLE IF NOT EXISTS t (a UInt8)\nENGINE = MergeTree ORDER BY a"
OTHER = "CREATE TABLE IF NOT EXISTS u (a UInt8)\nENGINE = MergeTree ORDER BY a"
COLUMN = "ALTER TABLE t ADD COLUMN IF NOT EXISTS b UInt8"
FEEDER = "CREATE MATERIALIZED VIEW IF NOT EXISTS t_to_u TO u AS SELECT a FROM t"
ROW = "INSERT INTO {}.requests (ts, org) VALUES (now(), 'a')"


def forms(url: str, database: str) -> dict[str, str]:
    """Every table and view as the engine would make it, and what its inserts feed."""
    question = f"SELECT name, create_table_query, dependencies_table FROM system.tables WHERE database = '{database}'"
    rows = select(url, question)
    return {row["name"]: f"{row['create_table_query']} {row['dependencies_table']}" for row in rows}


def again(outcome: Outcome) -> dict[str, list[str]]:
    return {part.file: part.names for part in outcome.again}


def test_a_table_comes_back_with_its_changes_and_a_view_in_its_last_form() -> None:
    """Statements of other objects, and forms of a view that a later file replaced, are left out."""
    files = {"0001": [TABLE, OLD, OTHER], "0002": [COLUMN, NEW], "0003": ["SELECT 1"]}
    made = make_again(files, frozenset({"t", "v"}))
    assert [(part.file, part.names, part.statements) for part in made] == [
        ("0001", ["t"], [TABLE]),
        ("0002", ["t", "v"], [COLUMN, NEW]),
    ]


def test_a_view_that_is_fed_by_nothing_is_lost() -> None:
    """It is there by name alone once its table is another one."""
    statements = [TABLE, OTHER, FEEDER, COLUMN]
    fed, unfed = frozenset({"t_to_u"}), frozenset[str]()
    assert lost_in(statements, {"t": fed, "u": unfed, "t_to_u": unfed}) == frozenset()
    assert lost_in(statements, {"t": unfed, "u": unfed, "t_to_u": unfed}) == {"t_to_u"}
    assert lost_in(statements, {"t": unfed, "u": unfed}) == {"t_to_u"}
    assert lost_in(statements, {"u": unfed, "t_to_u": unfed}) == {"t", "t_to_u"}


async def test_every_object_is_made_again(clickhouse_url: str) -> None:
    """Dropped one by one, each table and view is back after the next migration, as a new database has it."""
    place = address(clickhouse_url, "dropped")
    await migrate(place)
    whole = forms(clickhouse_url, "dropped")
    assert "requests_to_hourly" in whole
    for name in sorted(whole.keys() - {"migrations"}):
        execute(clickhouse_url, f"DROP TABLE dropped.{name} SYNC")
        outcome = await migrate(place)
        assert outcome.applied == []
        assert name in {lost for names in again(outcome).values() for lost in names}
        assert forms(clickhouse_url, "dropped") == whole, name
        assert await migrate(place) == Outcome([], [])


async def test_migrations_at_once_make_again_what_is_lost(clickhouse_url: str) -> None:
    """Several jobs that find the same objects gone all succeed, and the database is whole."""
    place = address(clickhouse_url, "repair_at_once")
    await migrate(place)
    whole = forms(clickhouse_url, "repair_at_once")
    for name in ("requests", "requests_hourly", "event_gaps"):
        execute(clickhouse_url, f"DROP TABLE repair_at_once.{name} SYNC")
    await asyncio.gather(*(migrate(place) for _ in range(4)))
    assert forms(clickhouse_url, "repair_at_once") == whole


async def test_the_rollup_is_fed_by_the_table_that_is_made_again(clickhouse_url: str) -> None:
    """The rollup's view goes with a table that is renamed; the new table of that name gets one of its own."""
    place = address(clickhouse_url, "renamed")
    await migrate(place)
    execute(clickhouse_url, "RENAME TABLE renamed.requests TO renamed.requests_kept")
    assert again(await migrate(place)) == {
        "0001_requests.sql": ["requests"],
        "0004_rollup.sql": ["requests_to_hourly"],
        "0008_keys_and_attempts.sql": ["requests"],
        "0009_org_prices.sql": ["requests"],
    }
    execute(clickhouse_url, ROW.format("renamed"))
    assert select(clickhouse_url, "SELECT sum(requests) AS n FROM renamed.usage_hourly") == [{"n": 1}]


async def test_a_rollup_that_is_made_again_is_filled(clickhouse_url: str) -> None:
    """The view that stayed fills the new table of the old name."""
    place = address(clickhouse_url, "refilled")
    await migrate(place)
    execute(clickhouse_url, "DROP TABLE refilled.requests_hourly SYNC")
    assert again(await migrate(place)) == {"0004_rollup.sql": ["requests_hourly"]}
    execute(clickhouse_url, ROW.format("refilled"))
    assert select(clickhouse_url, "SELECT sum(requests) AS n FROM refilled.usage_hourly") == [{"n": 1}]


async def test_what_a_newer_release_may_have_changed_is_left_to_it(clickhouse_url: str, tmp_path: Path) -> None:
    """An older release would make a lost object in a form that the newer one has left behind."""
    place = address(clickhouse_url, "newer")
    for name, text in (("0001_a", OLD), ("0002_b", NEW)):
        (tmp_path / f"{name}.sql").write_text(f"{text};", encoding="ascii")
    await migrate(place, tmp_path)
    (tmp_path / "0002_b.sql").unlink()
    assert await migrate(place, tmp_path) == Outcome([], [])
    execute(clickhouse_url, "DROP TABLE newer.v SYNC")
    with pytest.raises(MigrationFault, match=r"^v: gone .* 0002_b\.sql, which a newer release applied; run: "):
        await migrate(place, tmp_path)


def test_the_command_names_what_it_made_again(clickhouse_url: str) -> None:
    """The file, the object, and what is to be done about the rows that it lacks."""

    def said() -> list[str]:
        done = run_command("ingestor", "migrate", LECTR_CLICKHOUSE_URL=f"{clickhouse_url}/repair_by_command")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    said()
    execute(clickhouse_url, "DROP TABLE repair_by_command.requests_to_hourly SYNC")
    rebuild = "requests_hourly may lack rows that were stored before; run: python -m ingestor rollup --rebuild"
    assert said() == ["made again: 0004_rollup.sql (requests_to_hourly)", rebuild]
    execute(clickhouse_url, "DROP TABLE repair_by_command.requests SYNC")
    *made, last = said()
    assert made == [
        "made again: 0001_requests.sql (requests)",
        "made again: 0004_rollup.sql (requests_to_hourly)",
        "made again: 0008_keys_and_attempts.sql (requests)",
        "made again: 0009_org_prices.sql (requests)",
    ]
    assert last.startswith("requests is empty now")
    execute(clickhouse_url, "DROP TABLE repair_by_command.gateway_boots SYNC")
    first, second = said()
    assert first.startswith("made again: ")
    assert second.startswith("gateway_boots is empty now: the ends of gateways' runs before are forgotten")
    assert said() == ["nothing to apply, the database is up to date"]
