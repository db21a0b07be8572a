"""What a database has lost is made again by `migrate`, as a new database has it, whatever else is there."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestor.faults import MigrationFault
from ingestor.migrate import Outcome, migrate
from ingestor.repair import lost_in, make_again
from ingestor.settings import ClickHouseAddress, clickhouse_address
from shared.environment import SecretUrl
from tests.parts import ROOT, clean_environ, fetch, python, running, select, start_clickhouse

OLD, NEW = "CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 2"
TABLE = "CREATE TABLE IF NOT EXISTS t (a UInt8)\nENGINE = MergeTree ORDER BY a"
OTHER = "CREATE TABLE IF NOT EXISTS u (a UInt8)\nENGINE = MergeTree ORDER BY a"
COLUMN = "ALTER TABLE t ADD COLUMN IF NOT EXISTS b UInt8"
FEEDER = "CREATE MATERIALIZED VIEW IF NOT EXISTS t_to_u TO u AS SELECT a FROM t"
ROW = "INSERT INTO {}.requests (ts, org) VALUES (now(), 'a')"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, url = start_clickhouse(tmp_path_factory.mktemp("clickhouse"))
    with running(part):
        yield url


def address(url: str, database: str) -> ClickHouseAddress:
    return clickhouse_address(SecretUrl(f"{url}/{database}"))


def order(url: str, statement: str) -> None:
    status, body = fetch(f"{url}/", data=statement.encode(), method="POST")
    assert status == 200, body


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


async def test_every_object_is_made_again(engine: str) -> None:
    """Dropped one by one, each table and view is back after the next migration, as a new database has it."""
    place = address(engine, "dropped")
    await migrate(place)
    whole = forms(engine, "dropped")
    assert "requests_to_hourly" in whole
    for name in sorted(whole.keys() - {"migrations"}):
        order(engine, f"DROP TABLE dropped.{name} SYNC")
        outcome = await migrate(place)
        assert outcome.applied == []
        assert name in {lost for names in again(outcome).values() for lost in names}
        assert forms(engine, "dropped") == whole, name
        assert await migrate(place) == Outcome([], [])


async def test_migrations_at_once_make_again_what_is_lost(engine: str) -> None:
    """Several jobs that find the same objects gone all succeed, and the database is whole."""
    place = address(engine, "at_once")
    await migrate(place)
    whole = forms(engine, "at_once")
    for name in ("requests", "requests_hourly", "event_gaps"):
        order(engine, f"DROP TABLE at_once.{name} SYNC")
    await asyncio.gather(*(migrate(place) for _ in range(4)))
    assert forms(engine, "at_once") == whole


async def test_the_rollup_is_fed_by_the_table_that_is_made_again(engine: str) -> None:
    """The rollup's view goes with a table that is renamed; the new table of that name gets one of its own."""
    place = address(engine, "renamed")
    await migrate(place)
    order(engine, "RENAME TABLE renamed.requests TO renamed.requests_kept")
    assert again(await migrate(place)) == {
        "0001_requests.sql": ["requests"],
        "0004_rollup.sql": ["requests_to_hourly"],
    }
    order(engine, ROW.format("renamed"))
    assert select(engine, "SELECT sum(requests) AS n FROM renamed.usage_hourly") == [{"n": 1}]


async def test_a_rollup_that_is_made_again_is_filled(engine: str) -> None:
    """The view that stayed fills the new table of the old name."""
    place = address(engine, "refilled")
    await migrate(place)
    order(engine, "DROP TABLE refilled.requests_hourly SYNC")
    assert again(await migrate(place)) == {"0004_rollup.sql": ["requests_hourly"]}
    order(engine, ROW.format("refilled"))
    assert select(engine, "SELECT sum(requests) AS n FROM refilled.usage_hourly") == [{"n": 1}]


async def test_what_a_newer_release_may_have_changed_is_left_to_it(engine: str, tmp_path: Path) -> None:
    """An older release would make a lost object in a form that the newer one has left behind."""
    place = address(engine, "newer")
    for name, text in (("0001_a", OLD), ("0002_b", NEW)):
        (tmp_path / f"{name}.sql").write_text(f"{text};", encoding="ascii")
    await migrate(place, tmp_path)
    (tmp_path / "0002_b.sql").unlink()
    assert await migrate(place, tmp_path) == Outcome([], [])
    order(engine, "DROP TABLE newer.v SYNC")
    with pytest.raises(MigrationFault, match=r"^v: gone .* 0002_b\.sql, which a newer release applied; run: "):
        await migrate(place, tmp_path)


def test_the_command_names_what_it_made_again(engine: str) -> None:
    """The file, the object, and what is to be done about the rows that it lacks."""
    environ = clean_environ(LECTR_CLICKHOUSE_URL=f"{engine}/by_command")

    def said() -> list[str]:
        command = python("ingestor", "migrate")
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    said()
    order(engine, "DROP TABLE by_command.requests_to_hourly SYNC")
    rebuild = "requests_hourly may lack rows that were stored before; run: python -m ingestor rollup --rebuild"
    assert said() == ["made again: 0004_rollup.sql (requests_to_hourly)", rebuild]
    order(engine, "DROP TABLE by_command.requests SYNC")
    first, second, third = said()
    assert (first, second) == (
        "made again: 0001_requests.sql (requests)",
        "made again: 0004_rollup.sql (requests_to_hourly)",
    )
    assert third.startswith("requests is empty now")
    order(engine, "DROP TABLE by_command.gateway_boots SYNC")
    first, second = said()
    assert first.startswith("made again: ")
    assert second.startswith("gateway_boots is empty now: the ends of gateways' runs before are forgotten")
    assert said() == ["nothing to apply, the database is up to date"]
