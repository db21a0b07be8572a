"""The embedded engine: one per data directory, many connections.

In: a data directory. Out: connections, facts about the engine, DoorFaults for its exceptions. Everything blocks;
call it in worker threads. The process moves into the data directory, so that no path with special characters has to
fit into the engine's connection string.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from deploy.local.clickhouse import faults
from deploy.local.clickhouse.config import write_config

_CONNECT: Final = "engine?config-file=config/config.xml"
TSV: Final = "TabSeparated"


class EngineUnavailable(Exception):
    """The engine cannot start here; the text names the problem and the fix."""


class Result(Protocol):
    """What a finished query gives."""

    def get_memview(self) -> Any:
        """The bytes, without a copy."""

    def bytes(self) -> bytes:
        """The bytes."""

    def rows_read(self) -> int:
        """Rows of the result, or rows parsed by an INSERT."""

    def rows_written(self) -> int:
        """Rows written, those by materialized views included, as the real server counts."""

    def bytes_written(self) -> int:
        """Their size."""

    def storage_rows_read(self) -> int:
        """Rows read from tables."""

    def storage_bytes_read(self) -> int:
        """Their size."""


class Connection:
    """One engine connection with its own settings, database and temporary tables. Serves one query at a time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def query(self, sql: bytes | str, output_format: str = TSV, parameters: Mapping[str, str] | None = None) -> Result:
        """Run to the end. Raises DoorFault."""
        with translated():
            result: Result = self._inner.query(sql, output_format, params=dict(parameters or {}))
            return result

    def stream(self, sql: bytes | str, output_format: str, parameters: Mapping[str, str]) -> Any:
        """Start a SELECT and give its pieces one by one: `fetch()`, `cancel()`. Raises DoorFault."""
        with translated():
            return self._inner.send_query(sql, output_format, params=dict(parameters))

    def kind_of(self, sql: str) -> tuple[str, int]:
        """The engine's opinion of a text: READ_ONLY, MUTATING, … or UNKNOWN; and how many statements it holds."""
        found = self._inner._conn.classify_query(sql)  # noqa: SLF001 - the wrapper does not pass it on
        return found["query_class"].name, found["statement_count"]

    def close(self) -> None:
        """Cancel what runs and free it."""
        self._inner.close()


@contextlib.contextmanager
def translated() -> Any:
    """Engine exceptions inside become DoorFaults."""
    try:
        yield
    except RuntimeError as error:
        raise faults.from_engine(str(error)) from None


@dataclass(frozen=True)
class Facts:
    """What every answer's headers tell about the engine."""

    version: str
    timezone: str
    content_types: Mapping[str, str]


class Engine:
    """The running engine. `open()` gives connections; `close()` when all are closed."""

    def __init__(self, root: Connection, connect: Any, lock: IO[str], facts: Facts) -> None:
        self._root = root
        self._connect = connect
        self._lock = lock
        self.facts = facts

    @classmethod
    def start(cls, data_dir: Path, memory_bytes: int) -> "Engine":
        """Open the data directory, after a crash too. Raises EngineUnavailable."""
        lock = _take(data_dir)
        os.chdir(data_dir)
        write_config(Path("config"), memory_bytes)
        Path("uploads").mkdir(exist_ok=True)
        for left_by_a_crash in Path("uploads").iterdir():
            left_by_a_crash.unlink()
        try:
            import chdb
        except ImportError:
            raise EngineUnavailable("the package chdb is not installed: pip install 'lectr[local]'") from None
        # SIGTERM belongs to the door, and a crash should look like one.
        native: Any = chdb._chdb  # noqa: SLF001 - the wrapper does not pass it on
        native.set_signal_handlers_enabled(0)
        try:
            root = Connection(chdb.connect(_CONNECT))  # type: ignore[no-untyped-call] # chdb leaves it untyped
        except RuntimeError as error:
            raise EngineUnavailable(
                f"the engine cannot open {data_dir}: {faults.from_engine(str(error)).message}"
            ) from None
        _replace_default_database(root)
        return cls(root, chdb.connect, lock, _facts(root))

    def open(self) -> Connection:
        """A connection with default settings. Raises DoorFault."""
        with translated():
            return Connection(self._connect(_CONNECT))

    def kill(self, marker: str) -> None:
        """Cancel the query that ends with a marker. Not finding it is no error."""
        other = self.open()
        try:
            other.query(f"KILL QUERY WHERE endsWith(query, '{marker}') ASYNC")
        finally:
            other.close()

    def kill_all(self) -> None:
        """Cancel everything that runs."""
        other = self.open()
        try:
            other.query("KILL QUERY WHERE query NOT LIKE 'KILL QUERY%' ASYNC")
        finally:
            other.close()

    def close(self) -> None:
        """Stop the engine and free the data directory."""
        self._root.close()
        self._lock.close()


def _take(data_dir: Path) -> IO[str]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "door.lock").open("a", encoding="ascii")
    except OSError as error:
        raise EngineUnavailable(f"data directory {data_dir}: {error.strerror}; choose another with --data") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise EngineUnavailable(
            f"data directory {data_dir} is in use by another process; stop it, or choose another with --data"
        ) from None
    return lock


def _replace_default_database(root: Connection) -> None:
    """Put a plain database in the place of the engine's `default`, whose table names can be paths of local files.

    The engine starts with an overlay of the directory tree and the stored database. Detaching it touches no data.
    """
    root.query("DETACH DATABASE default")
    if Path("engine/metadata/default").exists():
        root.query("ATTACH DATABASE default")
    else:
        # It never held a table; the engine cannot attach such a one again (error 49).
        Path("engine/metadata/default.sql").unlink(missing_ok=True)
        root.query("CREATE DATABASE default ENGINE = Atomic")


def _facts(root: Connection) -> Facts:
    version, timezone = root.query("SELECT version(), timezone()").bytes().decode().strip().split("\t")
    listed = root.query("SELECT name, content_type FROM system.formats WHERE is_output").bytes().decode()
    types = dict(line.split("\t") for line in listed.splitlines())
    return Facts(version, timezone, {name.lower(): kind for name, kind in types.items()})
