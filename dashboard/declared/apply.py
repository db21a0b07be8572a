"""Brings about what a file declares, one organisation at a time, each at the version for which it was planned.

What somebody else changes meanwhile is never overwritten unseen: it is planned again. What was done stays done if the
rest fails, and doing it again does only the rest.
"""

from collections.abc import Callable, Sequence
from typing import Final

from dashboard.declared.plan import Change, Plan, plan
from dashboard.registry import OrgExists, Registry, RegistryUnavailable, UnknownOrg, VersionConflict
from shared.organisation import Org
from shared.registry import RegistryFault

_MOST_PLANS: Final = 5

Approve = Callable[[Plan, int], None]
"""Sees each plan before anything of it is done, and how many changes were made before; raises what is to be raised."""
Progress = Callable[[int, int], None]
"""Hears how many changes were made, of how many; what it raises ends the work."""


def apply(
    registry: Registry,
    declared: Sequence[Org],
    *,
    prune: bool,
    approve: Approve = lambda _plan, _made: None,
    progress: Progress = lambda _done, _all: None,
) -> list[Change]:
    """What was changed; empty if all was so already.

    Raises PlanFault, VersionConflict if others keep changing the same, RegistryUnavailable, RegistryFault, and what
    the two callbacks raise.
    """
    made: list[Change] = []
    conflicts: list[str] = []
    for _ in range(_MOST_PLANS):
        planned = plan(declared, registry.orgs(), prune=prune)
        if not planned.changes:
            return made
        approve(planned, len(made))
        conflicts = _make(registry, planned, made, progress)
        if not conflicts:
            return made
    raise VersionConflict(
        f"somebody else changes {', '.join(conflicts[:10])} at the same time; {_told(made)}; apply again"
    )


def _make(registry: Registry, planned: Plan, made: list[Change], progress: Progress) -> list[str]:
    """Do what is planned, and add it to `made`; the organisations that somebody else changed meanwhile."""
    conflicts = []
    of = len(made) + len(planned.changes)
    for change in planned.changes:
        try:
            if change.doing == "create":
                registry.create(change.wanted, change.action)
            else:
                version = change.wanted.version
                registry.edit(change.org, _becomes(change.wanted), change.action, version=version)
        except (OrgExists, UnknownOrg, VersionConflict):
            conflicts.append(change.org)
        except RegistryUnavailable as fault:
            raise type(fault)(f"{fault}; {_told(made)}; apply again") from None
        except RegistryFault as fault:
            raise RegistryFault(f"org {change.org!r}: {fault}; {_told(made)}", field=fault.field) from None
        else:
            made.append(change)
        progress(len(made), of)
    return conflicts


def _becomes(wanted: Org) -> Callable[[Org], Org]:
    return lambda _known: wanted


def _told(made: Sequence[Change]) -> str:
    return f"changes made before: {len(made)}"
