"""Migrations: order, repeatability, and every way in which files or records cannot be trusted."""

import asyncio
from pathlib import Path

import pytest

from ingestor.faults import MigrationFault
from ingestor.migrate import Outcome, migrate, to_apply
from ingestor.migration_files import DIRECTORY, read_migrations, split_statements
from tests.ingestor_process import address
from tests.parts import free_port, run_command, select

NOTHING = Outcome([], [])


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.sql").write_text(text, encoding="utf-8")
    return directory


def fault_of(directory: Path) -> str:
    with pytest.raises(MigrationFault) as caught:
        read_migrations(directory)
    return str(caught.value)


def test_statements_are_cut_outside_of_quotes_and_comments() -> None:
    """A semicolon in text, a name or a comment ends nothing."""
    sql = "SELECT 'a;''b\\';'; -- c; d\nSELECT \"e;f\", `g;h` /* i; j */ - 1 / 2;\n\nSELECT 3"
    assert list(split_statements(sql)) == ["SELECT 'a;''b\\';'", 'SELECT "e;f", `g;h`   - 1 / 2', "SELECT 3"]


def test_the_shipped_migrations_are_sound() -> None:
    """Numbers run from 1 without holes, every file holds statements."""
    migrations = read_migrations()
    assert [migration.name[:4] for migration in migrations] == [f"{n:04d}" for n in range(1, len(migrations) + 1)]
    assert len(migrations) == len(list(DIRECTORY.glob("*.sql")))


def test_a_hole_in_the_numbers_is_refused(tmp_path: Path) -> None:
    """The file after the hole and the missing number are named."""
    text = fault_of(write(tmp_path, **{"0001_a": "SELECT 1", "0003_c": "SELECT 1"}))
    assert "0003_c.sql" in text
    assert "0002 is missing" in text


def test_a_number_twice_is_refused(tmp_path: Path) -> None:
    """Two files with one number have no order."""
    assert "0001_b.sql: number 0001 is there twice" in fault_of(
        write(tmp_path, **{"0001_a": "SELECT 1", "0001_b": "SELECT 1"})
    )


@pytest.mark.parametrize("name", ["1_a", "0001-a", "0001_A", "first"])
def test_a_misnamed_file_is_refused(tmp_path: Path, name: str) -> None:
    """A file that is never applied because of its name would be a silent hole."""
    assert f"{name}.sql" in fault_of(write(tmp_path, **{name: "SELECT 1"}))


@pytest.mark.parametrize("text", ["", "  \n", "-- nothing here; really\n", ";;\n"])
def test_a_file_without_a_statement_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file is a mistake, not a migration."""
    assert fault_of(write(tmp_path, **{"0001_a": text})) == "0001_a.sql: holds no statement"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are named with their place."""
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT '\xff'")
    assert fault_of(tmp_path) == "0001_a.sql: not UTF-8 (byte 8)"


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """What cannot be read is named with the system's reason."""
    (tmp_path / "0001_a.sql").mkdir()
    assert fault_of(tmp_path).startswith("0001_a.sql: cannot be read: ")


def test_no_files_are_refused(tmp_path: Path) -> None:
    """An installation without its migrations must not report success."""
    assert "no migrations found" in fault_of(tmp_path)


def test_changed_and_unknown_records_are_refused(tmp_path: Path) -> None:
    """An applied file that changed, or that this release left out, stops the migration; one of a newer release not."""
    migrations = read_migrations(write(tmp_path, **{"0001_a": "SELECT 1", "0002_b": "SELECT 2"}))
    first = migrations[0]
    assert [m.name for m in to_apply(migrations, {first.name: first.sha256})] == ["0002_b.sql"]
    with pytest.raises(MigrationFault, match=r"0001_a\.sql: changed after it was applied"):
        to_apply(migrations, {first.name: "0" * 64})
    with pytest.raises(MigrationFault, match=r"0001_z\.sql: .* unknown here"):
        to_apply(migrations, {"0001_z.sql": "0" * 64})
    assert to_apply(migrations, {m.name: m.sha256 for m in migrations} | {"0009_z.sql": "0" * 64}) == []


async def test_migrating_twice_changes_nothing(clickhouse_url: str) -> None:
    """The first run applies all, the second none, and both leave one record per file."""
    place = address(clickhouse_url, "twice")
    names = [migration.name for migration in read_migrations()]
    assert await migrate(place) == Outcome(names, [])
    assert await migrate(place) == NOTHING
    assert [row["name"] for row in select(clickhouse_url, "SELECT name FROM twice.migrations ORDER BY name")] == names


async def test_migrations_at_once_do_no_harm(clickhouse_url: str) -> None:
    """Several jobs that start together all succeed, and the tables are there."""
    place = address(clickhouse_url, "migrate_at_once")
    await asyncio.gather(*(migrate(place) for _ in range(4)))
    assert await migrate(place) == NOTHING
    assert select(clickhouse_url, "SELECT count() AS n FROM migrate_at_once.requests") == [{"n": 0}]
    assert select(clickhouse_url, "SELECT count() AS n FROM migrate_at_once.feature_cost_daily") == [{"n": 0}]


async def test_a_failing_statement_is_named_and_can_be_cured(clickhouse_url: str, tmp_path: Path) -> None:
    """The file and the statement are named, nothing is recorded, and the corrected file applies."""
    place = address(clickhouse_url, "failing")
    good = "CREATE TABLE IF NOT EXISTS t (a UInt8) ENGINE = Memory;"
    write(tmp_path, **{"0001_a": f"{good}\nCREATE NONSENSE;"})
    with pytest.raises(MigrationFault, match=r"0001_a\.sql, statement 2: "):
        await migrate(place, tmp_path)
    assert select(clickhouse_url, "SELECT name FROM failing.migrations") == []
    write(tmp_path, **{"0001_a": good})
    assert (await migrate(place, tmp_path)).applied == ["0001_a.sql"]


async def test_an_edited_file_is_refused_by_the_database(clickhouse_url: str, tmp_path: Path) -> None:
    """The record in the database is compared with the file."""
    place = address(clickhouse_url, "edited")
    await migrate(place, write(tmp_path, **{"0001_a": "SELECT 1"}))
    with pytest.raises(MigrationFault, match=r"0001_a\.sql: changed"):
        await migrate(place, write(tmp_path, **{"0001_a": "SELECT 2"}))


async def test_every_column_is_documented(clickhouse_url: str) -> None:
    """Tables and views carry a comment on themselves and on each column, for people who browse them."""
    await migrate(address(clickhouse_url, "documented"))
    where = "database = 'documented' AND comment = ''"
    assert select(clickhouse_url, f"SELECT name FROM system.tables WHERE {where}") == []
    # What fills a rollup is nothing to read, and cannot carry comments on its columns.
    fillers = "SELECT name FROM system.tables WHERE database = 'documented' AND engine = 'MaterializedView'"
    there = f"{where} AND name != 'ingested_at' AND table NOT IN ({fillers})"
    missing = select(clickhouse_url, f"SELECT table, name FROM system.columns WHERE {there}")
    assert missing == []


def test_the_command_says_what_it_did(clickhouse_url: str) -> None:
    """`python -m ingestor migrate` names what it applied, and next time that there was nothing to do."""
    url = f"{clickhouse_url}/migrate_by_command"
    first, second = (run_command("ingestor", "migrate", LECTR_CLICKHOUSE_URL=url) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "0001_requests.sql" in first.stdout
    assert "nothing to apply" in second.stdout


def test_the_command_fails_clearly_without_clickhouse() -> None:
    """Exit code 2 and one line that names the setting's address, without the password."""
    url = f"http://user:hidden-word@127.0.0.1:{free_port()}/lectr"
    done = run_command("ingestor", "migrate", LECTR_CLICKHOUSE_URL=url)
    assert done.returncode == 2
    assert "LECTR_CLICKHOUSE_URL=http://***@127.0.0.1" in done.stderr
    assert "start ClickHouse there, or correct the address" in done.stderr
    assert "hidden-word" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
