"""What a file declares, as the records that the registry holds; and records as such a file. Pure.

In: plain data, `{"orgs": {NAME: {"enabled": ..., "keys": [...], ...}}}`; each organisation has the fields of its
record, except its name and version. Out: Declared. What is wrong is found in one go, up to a bound; each problem names
the organisation, the field and the fix, and no secret.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from dashboard.declared.checks import Checked, checked, shared_keys
from dashboard.declared.faults import MOST_PROBLEMS, DeclarationFault, place_of, printable, problem_of
from shared.organisation import Org
from shared.registry import RegistryFault, check_org_name

_NOT_DECLARED: Final = frozenset({"org", "version"})
_ENOUGH_PROBLEMS: Final = 10 * MOST_PROBLEMS


class Declared(msgspec.Struct, frozen=True):
    """What a file says should be."""

    orgs: tuple[Org, ...]
    """In the order of the file; their versions mean nothing."""
    warnings: tuple[str, ...] = ()
    """They do what they say, which may not be what was meant."""


def read_document(document: Any, source: str) -> Declared:
    """Organisations of plain data; `source` is the file's name, for faults. Raises DeclarationFault."""
    if document is None:
        raise DeclarationFault(source, ["it is empty: begin with `orgs:`"])
    if not isinstance(document, dict) or not isinstance(document.get("orgs"), dict):
        raise DeclarationFault(source, ["orgs: give a map of organisations by name, like {acme: {keys: []}}"])
    problems = [
        f"{field or repr('')}: there is no such field; organisations stand under orgs"
        for field in document
        if field != "orgs"
    ]
    orgs: list[Org] = []
    warnings: list[str] = []
    for name, section in document["orgs"].items():
        found = _org_of(name, section)
        if isinstance(found, Checked):
            orgs.append(found.org)
            problems += found.problems
            warnings += found.warnings
        else:
            problems += found
        if len(problems) > _ENOUGH_PROBLEMS:
            break
    problems += shared_keys(orgs)
    if problems:
        raise DeclarationFault(source, problems)
    return Declared(tuple(orgs), tuple(f"{source}: {printable(warning)}" for warning in warnings))


def document_of(orgs: Iterable[Org]) -> dict[str, Any]:
    """Records as plain data of which `read_document` makes the same records, apart from their versions."""
    return {"orgs": {org.org: _section_of(org) for org in orgs}}


def _section_of(org: Org) -> dict[str, Any]:
    section: dict[str, Any] = msgspec.to_builtins(org, str_keys=True)
    return {"enabled": org.enabled} | {field: value for field, value in section.items() if field not in _NOT_DECLARED}


def _org_of(name: str, section: Any) -> Checked | list[str]:
    """The organisation, or what keeps it from being one."""
    place = place_of(name)
    try:
        check_org_name(name)
    except RegistryFault as fault:
        return [f"orgs: {fault}"]
    if not isinstance(section, dict):
        return [f"{place}: give a map of its fields; of an organisation without any, {{}}"]
    problems = [*_unknown_fields(section, _org_type(), place)]
    try:
        org = msgspec.convert({**section, "org": name, "version": 0}, Org)
    except msgspec.ValidationError as error:
        return [*problems, problem_of(error, place)]
    found = checked(org, place)
    return found._replace(problems=problems + found.problems)


@functools.cache
def _org_type() -> inspect.StructType:
    """Of Org, without what the file says in another place, or not at all."""
    kind = inspect.type_info(Org)
    if not isinstance(kind, inspect.StructType):
        raise TypeError(kind)
    fields = tuple(field for field in kind.fields if field.name not in _NOT_DECLARED)
    return msgspec.structs.replace(kind, fields=fields)


def _unknown_fields(value: Any, kind: inspect.Type, place: str) -> Iterator[str]:
    """Records pass over what they do not know, which a newer release may have written; in a file it is a mistake."""
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.name: field.type for field in kind.fields}
        for name, inner in value.items():
            if name in fields:
                yield from _unknown_fields(inner, fields[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}: there is no such field; there are {', '.join(fields)}"
    elif isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unknown_fields(inner, kind.item_type, f"{place}[{number}]")
    elif isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _unknown_fields(value, member, place)
