"""What kind of statement a query text is, where an INSERT's data starts, and whether it names local files. Pure.

In: bytes of a query, or its first part when data follows. Out: a Statement, or a DoorFault. Parses no SQL beyond
tokens: the engine is the judge of syntax. The lexer follows ClickHouse's (nested comments, `//`, heredocs, curly
quotes), as a comment or string read differently here could hide a forbidden word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from deploy.local.clickhouse import faults

_LEXEMES = re.compile(
    rb"""
      (?P<skip>[ \t\r\n\f\v]++|(?:--|//|\#[ !])[^\n]*+)
    | (?P<comment>/\*)
    | (?P<string>'(?:[^'\\]++|\\.|'')*+'|\xe2\x80\x98.*?\xe2\x80\x99|(?P<tag>\$[^$]*+\$).*?(?P=tag))
    | (?P<quoted>`(?:[^`\\]++|\\.|``)*+`|"(?:[^"\\]++|\\.|"")*+"|\xe2\x80\x9c.*?\xe2\x80\x9d)
    | (?P<word>[A-Za-z0-9_$]++)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_SUSPECT = re.compile(rb"file|\\[xN]", re.IGNORECASE)
_DATA_START = re.compile(rb"[ \t\f]*\r?\n?")
_OPENING, _CLOSING = frozenset(b"([{"), frozenset(b")]}")
_READING: Final = frozenset({"SELECT", "WITH", "FROM", "("})


class Token(NamedTuple):
    """One significant piece of a query: kind as named in the lexer, its bytes, where it ends."""

    kind: str
    text: bytes
    end: int

    @property
    def keyword(self) -> str:
        """Upper case text of a bare word, else the sign, else empty."""
        return self.text.decode("ascii").upper() if self.kind == "word" else self.text.decode("latin-1")[:1]

    @property
    def start(self) -> int:
        """Where it starts."""
        return self.end - len(self.text)


@dataclass(frozen=True)
class Statement:
    """`with_data`: an INSERT whose rows follow at `data_at`; the file clause belongs at `file_at`.

    `format`: of the data, or of the result where the text names one. `reads`: can be a streamed SELECT.
    """

    format: str = ""
    with_data: bool = False
    file_at: int = 0
    data_at: int = 0
    reads: bool = False
    extra_rows: bool = False


def tokens(text: bytes) -> Iterator[Token]:
    """Significant tokens in order."""
    at = 0
    while found := _LEXEMES.match(text, at):
        at = found.end()
        kind = found.lastgroup or "sign"
        if kind == "tag":
            kind = "string"
        if kind == "comment":
            at = _comment_end(text, at)
        elif kind != "skip":
            yield Token(kind, found[0], at)


def _comment_end(text: bytes, at: int) -> int:
    depth = 1
    while edge := _COMMENT_EDGE.search(text, at):
        at = edge.end()
        depth += 1 if edge[0] == b"/*" else -1
        if depth == 0:
            return at
    return len(text)


def refuse_local_files(text: bytes) -> None:
    """Raise 497 if the text reads or writes files of this machine: INFILE, OUTFILE, the function `file`."""
    if not _SUSPECT.search(text):
        return
    before = ""
    for token in tokens(text):
        if token.kind == "quoted" and re.search(rb"\\[xN]", token.text):
            raise faults.access_denied(r"Quoted identifiers with \x or \N escapes are not accepted here.")
        if token.kind == "word" and (before, token.keyword) in {("FROM", "INFILE"), ("INTO", "OUTFILE")}:
            raise faults.access_denied(
                f"{before} {token.keyword} would touch files of the server; send or receive data."
            )
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        if token.text.startswith(b"\xe2"):
            name = token.text[3:-3]
        if name == b"file" and token.kind in {"word", "quoted"} and before != ".":
            raise faults.access_denied("The name `file` is refused: it is a function that reads files of the server.")
        before = token.keyword


def read_statement(text: bytes, *, whole: bool = True) -> Statement:
    """Recognise a statement. With `whole=False` the text is only the first part of a body.

    Raises 62 for a ';' between an INSERT's FORMAT and its data.
    """
    stream = tokens(text)
    first = next(stream, None)
    if first is None:
        return Statement()
    before, depth = first, int(first.text[0] in _OPENING)
    format_name, awaits_format, extra = "", False, False
    if first.keyword == "INSERT":
        return _read_insert(text, stream)
    for token in stream:
        if depth == 0 and (before.keyword, token.keyword) == ("INSERT", "INTO") and first.keyword == "WITH":
            return _read_insert(text, stream, after_into=True)
        if awaits_format:
            format_name, awaits_format = token.text.decode("ascii", "replace"), False
        elif depth == 0 and token.keyword == "FORMAT" and token.kind == "word":
            awaits_format = True
        extra = extra or token.keyword in {"TOTALS", "EXTREMES"}
        depth += (token.kind == "sign") * ((token.text[0] in _OPENING) - (token.text[0] in _CLOSING))
        before = token
    reads = whole and first.keyword in _READING
    return Statement(format=format_name, reads=reads, extra_rows=extra)


def _read_insert(text: bytes, stream: Iterator[Token], *, after_into: bool = False) -> Statement:
    """INSERT [INTO] [TABLE] name [(columns)] [SETTINGS …] FORMAT name, or VALUES, or SELECT."""
    if not _skip_target(stream, after_into=after_into):
        return Statement()
    depth, settings_at, previous_at, before = 0, 0, 0, ""
    for token in stream:
        if depth == 0 and token.kind == "word":
            if before == "FORMAT":
                return _data_after(text, token, settings_at or previous_at)
            if token.keyword in {"VALUES", "SELECT", "WITH", "WATCH"}:
                return Statement()
            if token.keyword == "SETTINGS":
                settings_at = settings_at or token.start
        previous_at = token.start
        depth += (token.kind == "sign") * ((token.text[0] in _OPENING) - (token.text[0] in _CLOSING))
        before = token.keyword if depth == 0 else ""
    return Statement()


def _skip_target(stream: Iterator[Token], *, after_into: bool) -> bool:
    """Pass the table's first name, which may be spelt like a keyword. False when there is none."""
    passed = {"TABLE"} if after_into else {"INTO", "TABLE"}
    for token in stream:
        if token.keyword not in passed:
            return token.keyword != "FUNCTION"
        passed = {"TABLE"} if token.keyword == "INTO" else set()
    return False


def _data_after(text: bytes, name: Token, file_at: int) -> Statement:
    if name.keyword == "VALUES":
        # The engine evaluates expressions in this format, so its rows are read as part of the query.
        return Statement()
    if text[name.end : name.end + 1] == b";":
        raise faults.syntax_error("There is a ';' between FORMAT and the data of the INSERT; remove it.")
    start = _DATA_START.match(text, name.end)
    return Statement(
        format=name.text.decode("ascii"),
        with_data=True,
        file_at=file_at,
        data_at=start.end() if start else name.end,
    )
