"""Run one request in the engine, in worker threads: settings, then the statement, then its result piece by piece.

In: an Ask, its body, a connection. Out: an Answer that is read to its end and closed. Never touches the event loop.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from deploy.local.clickhouse import faults
from deploy.local.clickhouse.ask import Ask
from deploy.local.clickhouse.codings import packer
from deploy.local.clickhouse.engine import TSV, Connection, Result, translated
from deploy.local.clickhouse.faults import DoorFault
from deploy.local.clickhouse.sql import Statement, read_statement, refuse_local_files
from deploy.local.clickhouse.upload import HEAD_BYTES, Upload

PIECE_BYTES: Final = 256 * 1024
_PLAIN: Final = frozenset({"native", "rowbinary", "jsoneachrow", "jsonstringseachrow", "jsoncompacteachrow", "msgpack"})
_WITH_EXTRAS: Final = frozenset({"tabseparated", "tsv", "csv", "tabseparatedraw", "tsvraw", "tskv"})
"""Formats in which the engine's streamed blocks put together equal the whole. The others have a head or a foot, and
the second group also lacks the rows of WITH TOTALS and extremes when streamed."""
_NO_STREAM: Final = "Streaming query is not supported"


class Answer:
    """A result: headers' facts, then bytes. `marker` is what a running query can be cancelled by."""

    def __init__(self, ask: Ask, connection: Connection) -> None:
        self._ask = ask
        self._connection = connection
        self._started_ns = time.monotonic_ns()
        self._packer = packer(ask.answer_coding) if ask.answer_coding else None
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._stream: Any = None
        self._counted: Counter[str] = Counter()
        self.marker = f"-- door:{uuid.uuid4().hex}"
        self.cancellable = False
        self.format = TSV
        self.first = b""
        self.ended = False
        self.abandoned = False

    def run(self, upload: Upload) -> None:
        """Up to the first piece of the result, or to the end of an INSERT. Raises DoorFault."""
        try:
            if self.abandoned:
                raise DoorFault(394, "QUERY_WAS_CANCELLED", "Query was cancelled.")
            if self._ask.session_id:
                with _borrowed_settings(self._connection, self._ask):
                    self._run(upload)
            else:
                _apply(self._connection, self._ask)
                self._run(upload)
        finally:
            upload.close()

    def _run(self, upload: Upload) -> None:
        ask = self._ask
        body = upload.head()
        text = b"\n".join(part for part in (ask.query, body) if part)
        cut = upload.size > HEAD_BYTES
        statement = read_statement(text, whole=not cut)
        if statement.with_data:
            self._insert(text, statement, upload, body_at=len(text) - len(body))
            return
        if cut:
            text = text[: len(text) - len(body)] + upload.read()
            statement = read_statement(text)
        if not text.strip():
            raise faults.syntax_error("Empty query.")
        kind = _judge(self._connection, ask, text, reads=statement.reads)
        self.format = statement.format or ask.default_format or TSV
        self._select_or_do(text, statement, parsed=kind != "UNKNOWN")

    def _insert(self, text: bytes, statement: Statement, upload: Upload, body_at: int) -> None:
        """Rows that came with an INSERT: through a file, as the engine reports the errors of this way alone."""
        head = text[: statement.data_at]
        _judge(self._connection, self._ask, head)
        in_query = text[statement.data_at : max(statement.data_at, body_at)]
        rest = upload.after(max(statement.data_at - body_at, 0), before=in_query)
        try:
            clause = f" FROM INFILE '{rest.path}' COMPRESSION 'none' ".encode()
            sql = head[: statement.file_at] + clause + head[statement.file_at :]
            self._count(self._connection.query(sql, TSV, self._ask.parameters))
            self.ended = True
        finally:
            rest.close()

    def _select_or_do(self, text: bytes, statement: Statement, *, parsed: bool) -> None:
        lower = self.format.lower()
        extras = statement.extra_rows or "extremes" in self._ask.settings
        # In a session the settings are put back before the stream ends, so it is read at once.
        streams = statement.reads and parsed and not self._ask.session_id and not self._ask.wait_end
        if streams and (lower in _PLAIN or (lower in _WITH_EXTRAS and not extras)):
            self.cancellable = True
            try:
                self._stream = self._connection.stream(self._marked(text), self.format, self._ask.parameters)
                self._pieces = self._streamed()
                self.first = self.next_piece()
            except DoorFault as fault:
                if _NO_STREAM not in fault.message:
                    raise
            else:
                return
        # The engine shows positions and rests of what it cannot parse: those should be the client's own.
        self.cancellable = statement.reads and parsed
        sql = self._marked(text) if self.cancellable else text
        result = self._connection.query(sql, self.format, self._ask.parameters)
        self._count(result)
        self._pieces = _slices(result)
        self.first = self.next_piece()

    def _marked(self, text: bytes) -> bytes:
        return text + b"\n" + self.marker.encode()

    def _streamed(self) -> Iterator[bytes]:
        while True:
            with translated():
                piece = self._stream.fetch()
            if piece is None:
                return
            self._count(piece)
            yield piece.bytes()

    def _count(self, result: Result) -> None:
        self._counted["read_rows"] += result.storage_rows_read()
        self._counted["read_bytes"] += result.storage_bytes_read()
        self._counted["written_rows"] += result.rows_written()
        self._counted["written_bytes"] += result.bytes_written()
        self._counted["result_rows"] += result.rows_read()

    def next_piece(self) -> bytes:
        """More of the body, packed if that was agreed; with `ended` set, the last of it. Raises DoorFault."""
        packed = bytearray()
        while not self.ended and len(packed) < PIECE_BYTES:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
                packed += self._packer.finish() if self._packer else b""
            else:
                packed += self._packer.pack(piece) if self._packer else piece
        return bytes(packed)

    def summary(self) -> str:
        """The X-ClickHouse-Summary header as far as it is known: not all of a stream's rows are yet.

        `written_rows` counts the rows of materialized views too, as in the real server.
        """
        names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "result_rows")
        numbers = {name: self._counted[name] for name in names}
        numbers["total_rows_to_read"] = numbers["read_rows"]
        numbers["result_bytes"] = len(self.first)
        numbers["elapsed_ns"] = time.monotonic_ns() - self._started_ns
        return json.dumps({name: str(number) for name, number in numbers.items()}, separators=(",", ":"))

    def close(self) -> None:
        """Let go of the result; a stream that is not at its end is cancelled."""
        if self._stream is not None and not self.ended:
            with translated():
                self._stream.cancel()
        self._pieces = iter(())
        self._stream = None


def _slices(result: Result) -> Iterator[memoryview]:
    owner = result.get_memview()
    whole = memoryview(owner.view())
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def _judge(connection: Connection, ask: Ask, text: bytes, *, reads: bool = False) -> str:
    """Refuse what the door does not let through; the engine's opinion of the text. Raises 497, 62, 164."""
    refuse_local_files(text)
    kind, statements = connection.kind_of(text.decode("utf-8", "replace"))
    if reads and kind == "CONTROL":
        raise faults.access_denied("A query that writes outside the engine is refused.")
    if statements > 1:
        raise faults.syntax_error("Multi-statements are not allowed.")
    if ask.session_id and kind not in {"READ_ONLY", "UNKNOWN"} and not _writes_allowed(ask):
        # The engine cannot take readonly back from a session, so the door keeps it.
        raise faults.read_only("Cannot execute query in readonly mode. For queries that write use POST.")
    return kind


def _writes_allowed(ask: Ask) -> bool:
    return ask.may_write and ask.settings.get("readonly", "0") == "0"


def _apply(connection: Connection, ask: Ask) -> None:
    """Database and settings of a connection that lives for this request. Raises 81, 115, 452 and others."""
    if ask.database:
        connection.query(f"USE {_identifier(ask.database)}")
    settings = dict(ask.settings)
    if not ask.may_write and settings.get("readonly", "0") == "0":
        settings["readonly"] = "2"
    _set(connection, settings)


def _set(connection: Connection, settings: dict[str, str]) -> None:
    # readonly goes last: nothing can be set after it.
    ordered = sorted(settings.items(), key=lambda item: item[0] == "readonly")
    if ordered:
        connection.query("SET " + ", ".join(f"{name} = {_literal(value)}" for name, value in ordered))


@contextmanager
def _borrowed_settings(connection: Connection, ask: Ask) -> Iterator[None]:
    """Settings of one request on a connection that outlives it: put back afterwards, as the real server does."""
    settings = {name: value for name, value in ask.settings.items() if name != "readonly"}
    names = ", ".join(_literal(name) for name in settings)
    before = []
    if settings:
        listed = connection.query(f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})")  # noqa: S608 - literals are quoted
        before = [line.split("\t") for line in listed.bytes().decode().splitlines()]
    database = connection.query("SELECT currentDatabase()", "TabSeparatedRaw").bytes().decode().rstrip("\n")
    try:
        if ask.database:
            connection.query(f"USE {_identifier(ask.database)}")
        _set(connection, settings)
        yield
    finally:
        if ask.database:
            connection.query(f"USE {_identifier(database)}")
        # TabSeparated escapes as a string literal does, but for the quote itself, which it escapes too.
        back = [f"{name} = '{value}'" if changed == "1" else f"{name} = DEFAULT" for name, value, changed in before]
        if back:
            connection.query("SET " + ", ".join(back))


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(value: str) -> str:
    return "`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`"
