"""JSON from providers, as it really comes: lone surrogates, broken UTF-8, documents too long to keep.

In: bytes or an Excerpt. Out: plain Python values, or None when unreadable. Never raises.
"""

import json
import re
from typing import Any, Final

import msgspec

from gateway.usage.bounded import Excerpt

_decode_any: Final = msgspec.json.Decoder().decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_BULK: Final = frozenset({"data", "embedding", "embeddings", "b64_json", "words", "segments"})
"""Members that are large and tell nothing: vectors, pictures, transcripts."""

_SMALL_BYTES: Final = 16 * 1024
"""Below, building everything is cheaper than looking at each member's name."""

_TAIL_MEMBER: Final = re.compile(
    rb'"(?:model|modelVersion|usage|usageMetadata|status|stop_reason|service_tier|created)"\s*:'
)
_HEAD_MEMBER: Final = re.compile(rb'"(?:model|status|type)"\s*:\s*"[^"\\]{0,512}"')
_LAST_FINISH: Final = re.compile(rb'"(finish_reason|finishReason)"\s*:\s*"(\w{1,64})"')
_MAX_TRIES: Final = 32
"""Each try parses at most one end again, so this bounds the work."""


def decode_value(data: bytes) -> Any | None:
    """Return the JSON value in `data`; None if there is none. Lone surrogates survive, broken UTF-8 is replaced."""
    try:
        return _decode_any(data)
    except (ValueError, RecursionError):
        pass  # msgspec is strict; what follows is the lenient reader
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def decode_document(data: bytes) -> Any | None:
    """Like `decode_value`, but leaves out the bulky members of an object without building them."""
    if len(data) <= _SMALL_BYTES:
        return decode_value(data)
    try:
        members = _decode_members(data)
        return {name: _decode_any(raw) for name, raw in members.items() if name not in _BULK}
    except (ValueError, RecursionError):
        return decode_value(data)


def decode_series(data: bytes) -> list[Any]:
    """Return the elements of a JSON array that may be cut off, as far as they are whole."""
    text = data.decode("utf-8", "replace")
    decoder = json.JSONDecoder()
    elements: list[Any] = []
    at = text.find("[") + 1
    while at:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            element, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        elements.append(element)
    return elements


def salvage(excerpt: Excerpt) -> dict[str, Any]:
    """Return the members that can be proven to belong to a document's top level (or to its `response`).

    A member at the end does if `{` put before it makes the rest of the document valid JSON: were it nested deeper,
    there would be a bracket too many; were it inside a string, its quotes would be escaped. Likewise for the head.
    """
    found: dict[str, Any] = {}
    for tries, match in enumerate(_HEAD_MEMBER.finditer(excerpt.head)):
        start = excerpt.head[: match.end()].lstrip(b"[ \r\n\t")
        value = _first_object(start + b"}", start + b"}}")
        if value is not None:
            found = _merged(found, value)
        if tries == _MAX_TRIES:
            break
    tail = excerpt.tail.rstrip()
    if excerpt.head.lstrip().startswith(b"["):
        tail = tail.removesuffix(b"]").rstrip()
    for tries, match in enumerate(_TAIL_MEMBER.finditer(tail)):
        rest = tail[match.start() :]
        value = _first_object(b"{" + rest, b'{"response":{' + rest)
        if value is not None:
            found = _merged(found, value)
            break
        if tries == _MAX_TRIES:
            break
    finishes = _LAST_FINISH.findall(tail)
    if finishes:
        name, reason = (part.decode() for part in finishes[-1])
        found["choices" if name == "finish_reason" else "candidates"] = [{name: reason}]
    return found


def _first_object(*candidates: bytes) -> dict[str, Any] | None:
    for candidate in candidates:
        try:
            value = _decode_any(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _merged(found: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged = {**found, **more}
    if isinstance(found.get("response"), dict) and isinstance(more.get("response"), dict):
        merged["response"] = {**found["response"], **more["response"]}
    return merged
