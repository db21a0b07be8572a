"""Usage asked for on behalf of clients that did not: `stream_options.include_usage` put into a chat request.

In: the steps to try, the body as the client sent it. Out: the steps, those asking that would be told no usage
otherwise. An edited body has one insertion and no other byte changed; whatever is unsure goes out as it came: a client
that said no, keys that stand twice, JSON that only lenient parsers read. Never raises. `usage_strip` takes out of the
answer what this added to it.

OpenAI, Azure, and Anthropic's compatible side report a stream's usage only if asked. Groq and Gemini do so in any case:
they are not asked. Where a key stands is asked of the parser, as in `model_edit`: it finds the key at the top, and none
once a letter of it was changed at one place: then that place is the only one at the top.
"""

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.model_edit import put_in
from gateway.routes import route_of
from shared.organisation import ALL_FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.destination import Way
    from gateway.redirect import Step
    from shared.organisation import Org

_SILENT_UNASKED: Final = frozenset({"openai", "azure", "anthropic"})
_CHAT: Final = "/chat/completions"
_COLON: Final = rb"[ \t\r\n]*:[ \t\r\n]*"
_STREAMS: Final = re.compile(rb'"stream"' + _COLON + rb"true")
_OPTIONS: Final = re.compile(rb'"stream_options"' + _COLON + rb"\{")
_MOST_PLACES: Final = 4
"""Where the key is looked for, tools that have a property of its name included. Each costs a parse of the body."""
_ACCEPTED: Final = re.compile(rb"\r\n(accept-encoding):[^\r]*", re.IGNORECASE)


class _Asked(msgspec.Struct, frozen=True, gc=False):
    stream: msgspec.Raw = msgspec.Raw(b"")
    stream_options: msgspec.Raw = msgspec.Raw(b"")


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def wants_usage(org: "Org", feature: str) -> bool:
    """Whether streams of this feature are to be asked for their usage."""
    return feature in org.usage_features or ALL_FEATURES in org.usage_features


def asking_for_usage(steps: "Sequence[Step]", held: bytes | bytearray, target: str) -> "Sequence[Step]":
    """The steps, those edited that ask for a stream of chat completions and would be told no usage.

    `held` is the client's body, all of it JSON, `target` its raw request target.
    """
    route = route_of(target.partition("?")[0])
    if route is None or route.endpoint != _CHAT:
        return steps
    return tuple(_asking(step, held) if step.provider in _SILENT_UNASKED else step for step in steps)


def _asking(step: "Step", held: bytes | bytearray) -> "Step":
    body = with_usage(held if step.body is None else step.body)
    if body is None:
        return step
    return msgspec.structs.replace(step, body=body, way=_readable(step.way), asks_usage=True)


def _readable(way: "Way") -> "Way":
    """The way with header lines that ask for an answer in no encoding: what is encoded cannot be edited."""
    before, some_before = _ACCEPTED.subn(rb"\r\n\1: identity", way.lines_before)
    after, some_after = _ACCEPTED.subn(rb"\r\n\1: identity", way.lines_after)
    if not some_before and not some_after:
        after += b"\r\nAccept-Encoding: identity"
    return msgspec.structs.replace(way, lines_before=before, lines_after=after)


def with_usage(body: bytes | bytearray) -> bytes | None:
    """The body of a chat request, asking for its stream's usage; None if it asks for no stream, or cannot be edited."""
    try:
        asked = _decode_asked(body)
        if bytes(asked.stream) != b"true" or _lone(body, _STREAMS, "stream") is None:
            # The option is an error in a request for no stream.
            return None
        options = bytes(asked.stream_options)
        if not options:
            at = body.index(b"{") + 1
            return put_in(body, [(at, at)], b'"stream_options":{"include_usage":true},')
        members = _decode_members(options)
        place = None if "include_usage" in members else _lone(body, _OPTIONS, "stream_options")
        if place is None:
            return None
        member = b'"include_usage":true,' if members else b'"include_usage":true'
        return put_in(body, [(place.end(), place.end())], member)
    except (ValueError, RecursionError):
        return None


def _lone(body: bytes | bytearray, member: re.Pattern[bytes], key: str) -> re.Match[bytes] | None:
    """Where the only top-level key of this name stands; None if unsure. Raises ValueError, RecursionError."""
    for place in islice(member.finditer(body), _MOST_PLACES):
        letter = place.start() + 1
        if not bytes(getattr(_decode_asked(put_in(body, [(letter, letter + 1)], b"S")), key)):
            return place
    return None
