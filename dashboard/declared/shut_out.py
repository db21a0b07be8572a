"""Whom a plan refuses that was served, so that somebody is asked before. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dashboard.declared.plan import Change

_MOST_NAMED: Final = 10


class ShutOut(NamedTuple):
    """By one change."""

    org: bool
    """All of the organisation."""
    keys: tuple[str, ...]
    """These of its keys."""


def shut_out(change: Change) -> ShutOut:
    """What `Change.shuts_out` says; a key may have the name `org`."""
    if change.shuts_out and not change.wanted.enabled:
        return ShutOut(org=True, keys=())
    return ShutOut(org=False, keys=change.shuts_out)


def shut_out_text(changes: Iterable[Change]) -> str:
    """Names those that are to be refused, up to some; empty where there are none."""
    found = [(change.org, shut_out(change)) for change in changes]
    orgs = [org for org, shut in found if shut.org]
    keys = [f"{key} of {org}" for org, shut in found for key in shut.keys]
    said = [f"{what} {_listed(names)}" for what, names in (("organisations", orgs), ("keys", keys)) if names]
    return f"To be refused from then on: {'; '.join(said)}." if said else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
