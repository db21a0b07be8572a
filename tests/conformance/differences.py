"""The differences that are allowed between a direct connection and the way through the gateway: this table, no other.

`answer_as_compared` and `request_as_compared` bring both runs of a case into the form in which they must be equal. The
table drives them: what is not in it is compared byte by byte.
"""

import fnmatch
from typing import Final, Literal, NamedTuple

from tests.conformance.client import Answer
from tests.conformance.provider import Request
from tests.conformance.wire import Head, name_of


class Allowed(NamedTuple):
    """One allowed difference."""

    where: Literal["answer", "request", "both"]
    what: str
    """A field's name (`*` as in file names), or one of the framing rules below the fields."""
    how: Literal["left out", "other value", "reframed"]
    reason: str


ALLOWED: Final = (
    Allowed("both", "connection", "left out", "hop-by-hop: about this connection, RFC 9110 7.6.1"),
    Allowed("both", "(named by connection)", "left out", "hop-by-hop because Connection says so"),
    Allowed("both", "keep-alive", "left out", "hop-by-hop: how long this connection is kept"),
    Allowed("both", "proxy-connection", "left out", "hop-by-hop: the old name of Connection"),
    Allowed("both", "te", "left out", "hop-by-hop: what this connection's peer can decode"),
    Allowed("both", "upgrade", "left out", "hop-by-hop: what this connection could become"),
    Allowed("request", "trailer", "left out", "trailers of an upload end at the gateway"),
    Allowed("request", "proxy-authorization", "left out", "for the first proxy, which the gateway is"),
    Allowed("request", "expect", "left out", "the gateway answers 100 itself, before a provider is chosen"),
    Allowed("request", "x-lectr-*", "left out", "for the gateway; carries its key"),
    Allowed("request", "host", "other value", "the client names the gateway, the gateway names the provider"),
    Allowed("request", "(chunked upload)", "reframed", "its length may be known when it is sent on"),
    Allowed("both", "(HTTP/1.0)", "other value", "the version is the hop's: the gateway speaks 1.1 to both sides"),
    Allowed("answer", "(ended by closing)", "reframed", "may become chunked, so that the client's connection is kept"),
    Allowed("answer", "(100)", "left out", "answers the Expect of a hop"),
)
"""To HTTP/1.0 clients a chunked answer goes without its chunks, and the auth rewrite for Anthropic and Azure moves
Authorization to another field: each has tests of its own, which say exactly what must come out."""

_OWN: Final = frozenset({b"connection: close", b"connection: keep-alive"})
"""Of the fields that stay on their hop, the gateway may send these itself, and no other."""
_FRAMING_FIELDS: Final = frozenset({b"transfer-encoding", b"content-length"})


class Compared(NamedTuple):
    """A message in the form in which both runs must agree."""

    interim: tuple[bytes, ...]
    start: bytes
    lines: tuple[bytes, ...]
    body: bytes


def answer_as_compared(answer: Answer, *, relayed: bool) -> Compared:
    """An answer without what may differ: the direct one loses what must not pass, the relayed one only our own fields.

    A body that the provider ends by closing is compared without the gateway's framing of it.
    """
    assert not answer.broken, answer
    head, body = answer.head, answer.body_wire
    lines = [line for line in head.lines if line.lower() not in _OWN] if relayed else _passing(head, "answer")
    interim = answer.interim if relayed else tuple(raw for raw in answer.interim if Head.of(raw).status != 100)
    return Compared(interim, _version_of_hop(head.start), tuple(lines), body)


def without_own_framing(answer: Answer) -> Answer:
    """A relayed answer whose provider ended it by closing, without the chunks that the gateway may have made."""
    own = b"\r\nTransfer-Encoding: chunked\r\n"
    if answer.broken or own not in answer.raw_head:
        return answer
    return Answer(answer.method, answer.interim, answer.raw_head.replace(own, b"\r\n"), answer.body, "")


def request_as_compared(request: Request, *, relayed: bool, chunked: bool) -> Compared:
    """A request as the provider got it, without what may differ. `chunked`: that was the client's framing."""
    head = request.head
    lines = [line for line in head.lines if line.lower() not in _OWN] if relayed else _passing(head, "request")
    kept = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if chunked and name.lower() in _FRAMING_FIELDS:
            continue
        # The white space around a request's field value is no part of it; an answer's is kept as it is.
        kept.append(name + colon + (b"" if _is(line, "request", "other value") else value.strip(b" \t")))
    return Compared((), _version_of_hop(head.start), tuple(kept), request.body)


def _passing(head: Head, where: str) -> list[bytes]:
    """The lines that must pass."""
    named = {token.strip().lower() for value in head.values(b"connection") for token in value.split(b",")}
    return [line for line in head.lines if name_of(line) not in named and not _is(line, where, "left out")]


def _is(line: bytes, where: str, how: str) -> bool:
    name = name_of(line).decode("latin-1")
    return any(
        row.how == how and row.where in {where, "both"} and fnmatch.fnmatchcase(name, row.what) for row in ALLOWED
    )


def _version_of_hop(start: bytes) -> bytes:
    return start.replace(b"HTTP/1.0", b"HTTP/1.1")
