r"""Another model's name put where a request names its own: in a JSON body, in a path. `form_edit` does forms.

In: the bytes (or the raw target) as the client sent them, and the new name: 1 byte to 1 KiB of valid UTF-8. Out: the
same with no other byte changed, or None where that cannot be done safely; the request then goes out as it came. Never
raises. What `json_facts` and `model_in_path` read from an edited request is the new name, and all else as before.

Where a JSON body has its model is asked of the parser, which skips what is not asked for at the speed of C:

1. It finds a model at the top, and none once a letter of one key was changed: then that key is at the top and the only
   one, however it may be spelled elsewhere and whatever has a model further down. This is what SDKs send.
2. Else every place that may be such a key is given a name of its own, which nothing else in the body can mean, and
   the parser is asked which of these names are at the top. Where a key ended and its colon stood, a key ends and a
   colon stands, so nothing else is read differently.
3. The parser is strict. A body that only lenient ones read (NaN, half surrogate pairs, broken UTF-8 in a key) is asked
   about in a strict copy, in which every byte has kept its place.

`json_facts` builds what it reads: in a body nested nearly as deep as parsers go it may see none, and this room one.
"""

import re
from itertools import islice
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.headers import clean_value
from gateway.request_body import model_in_path, model_place

_KEY: Final = b'"model"'
_KEY_ESCAPE: Final = b"\\u006"
"""Begins the escape of every letter of `model`."""
_COLON: Final = rb"[ \t\r\n]*:[ \t\r\n]*"
_MEMBER: Final = re.compile(_KEY + _COLON)
_ESCAPED_MEMBER: Final = re.compile(
    rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"' + _COLON
)
_BEGINNING_BYTES: Final = 256
"""SDKs have the model at the body's beginning or its end, and tools, which may have one too, in between."""
_MOST_KEYS: Final = 1_000
"""Keys named `model` at any depth. Each costs about a microsecond, and 2 MiB have room for 200,000."""
_MARKS: Final = tuple(b"\\u000%d" % sign for sign in range(1, 8))
"""Signs that JSON strings cannot hold but in this one spelling: a body without it has no string with the sign."""

_NOT_HIGH: Final = bytes(sign if sign < 0x80 else ord("?") for sign in range(256))  # noqa: PLR2004 - ASCII's end
_LENIENT: Final = (
    # An array of nothing stands wherever a value may, and like NaN it makes no number together with its neighbours.
    (b"-Infinity", b"[       ]"),
    (b"Infinity", b"[      ]"),
    (b"NaN", b"[ ]"),
    # Halves of surrogate pairs become signs outside ASCII that need no other half.
    (b"\\ud", b"\\u1"),
    (b"\\uD", b"\\u1"),
)
"""What lenient parsers take, and something as long that strict ones take at the same places and at no others."""


class _Named(msgspec.Struct, frozen=True, gc=False):
    model: msgspec.Raw = msgspec.Raw(b"")
    """The last one of duplicates."""


_decode_named: Final = msgspec.json.Decoder(_Named).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Spans = list[tuple[int, int]]
"""Beginning and end of each value to replace (in JSON with its quotes), in order."""


def replace_model(body: bytes | bytearray, model: str) -> bytes | None:
    """The body with another top-level `model`, wherever it has it; None if there is none or one is no string."""
    if not is_model_name(model):
        return None
    try:
        values = _model_values(body)
    except (msgspec.ValidationError, RecursionError):
        return None
    except ValueError:
        try:
            values = _model_values(_strict_copy(body))
        except (ValueError, RecursionError):
            return None
    return put_in(body, values, msgspec.json.encode(model)) if values else None


def is_model_name(model: str) -> bool:
    """Whether it can be written into a request and read from it again."""
    return model != "" and clean_value(model) == (model, False)


def put_in(body: bytes | bytearray, spans: Spans, value: bytes) -> bytes:
    """The body with `value` at each place."""
    pieces: list[bytes | memoryview] = []
    at = 0
    with memoryview(body) as view:
        for start, end in spans:
            pieces += (view[at:start], value)
            at = end
        pieces.append(view[at:])
        return b"".join(pieces)


def _model_values(body: bytes | bytearray) -> Spans:
    """The values of the top-level key `model`; empty if it is not there or one is no string.

    Raises ValueError (msgspec.ValidationError: JSON, but no object) or RecursionError.
    """
    value = bytes(_decode_named(body).model)
    if not value.startswith(b'"'):
        return []
    return _lone_value(body, len(value)) or _marked_values(body)


def _lone_value(body: bytes | bytearray, value_bytes: int) -> Spans:
    """Case 1: the value of the only key, for a body in which a value of so many bytes was found; empty if unsure."""
    at = body.find(_KEY, 0, _BEGINNING_BYTES)
    if at < 0:
        at = body.rfind(_KEY)
    member = _MEMBER.match(body, at) if at >= 0 else None
    if member is None or bytes(_decode_named(put_in(body, [(at + 1, at + 2)], b"M")).model):
        return []
    return [(member.end(), member.end() + value_bytes)]


def _marked_values(body: bytes | bytearray) -> Spans:
    """Case 2: the values of all keys at the top, found by a name for each place of the key."""
    member = _ESCAPED_MEMBER if _KEY_ESCAPE in body else _MEMBER
    places = list(islice(member.finditer(body), _MOST_KEYS + 1))
    mark = next((mark for mark in _MARKS if mark not in body), None)
    if len(places) > _MOST_KEYS or mark is None:
        return []
    pieces: list[bytes | bytearray] = []
    at = 0
    for number, place in enumerate(places):
        pieces += (body[at : place.start()], b'"%b%d":' % (mark, number))
        at = place.end()
    pieces.append(body[at:])
    members = _decode_members(b"".join(pieces))
    sign = chr(int(mark[-1:]))
    values = []
    for number, place in enumerate(places):
        raw = members.get(f"{sign}{number}")
        if raw is None:
            continue
        value = bytes(raw)
        if not value.startswith(b'"'):
            return []
        values.append((place.end(), place.end() + len(value)))
    return values


def _strict_copy(body: bytes | bytearray) -> bytes:
    """Case 3: as long as the body, and strict JSON exactly if lenient parsers read the body."""
    copy = bytes(body.translate(_NOT_HIGH))
    for lenient, strict in _LENIENT:
        copy = copy.replace(lenient, strict)
    return copy


_NO_NAME: Final = re.compile(r"[:/]|%3[Aa]|\Z")
"""What a path has in place of a model's name if there is none: a verb, what follows a name, nothing."""


def replace_path_model(target: str, model: str) -> str | None:
    """A raw request target with another model in its path, percent-encoded; None if the path names none.

    Google's tuned models have a collection of their own: from and to them its name is replaced as well.
    """
    place = model_place(target)
    if place is None or not is_model_name(model):
        return None
    collection, start, end = place
    if target.startswith("/operations/", end):
        return None
    plain = model if collection == "deployments/" else model.removeprefix("tunedModels/")
    # Dots alone would lead up the path.
    if _NO_NAME.match(target[start:end]) or not plain.strip("."):
        return None
    name = quote(plain, safe="")
    if collection != "deployments/":
        start -= len(collection)
        name = ("models/" if plain == model else "tunedModels/") + name
    edited = target[:start] + name + target[end:]
    return edited if model_in_path(edited) == model else None
