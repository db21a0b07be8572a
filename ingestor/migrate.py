"""Tables and views, brought up to date by numbered SQL files.

In: `migrations/NNNN_name.sql` and the record of applied ones in the table `migrations`. Out: a database that this
release can write to. Statements are repeatable, so two migrations at once, or one after a crash, do no harm.
What applied files made and is gone since is made again; a table comes back empty. A column that was changed is named.
What a newer release applied is left alone: a migration only ever adds, so this release can go on beside or after it.
A file that was applied and changed since is refused: databases would differ without anyone knowing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ingestor.clickhouse import NEEDED, ClickHouse
from ingestor.cluster import database_statement, drop_view_statement, for_cluster, tables_in
from ingestor.columns import columns_in, none_due
from ingestor.faults import ClickHouseFault, MigrationFault, SchemaFault
from ingestor.migration_files import DIRECTORY, Migration, read_migrations
from ingestor.repair import Again, lost_in, make_again
from ingestor.settings import ClickHouseAddress

_RECORD_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migrations
(
    name String COMMENT 'File name',
    sha256 FixedString(64) COMMENT 'Hex digest of the file when it was applied',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was applied'
)
ENGINE = MergeTree ORDER BY (name, applied_at) COMMENT 'Schema changes applied to this database'
"""


class Outcome(msgspec.Struct, frozen=True):
    """What a migration did: names of the files applied for the first time, and what was lost and is there again."""

    applied: list[str]
    again: list[Again]
    unfit: str = ""
    """What is wrong all the same with the tables that an ingestor fills, and its cure; empty if nothing is."""


def to_apply(migrations: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """Those not applied yet. Raises MigrationFault when an applied one was changed, or is unknown and not newer."""
    newest = migrations[-1].name
    known = {migration.name: migration for migration in migrations}
    for name, sha256 in sorted(applied.items()):
        if name not in known:
            if name > newest:
                continue
            raise MigrationFault(f"{name}: applied to this database but unknown here, and older than {newest}")
        if known[name].sha256 != sha256:
            raise MigrationFault(f"{name}: changed after it was applied; restore the file and add a new number instead")
    return [migration for migration in migrations if migration.name not in applied]


async def migrate(address: ClickHouseAddress, directory: Path = DIRECTORY) -> Outcome:
    """Apply what is missing, make again what is lost. Raises MigrationFault, ClickHouseFault, SchemaFault."""
    migrations = read_migrations(directory)
    server = await ClickHouse.connect(address, database=False)
    try:
        await server.check_cluster()
        await server.execute(database_statement(address.database, address.cluster))
    finally:
        await server.close()
    database = await ClickHouse.connect(address)
    try:
        statements = [statement for migration in migrations for statement in migration.statements]
        known = tables_in(statements)
        for statement in _as_taken([_RECORD_TABLE.strip()], address, known):
            await database.execute(statement)
        records = await database.query(
            "SELECT name, toString(argMin(sha256, applied_at)) FROM migrations GROUP BY name"
        )
        applied = {str(name): str(sha256) for name, sha256 in records}
        missing = to_apply(migrations, applied)
        again = await _make_again(database, address, migrations, applied)
        for migration in missing:
            await _execute(database, migration.name, _as_taken(migration.statements, address, known))
            # Both values are of a checked form: a file name by _FILE_NAME, a hex digest.
            values = f"('{migration.name}', '{migration.sha256}')"
            await database.execute(f"INSERT INTO migrations (name, sha256) VALUES {values}")  # noqa: S608 - see above
        unfit = await _unfit(database, statements)
    finally:
        await database.close()
    return Outcome([migration.name for migration in missing], again, unfit)


async def _unfit(database: ClickHouse, statements: Sequence[str]) -> str:
    """What no statement cures: a column that somebody changed is theirs to put back, as it may hold something."""
    try:
        await database.check_schema(none_due(columns_in(statements, NEEDED)))
    except SchemaFault as fault:
        return str(fault)
    return ""


async def _make_again(
    database: ClickHouse, address: ClickHouseAddress, migrations: Sequence[Migration], applied: Mapping[str, str]
) -> list[Again]:
    """Make what applied files had made and is gone; two at once both end with it there."""
    files = {migration.name: migration.statements for migration in migrations if migration.name in applied}
    statements = [statement for file in files.values() for statement in file]
    # Looked at after the record was read: a file is recorded only when all of it is there.
    found = await database.tables()
    lost = lost_in(statements, found)
    if not lost:
        return []
    if newer := sorted(applied.keys() - {migration.name for migration in migrations}):
        raise MigrationFault(
            f"{', '.join(sorted(lost))}: gone from this database, and its last form may be that of {newer[-1]}, which "
            "a newer release applied; run: python -m ingestor migrate of that release"
        )
    for name in sorted(lost & found.keys()):
        # There, but fed by nothing; it holds nothing itself.
        await database.execute(drop_view_statement(address.database, name, address.cluster))
    again = make_again(files, lost)
    for part in again:
        await _execute(database, part.file, _as_taken(part.statements, address, tables_in(statements)))
    return again


def _as_taken(statements: list[str], address: ClickHouseAddress, tables: frozenset[str]) -> list[str]:
    """The statements for this server, or for the cluster that it belongs to. Raises MigrationFault."""
    if not address.cluster:
        return statements
    return for_cluster(statements, cluster=address.cluster, database=address.database, tables=tables)


async def _execute(database: ClickHouse, file: str, statements: Sequence[str]) -> None:
    for number, statement in enumerate(statements, 1):
        try:
            await database.execute(statement)
        except (ClickHouseFault, SchemaFault) as fault:
            raise MigrationFault(f"{file}, statement {number}: LECTR_CLICKHOUSE_URL={fault}") from fault
