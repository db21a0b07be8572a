"""What msgspec says of a value that is not of its type, for people. Pure.

In: its error, and the type that was asked for. Out: the field, and what is expected there. What is expected is read
from the type, of the error's text only what the type does not know: the place, and what was given.
"""

import re
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect

_PLACE: Final = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(
    r"Object contains unknown field `(?P<name>.*?)`(?: - at `\$(?P<path>[A-Za-z0-9_.\[\]]*)`)?", re.DOTALL
)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_GOT: Final = re.compile(r"Expected .*, got `(.*)`", re.DOTALL)
_NO_CHOICE: Final = "Invalid enum value "
_STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[[0-9.]+\]")
_IN_MAP: Final = "[...]"
_SHOWN: Final = 60
"""Of a text that was sent."""
_GIVEN: Final = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number with decimals",
    "decimal": "a number with decimals",
    "str": "text",
    "array": "a list",
    "object": "an object",
    "date": "a date",
    "datetime": "a date and time",
    "time": "a time",
}
_UNQUOTED: Final = frozenset({"bool", "int", "float", "decimal", "date", "datetime", "time"})
"""What text becomes that stands in a file without its quotation marks."""


class Problem(NamedTuple):
    """One value that cannot be used."""

    field: str | None
    """Its way through the whole, like `failover[0].model`; None: the whole itself."""
    text: str
    """What is expected there."""

    def told(self, whole: str) -> str:
        """In one line; `whole` is what the whole is called."""
        return f"{self.field or whole}: {self.text}"


def problem_in(error: msgspec.ValidationError, kind: Any) -> Problem:
    """What is wrong with a value that could not be read as this type."""
    said, root = str(error), inspect.type_info(kind)
    if found := _UNKNOWN.fullmatch(said):
        return _unknown(said, root, found)
    place = _PLACE.fullmatch(said)
    what, path, is_key = (place["what"], place["path"] or "", bool(place["key"])) if place else (said, "", False)
    at = _type_at(root, path)
    if found := _MISSING.fullmatch(what):
        field = _field(f"{path}.{found[1]}")
        return Problem(field, f"it is missing; give {_expected(_type_at(at, f'.{found[1]}'))}")
    if is_key:
        at = _keys_of(at)
    given, hint = _given(what, at)
    text = f"expected {_expected(at, or_null=_GOT.fullmatch(what) is not None)}{given}{hint}"
    if is_key:
        return Problem(_field(path), f"a name in it: {text}")
    if path.endswith(_IN_MAP):
        return Problem(_field(path.removesuffix(_IN_MAP)), f"a value in it: {text}")
    return Problem(_field(path), text)


def _unknown(said: str, root: inspect.Type | None, found: re.Match[str]) -> Problem:
    name, path = found["name"], found["path"] or ""
    at = _bare(_type_at(root, path))
    if not isinstance(at, inspect.StructType):
        # What looks like a place is the end of a name that somebody sent.
        name, path, at = said.partition("`")[2].removesuffix("`"), "", _bare(root)
    known = [field.encode_name for field in at.fields] if isinstance(at, inspect.StructType) else []
    return Problem(
        _field(f"{path}.{_short(name) or repr('')}"), f"there is no such field; there are {', '.join(known) or 'none'}"
    )


def _field(path: str) -> str | None:
    return path.removeprefix(".") or None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _given(what: str, at: inspect.Type | None) -> tuple[str, str]:
    """What was given, where that is known, and how to mend it, where that is plain."""
    if what.startswith(_NO_CHOICE):
        return f", got {_short(what.removeprefix(_NO_CHOICE))}", ""
    found = _GOT.fullmatch(what)
    if found is None:
        return "", ""
    is_text = isinstance(_bare(at), inspect.StrType) and found[1] in _UNQUOTED
    return f", got {_GIVEN.get(found[1], found[1])}", ": write it in quotes" if is_text else ""


def _bare(kind: inspect.Type | None) -> inspect.Type | None:
    """A type without what is said about it, and without that it may be null."""
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            kind = kind.type
        else:
            kind = next((one for one in kind.types if not isinstance(one, inspect.NoneType)), None)
    return kind


def _type_at(kind: inspect.Type | None, path: str) -> inspect.Type | None:
    """The type at a place in another one; None where that has no such place."""
    for step in _STEP.finditer(path):
        kind = _bare(kind)
        if isinstance(kind, inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == step["name"]), None)
        elif isinstance(kind, inspect.VarTupleType | inspect.ListType) and step["name"] is None:
            kind = kind.item_type
        elif isinstance(kind, inspect.DictType) and step["name"] is None:
            kind = kind.value_type
        else:
            return None
    return kind


def _keys_of(kind: inspect.Type | None) -> inspect.Type:
    kind = _bare(kind)
    return kind.key_type if isinstance(kind, inspect.DictType) else inspect.StrType()


def _expected(kind: inspect.Type | None, *, or_null: bool = False) -> str:  # noqa: PLR0911 - one line for each type
    """What values of a type are; that null is one too is only said if asked for."""
    match kind:
        case inspect.Metadata():
            said = (kind.extra or {}).get("expected")
            return str(said) if said else _expected(kind.type, or_null=or_null)
        case inspect.UnionType():
            kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            null = ["null"] if or_null and len(kinds) < len(kind.types) else []
            return " or ".join([*map(_expected, kinds), *null])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType() | inspect.DecimalType():
            return f"a number{_bounds(kind) if isinstance(kind, inspect.FloatType) else ''}"
        case inspect.StrType():
            return f"text{_lengths(kind, ' characters')}"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.VarTupleType() | inspect.ListType():
            return f"a list{_lengths(kind, '')}"
        case inspect.StructType() | inspect.DictType():
            return "an object"
    return "another value"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {_number(kind.ge)} to {_number(kind.le)}"
    words = (("of at least", kind.ge), ("above", kind.gt), ("of at most", kind.le), ("below", kind.lt))
    said = " and ".join(f"{word} {_number(bound)}" for word, bound in words if bound is not None)
    return f" {said}" if said else ""


def _number(bound: float) -> str:
    return str(int(bound) if bound == int(bound) else bound)


def _lengths(kind: inspect.StrType | inspect.VarTupleType | inspect.ListType, unit: str) -> str:
    if kind.min_length and kind.max_length:
        return f" of {kind.min_length} to {kind.max_length}{unit}"
    words = (("at least", kind.min_length), ("at most", kind.max_length))
    return "".join(f" of {word} {bound}{unit}" for word, bound in words if bound)
