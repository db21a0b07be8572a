"""The numbered SQL files that this release brings.

In: a directory of `NNNN_name.sql`. Out: migrations in order, each with its statements and the hash of its file.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ingestor.faults import MigrationFault

DIRECTORY: Final = Path(__file__).parent / "migrations"
_FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_PIECE: Final = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|;|[^;'"`/-]+|.""",
    re.DOTALL,
)


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    name: str
    sha256: str
    statements: list[str]


def read_migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """All migrations in order. Raises MigrationFault naming the file that is wrong, missing or there twice."""
    migrations: list[Migration] = []
    for path in sorted(path for path in directory.iterdir() if path.suffix == ".sql"):
        match = _FILE_NAME.fullmatch(path.name)
        if not match:
            raise MigrationFault(f"{path.name}: a migration is named like 0001_requests.sql")
        expected, number = len(migrations) + 1, int(match[1])
        if number < expected:
            raise MigrationFault(f"{path.name}: number {number:04d} is there twice")
        if number > expected:
            raise MigrationFault(f"{path.name}: number {expected:04d} is missing before it")
        migrations.append(_read(path))
    if not migrations:
        raise MigrationFault(f"{directory.name}: no migrations found")
    return migrations


def split_statements(sql: str) -> Iterator[str]:
    """The statements of a file, cut at `;` outside of quotes and comments; comments are left out."""
    statement: list[str] = []
    for piece in _PIECE.findall(sql):
        if piece == ";":
            yield "".join(statement).strip()
            statement = []
        else:
            statement.append(" " if piece.startswith(("--", "/*")) else piece)
    yield "".join(statement).strip()


def _read(path: Path) -> Migration:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise MigrationFault(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MigrationFault(f"{path.name}: not UTF-8 (byte {error.start})") from error
    statements = [statement for statement in split_statements(text) if statement]
    if not statements:
        raise MigrationFault(f"{path.name}: holds no statement")
    return Migration(path.name, hashlib.sha256(data).hexdigest(), statements)
