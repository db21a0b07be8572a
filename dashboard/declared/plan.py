"""What would have to be done so that the registry holds what a file declares. Pure.

In: what is declared, what is known, and whether what is not declared is to be disabled (`prune`). Out: a Plan. Versions
are compared with nothing; they are kept with each change, so that what changed after the plan was made is not lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from dashboard.declared.differences import FieldChange, differences
from shared.organisation import Key, Org
from shared.registry import RegistryFault

Doing = Literal["create", "change", "disable"]
_LONGEST_ACTION: Final = 300
_ENABLED: Final = "enabled"


class PlanFault(RegistryFault):
    """What is declared cannot be brought about here; each line of the text is one reason, with its fix."""


class Change(msgspec.Struct, frozen=True):
    """What becomes of one organisation."""

    org: str
    doing: Doing
    """`disable`: the file does not declare it."""
    fields: tuple[FieldChange, ...]
    """None where it is created."""
    wanted: Org
    """What it becomes; with the version against which this was planned, 0 where there is none."""
    shuts_out: tuple[str, ...] = ()
    """Whom it refuses that was served: `org`, or names of keys."""

    @property
    def action(self) -> str:
        """For the log of changes."""
        if self.doing == "create":
            return "create from file"
        if self.doing == "disable":
            others = ", ".join(change.field for change in self.fields if change.field != _ENABLED)
            done = [
                *(["disable org"] if any(change.field == _ENABLED for change in self.fields) else []),
                *([f"take {others} away"] if others else []),
            ]
            text = f"{' and '.join(done)}, not declared"
        else:
            text = f"declare {', '.join(change.field for change in self.fields)}"
        return text if len(text) <= _LONGEST_ACTION else text[:_LONGEST_ACTION] + "..."


class Plan(msgspec.Struct, frozen=True):
    """All of it."""

    changes: tuple[Change, ...]
    """In the order in which they are made: a key that moves is given before it is taken away."""
    unchanged: tuple[str, ...]
    """Declared, and as declared."""
    undeclared: tuple[str, ...]
    """Left alone: there was no `prune`, or they are disabled already."""


def plan(declared: Sequence[Org], known: Iterable[Org], *, prune: bool) -> Plan:
    """Raises PlanFault, where nothing is declared that could be pruned to, and for a key that others have."""
    if prune and not declared:
        raise PlanFault(
            "no organisation is declared, and with prune all would be disabled: so looks a template that failed to "
            "render; to disable an organisation, declare it with enabled: false"
        )
    known_by_name = {org.org: org for org in known}
    wanted = [_with_known(org, known_by_name.get(org.org)) for org in declared]
    names = {org.org for org in declared}
    others = [org for name, org in known_by_name.items() if name not in names]
    taken = {key.sha256: org.org for org in wanted for key in org.keys}
    if not prune:
        _refuse_keys_of_others(others, taken)
    changes, unchanged, undeclared = [], [], []
    for org in wanted:
        before = known_by_name.get(org.org)
        if before is None:
            changes.append(Change(org.org, "create", (), org))
        elif before == org:
            unchanged.append(org.org)
        else:
            changes.append(Change(org.org, "change", differences(before, org), org, _shut_out(before, org)))
    for before in others:
        after = _without(before, taken) if prune else before
        if after == before:
            undeclared.append(before.org)
        else:
            changes.append(Change(before.org, "disable", differences(before, after), after, _shut_out(before, after)))
    order: Mapping[Doing, int] = {"create": 0, "change": 1, "disable": 2}
    changes.sort(key=lambda change: (bool(change.shuts_out), order[change.doing]))
    return Plan(tuple(changes), tuple(unchanged), tuple(undeclared))


def _with_known(org: Org, known: Org | None) -> Org:
    """With the version that is known, and of each key what a file may leave out."""
    if known is None:
        return org
    by_hash = {key.sha256: key for key in known.keys}
    keys = tuple(_key_with_known(key, by_hash.get(key.sha256)) for key in org.keys)
    return msgspec.structs.replace(org, version=known.version, keys=keys)


def _key_with_known(key: Key, known: Key | None) -> Key:
    if known is None or (key.shown and key.created_ms):
        return key
    return msgspec.structs.replace(key, shown=key.shown or known.shown, created_ms=key.created_ms or known.created_ms)


def _without(org: Org, taken: Mapping[str, str]) -> Org:
    """Disabled, and without the keys that a declared organisation has now: a gateway could take one for the other."""
    keys = tuple(key for key in org.keys if key.sha256 not in taken)
    return msgspec.structs.replace(org, enabled=False, keys=keys)


def _refuse_keys_of_others(others: Iterable[Org], taken: Mapping[str, str]) -> None:
    problems = [
        f"key {key.name!r} of org {org.org!r}, which is not declared, has the hash of a key of {taken[key.sha256]!r}: "
        "declare another key, remove that one there, or prune, which disables what is not declared"
        for org in others
        for key in org.keys
        if key.sha256 in taken
    ]
    if problems:
        raise PlanFault("\n".join(problems))


def _shut_out(before: Org, after: Org) -> tuple[str, ...]:
    if not before.enabled:
        return ()
    if not after.enabled:
        return ("org",)
    served = {key.sha256 for key in after.keys if key.enabled}
    return tuple(key.name for key in before.keys if key.enabled and key.sha256 not in served)
