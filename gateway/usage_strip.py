r"""An event stream without what asking for its usage added to it. Incremental and pure.

In: the bytes of a chat completions stream, cut anywhere. Out: the bytes for a client that did not ask:

1. without the event whose chunk has no choices and a usage, as a whole; comments that stand in it stay;
2. without the member `"usage":null` that every other chunk has, with one comma; every other byte is the same.

An event goes on as soon as it is complete; only an unfinished one is held back. What is not recognisably added goes
through as it came, and `unsure` says if there was such a thing: a usage beside choices, one that no parser finds again,
an event over the limit, a line end that providers do not use. Never raises.

Where a chunk has the word once, the member is known to be at the top if the rest of the event, put behind a brace and
the member, is JSON: were it nested, there would be a bracket too many; in a string its quotes would be escaped. That
costs a part of parsing the chunk, and text in it that only lenient parsers read does not matter. (Where brackets are
missing, nobody can say what is at the top.)
"""

import re
from itertools import islice
from typing import Final

import msgspec

LONGEST_EVENT_BYTES: Final = 1024 * 1024
"""Of an unfinished event. Chunks have a few hundred bytes, with sound or a whole tool call up to some 100 KiB."""
_DATA: Final = b"data:"
_KEY: Final = b'"usage"'
_USUAL: Final = b',"usage":null'
_OPENED: Final = b'{"usage":null'
_EVENT_END: Final = re.compile(rb"\n\r?\n")
_LONE_CR: Final = re.compile(rb"\r[^\n]")
"""Ends a line for those who read events; no provider uses it."""
_STOP: Final = re.compile(rb"\n\r?\n|\r[^\n]")
_STOP_BYTES: Final = 3
_MEMBER: Final = re.compile(rb'"usage"[ \t]*:[ \t]*null[ \t]*')
_COMMA: Final = re.compile(rb",[ \t]*")
_MOST_PLACES: Final = 8
"""Where the member is looked for in a chunk that has the word several times. Each costs a parse."""


class _Rest(msgspec.Struct, frozen=True, gc=False):
    pass


class _Chunk(msgspec.Struct, frozen=True, gc=False):
    choices: list[msgspec.Raw]
    usage: msgspec.Raw = msgspec.Raw(b"")
    error: None = None


_decode_rest: Final = msgspec.json.Decoder(_Rest).decode
_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class UsageStrip:
    """Strips one stream."""

    __slots__ = ("_held", "_passes", "unsure")

    def __init__(self) -> None:
        self._held = bytearray()
        """An unfinished event."""
        self._passes = False
        """Whether the rest goes through."""
        self.unsure = False
        """Whether something went through that may have been added."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; what goes to the client now."""
        if self._passes:
            return data
        held, at = self._held, 0
        returns = b"\r" in data
        if not (held or returns) and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n"):
            # One event of one line is how most come.
            return self._stripped(data)
        if held:
            at = max(len(held) - _STOP_BYTES + 1, 0)
            held += data
            if len(held) <= LONGEST_EVENT_BYTES and _STOP.search(held, at) is None:
                return b""
            returns = returns or held[at : at + _STOP_BYTES].count(b"\r") > 0
            data = bytes(held)
            held.clear()
        strange = _LONE_CR.search(data, at) if returns else None
        pieces, begin = [], 0
        for end in _EVENT_END.finditer(data, at, strange.start() if strange else len(data)):
            pieces.append(self._stripped(data[begin : end.end()]))
            begin = end.end()
        rest = data[begin:]
        if strange or len(rest) > LONGEST_EVENT_BYTES:
            pieces.append(self._pass(rest))
        else:
            held += rest
        return b"".join(pieces)

    def end(self) -> bytes:
        """What was held back of an event that nothing follows."""
        rest = bytes(self._held)
        self._held.clear()
        return self._stripped(rest)

    def _pass(self, data: bytes) -> bytes:
        self._passes = self.unsure = True
        return data

    def _stripped(self, event: bytes) -> bytes:
        at = event.rfind(_USUAL)
        if at >= 0 and event.startswith(_DATA) and event.find(b"\n", 0, at) < 0 and event.find(_KEY, 0, at) < 0:
            rest = event[at + len(_USUAL) :]
            try:
                _decode_rest(_OPENED + rest)
            except (ValueError, RecursionError):
                pass
            else:
                return event[:at] + rest
        return self._looked_into(event) if _KEY in event else event

    def _looked_into(self, event: bytes) -> bytes:
        """An event that is not the usual one, read as a whole."""
        chunk = _chunk_in(event)
        if chunk is not None:
            usage = bytes(chunk.usage)
            if not usage:
                # Further down: the provider's own.
                return event
            if usage.startswith(b"{") and not chunk.choices:
                return _comments_of(event)
            if usage == b"null":
                for place in islice(_MEMBER.finditer(event), _MOST_PLACES):
                    kept = _cut(event, place.start())
                    left = None if kept is None else _chunk_in(kept)
                    if kept is not None and left is not None and not bytes(left.usage):
                        return kept
        self.unsure = True
        return event


def _cut(event: bytes, at: int) -> bytes | None:
    """The event without the member `"usage":null` there and one comma; None if there is none to be cut."""
    member = _MEMBER.match(event, at)
    if member is None:
        return None
    before = event[:at].rstrip(b" \t")
    if before.endswith(b","):
        return before[:-1] + event[member.end() :]
    comma = _COMMA.match(event, member.end())
    return event[:at] + event[comma.end() :] if comma and before.endswith(b"{") else None


def _chunk_in(event: bytes) -> _Chunk | None:
    """What an event's data says; None if it is no chunk, or an error."""
    data = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    try:
        return _decode_chunk(b"\n".join(data))
    except (ValueError, RecursionError):
        return None


def _comments_of(event: bytes) -> bytes:
    """What of an event's lines belongs to no event: comments, and empty lines before it."""
    lines = event.splitlines(keepends=True)
    if not lines[-1].strip():
        lines.pop()
    return b"".join(line for line in lines if line[:1] in {b":", b"\r", b"\n"})
