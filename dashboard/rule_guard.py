"""The guard of recommended rules through an edit: it is lifted by those who say so, and by nobody who is silent. Pure.

A rule made from a recommendation never applies to the task `reasoning`. An edit gives a rule's other fields anew, and
what it leaves out is as it would be without it; but who changes a priority does not mean to lift this guard.
"""

from collections.abc import Collection

import msgspec

from dashboard.registry import Edit
from shared.organisation import Org


def keeping_guard(edit: Edit, unsaid: Collection[str]) -> Edit:
    """The edit, after which those rules of these names that were recommended still are."""

    def guarded(org: Org) -> Org:
        were = {rule.name for rule in org.rules if rule.recommended and rule.name in unsaid}
        changed = edit(org)
        if not were:
            return changed
        rules = (msgspec.structs.replace(one, recommended=True) if one.name in were else one for one in changed.rules)
        return msgspec.structs.replace(changed, rules=tuple(rules))

    return guarded
