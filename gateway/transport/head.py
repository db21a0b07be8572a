"""The head of a provider's answer: checked, kept byte for byte, read for its framing and for a few fields.

In: the bytes up to and including the empty line. Out: an AnswerHead. Raises MalformedAnswer. No I/O.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Final

from gateway.transport.framing import Chunked, Framing, Length, MalformedAnswer, UntilClose

LONGEST_HEAD_BYTES: Final = 256 * 1024
"""A provider that never ends its head must not fill our memory; the largest seen in the wild are below 16 KiB."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?+(?=\r\n)")
_FIELD_LINES: Final = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+)*+\r\n\r\n")
"""No bare CR or LF, no control character, and no folded line: obsolete, and read differently by different parsers."""
_FIELDS: Final = re.compile(
    rb"\r\n(connection|keep-alive|proxy-connection|te|transfer-encoding|upgrade|content-length|content-type"
    rb"|content-encoding|x-request-id|request-id|apim-request-id):([^\r]*)"
)
"""Searched for in lower case: ignoring case costs twice as much."""
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

    def value(self, name: bytes) -> str:
        """First value of one of `fields`, empty if it is not there."""
        return self.fields.get(name, b"").decode("latin-1")


def parse_head(block: bytes, method: str) -> AnswerHead:  # noqa: C901 - one pass, as it runs for every answer
    """Check and read a head that ends with an empty line. `method` is the request's. Raises MalformedAnswer."""
    start = _STATUS_LINE.match(block)
    if start is None:
        raise MalformedAnswer("no HTTP/1 status line")
    at = start.end()
    checked = _FIELD_LINES.match(block, at)
    if checked is None or checked.end() != len(block):
        raise MalformedAnswer("a header line that is no field, or a control character, a bare CR or a bare LF")
    version, digits = start.group(1, 2)
    status_line = block[:at]
    # The last line end and the empty line stay out: no field follows them.
    end = len(block) - 4
    fields: dict[bytes, bytes] = {}
    lengths: list[bytes] = []
    codings: list[bytes] = []
    tokens = b""
    kept: list[bytes] = []
    for found in _FIELDS.finditer(block.lower(), at, max(at, end)):
        name, value = found.group(1, 2)
        if name == b"content-length":
            lengths.append(value.strip())
        elif name in _OURS:
            line_start, line_end = found.span()
            kept.append(block[at:line_start])
            at = line_end
            if name == b"connection":
                tokens = tokens + b"," + value if tokens else value
        elif name == b"transfer-encoding":
            codings.append(value.strip())
        elif not fields.get(name):
            fields[name] = block[found.start(2) : found.end(2)].strip()
    lines = block[at:end]
    if kept:
        kept.append(lines)
        lines = b"".join(kept)
    old = version == b"0"
    closes = old
    if tokens and tokens.strip() != b"keep-alive":
        named = {token.strip() for token in tokens.split(b",")}
        closes = b"close" in named or (old and b"keep-alive" not in named)
        if named := named - _NEVER_NAMED:
            lines = _without(lines, named)
    elif tokens:
        closes = False
    status = int(digits)
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
