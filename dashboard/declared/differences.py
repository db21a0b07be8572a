"""In which fields two records of an organisation differ, in short, for people. Pure.

Keys, rules and whatever else has a name are compared by it. A hash is shown by its first digits.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from dashboard.declared.faults import one_line, printable
from shared.organisation import Key, Org, Price

_LONGEST: Final = 80
_HASH_DIGITS: Final = 8
_NOT_COMPARED: Final = frozenset({"org", "version"})


class FieldChange(msgspec.Struct, frozen=True):
    """One field."""

    field: str
    """`limits.requests_per_s`, `keys[ci].enabled`."""
    old: str | None
    """None: it was not there, or not set."""
    new: str | None
    """None: it will not be there."""


def differences(old: Org, new: Org) -> tuple[FieldChange, ...]:
    """All of them; versions are not compared."""
    return tuple(
        change
        for name in Org.__struct_fields__
        if name not in _NOT_COMPARED
        for change in _compare(name, getattr(old, name), getattr(new, name))
    )


def _compare(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if old == new:
        return
    if isinstance(old, msgspec.Struct) and type(old) is type(new):
        for name in old.__struct_fields__:
            yield from _compare(f"{path}.{name}", getattr(old, name), getattr(new, name))
    elif isinstance(old, dict) and isinstance(new, dict):
        yield from _compare_members(path, old, new)
    elif (olds := _by_name(old)) is not None and (news := _by_name(new)) is not None:
        changes = list(_compare_members(path, olds, news))
        yield from changes or [FieldChange(path, _names(olds), _names(news))]
    else:
        yield FieldChange(path, _short(path, old), _short(path, new))


def _compare_members(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    for name in {**old, **new}:
        yield from _compare(f"{path}[{name}]", old.get(name), new.get(name))


def _by_name(records: Any) -> dict[str, Any] | None:
    """None where they have no names."""
    if not isinstance(records, tuple):
        return None
    found: dict[str, Any] = {}
    for record in records:
        if isinstance(record, Price):
            found[f"{record.provider}/{record.model} since {record.since_ms}"] = record
        elif isinstance(record, msgspec.Struct) and hasattr(record, "name"):
            found[str(record.name)] = record
        else:
            return None
    return found


def _names(records: Mapping[str, Any]) -> str:
    """Where they differ in nothing but their order."""
    return _cut(", ".join(records))


def _short(path: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Key):
        value = msgspec.structs.replace(value, sha256=_hash(value.sha256))
    elif isinstance(value, Decimal):
        return _cut(str(value))
    elif isinstance(value, str):
        if path.endswith(".sha256"):
            return _hash(value)
        # What is shown of a key is there to be shown; in any other text a key would be one by mistake.
        return _cut(one_line(value) if path.endswith(".shown") else printable(value))
    return _cut(msgspec.json.encode(value).decode())


def _hash(sha256: str) -> str:
    return f"{sha256[:_HASH_DIGITS]}..."


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
