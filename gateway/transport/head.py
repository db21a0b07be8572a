"""The head of a provider's answer: checked, kept byte for byte, read for its framing and for a few fields.

In: the bytes up to and including the empty line. Out: an AnswerHead. Raises MalformedAnswer. No I/O.
"""

import re
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.transport.framing import Chunked, Framing, Length, MalformedAnswer, UntilClose

LONGEST_HEAD_BYTES: Final = 256 * 1024
"""A provider that never ends its head must not fill our memory; the largest seen in the wild are below 16 KiB."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?+")
_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([\t\x20-\x7e\x80-\xff]*+)")
"""No bare CR or LF, no control character, and no folded line: obsolete, and read differently by different parsers."""
_READ: Final = frozenset(
    {b"content-type", b"content-encoding", b"content-length", b"transfer-encoding"}
    | {b"x-request-id", b"request-id", b"apim-request-id"}
)
_MOST_KNOWN_LINES: Final = 1024
_LARGEST_KNOWN_BYTES: Final = 4096
"""Providers make heads; what is remembered of their lines stays small."""
_OURS: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"})
"""Fields of the hop (RFC 9110 7.6.1). Transfer-Encoding is one too, but chunked bodies are handed on as they are."""
_NEVER_NAMED: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"close", b"keep-alive"}
)
"""A Connection field that names these would unframe or unname the body it came with; two are options, not names."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_BODILESS: Final = frozenset({204, 304})
_FIRST_FINAL: Final = 200
_SWITCHING: Final = 101


class AnswerHead:
    """What an answer begins with.

    `status_line` and `lines` are as received: `lines` is a block of header lines, each with its CRLF before it, without
    the hop's own fields but with Transfer-Encoding. `fields` has the values of some end-to-end fields by lower-case
    name (content-type, content-encoding, request ids), first values that are not
    empty.
    """

    __slots__ = ("_closes", "block", "fields", "framing", "lines", "status", "status_line")

    def __init__(
        self,
        *,
        block: bytes,
        status: int,
        status_line: bytes,
        lines: bytes,
        fields: dict[bytes, bytes],
        framing: Framing | None,
        closes: bool,
    ) -> None:
        self.block = block
        """All of it, with the empty line."""
        self.status = status
        self.status_line = status_line
        self.lines = lines
        self.fields = fields
        self.framing = framing
        """How the body ends; None when there is none."""
        self._closes = closes

    @property
    def reusable(self) -> bool:
        """Whether the connection may serve another request after this answer."""
        return not self._closes and not isinstance(self.framing, UntilClose)

    def for_client(self, *, v1_1: bool, keep_alive: bool) -> tuple[bytes, bool]:
        """The head for the client, and whether its connection stays open after the answer.

        As received but for the hop's fields: a body that ends with its connection does so at the client too, and a
        client of HTTP/1.0 gets no chunks.
        """
        lines = self.lines
        unframed = isinstance(self.framing, UntilClose)
        if isinstance(self.framing, Chunked) and not v1_1:
            lines = _without(lines, {b"transfer-encoding"})
            unframed = True
        keep_alive = keep_alive and not unframed
        if not keep_alive:
            lines += b"\r\nConnection: close"
        elif not v1_1:
            lines += b"\r\nConnection: keep-alive"
        return b"HTTP/1.1" + self.status_line[8:] + lines + b"\r\n\r\n", keep_alive

    def unsized(self) -> "AnswerHead":
        """The head of the same answer with a body that is edited on its way: without the length announced for it."""
        if not isinstance(self.framing, Length):
            return self
        return AnswerHead(
            block=self.block,
            status=self.status,
            status_line=self.status_line,
            lines=_without(self.lines, {b"content-length"}) + b"\r\nTransfer-Encoding: chunked",
            fields=self.fields,
            framing=Chunked(),
            closes=self._closes,
        )

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return isinstance(self.framing, Chunked)

    def value(self, name: bytes) -> str:
        """First value of one of `fields`, empty if it is not there."""
        return self.fields.get(name, b"").decode("latin-1")


class _Field(NamedTuple):
    line: bytes
    name: bytes
    """In lower case."""
    value: bytes
    """Without the white space around it."""


def _read_start(line: bytes) -> tuple[int, bool]:
    """The status, and whether the version is 1.0. Raises MalformedAnswer."""
    start = _STATUS_LINE.fullmatch(line)
    if start is None:
        raise MalformedAnswer("no HTTP/1 status line")
    return int(start[2]), start[1] == b"0"


def _read_field(line: bytes) -> _Field | None:
    """A field that is the hop's own or is read for something; None for any other. Raises MalformedAnswer."""
    field = _FIELD_LINE.fullmatch(line)
    if field is None:
        raise MalformedAnswer("a header line that is no field, or a control character, a bare CR or a bare LF")
    name = field[1].lower()
    return _Field(line, name, field[2].strip()) if name in _READ or name in _OURS else None


_known_start: Final = lru_cache(maxsize=_MOST_KNOWN_LINES)(_read_start)
_known_field: Final = lru_cache(maxsize=_MOST_KNOWN_LINES)(_read_field)
"""Most lines of a provider's head are those of the last one; checking them again would cost twice as much."""


def parse_head(block: bytes, method: str) -> AnswerHead:
    """Check and read a head that ends with an empty line. `method` is the request's. Raises MalformedAnswer."""
    kept = block.split(b"\r\n")
    # Of the end of the last line and the empty line.
    del kept[-2:]
    status_line = kept[0]
    usual = len(block) <= _LARGEST_KNOWN_BYTES
    status, old = (_known_start if usual else _read_start)(status_line)
    kept[0] = b""
    fields: dict[bytes, bytes] = {}
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    dropped: set[bytes] = set()
    for field in filter(None, map(_known_field if usual else _read_field, kept[1:])):
        line, name, value = field
        if name == b"content-length":
            lengths.append(value)
        elif name in _OURS:
            dropped.add(line)
            if name == b"connection":
                options.append(value.lower())
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif not fields.get(name):
            fields[name] = value
    lines = b"\r\n".join([line for line in kept if line not in dropped] if dropped else kept)
    closes = old
    if options == [b"keep-alive"]:
        closes = False
    elif options:
        named = {option.strip() for option in b",".join(options).split(b",")}
        closes = b"close" in named or (old and b"keep-alive" not in named)
        if named := named - _NEVER_NAMED:
            lines = _without(lines, named)
    return AnswerHead(
        block=block,
        status=status,
        status_line=status_line,
        lines=lines,
        fields=fields,
        framing=_framing(status, method, lengths, codings, old=old),
        closes=closes,
    )


def _framing(status: int, method: str, lengths: list[bytes], codings: list[bytes], *, old: bool) -> Framing | None:
    """How the body ends (RFC 9112 6.3), None for no body; stricter than the RFC where parsers differ."""
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise MalformedAnswer("ambiguous length: several Content-Length or Transfer-Encoding fields")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise MalformedAnswer("Content-Length is not a number")
    if codings and (codings[0] != b"chunked" or old):
        raise MalformedAnswer("a Transfer-Encoding other than chunked")
    if method == "HEAD" or status in _BODILESS or status < _FIRST_FINAL:
        return None
    if codings:
        return Chunked()
    if lengths:
        length_bytes = int(lengths[0])
        return Length(length_bytes) if length_bytes else None
    return UntilClose()


def is_interim(status: int) -> bool:
    """Whether another head follows this one."""
    return status < _FIRST_FINAL and status != _SWITCHING


def _without(lines: bytes, dropped: AbstractSet[bytes]) -> bytes:
    """The block of lines without the fields of these lower-case names."""
    kept = [line for line in lines.split(b"\r\n")[1:] if line.partition(b":")[0].lower() not in dropped]
    return b"".join([b"\r\n" + line for line in kept])
