"""The registry as a whole, declared: written out, compared, brought about."""

from collections.abc import Iterable

import msgspec

from dashboard.api import declaration_bodies as bodies
from dashboard.api.calls import Answer, Call
from dashboard.api.faults import ApplyConflict, ApplyStopped, WouldShutOut
from dashboard.declared.apply import apply
from dashboard.declared.plan import Change, Plan, plan
from dashboard.declared.records import Declared, document_of
from dashboard.declared.shut_out import shut_out, shut_out_text
from dashboard.registry import VersionConflict

_AGAIN_S = 5
"""By then another server takes requests, or this one does again."""


def export(call: Call) -> Answer:
    """All organisations."""
    # One at a time: plain values of all at once would take several times the memory.
    sections = (msgspec.json.encode(document_of([org])["orgs"])[1:-1] for org in call.registry.orgs())
    return Answer(msgspec.Raw(b'{"orgs":{' + b",".join(sections) + b"}}"))


def plan_declared(call: Call) -> Answer:
    """What would be done."""
    query: bodies.PlanQuery = call.query
    declared: Declared = call.body
    planned = plan(declared.orgs, call.registry.orgs(), prune=query.prune)
    return Answer(
        bodies.Plan(
            changes=_changes(planned.changes),
            unchanged=planned.unchanged,
            undeclared=planned.undeclared,
            warnings=declared.warnings,
        )
    )


def apply_declared(call: Call) -> Answer:
    """Do it, one change after another; between two of them it may end, when the server does."""
    query: bodies.ApplyQuery = call.query
    declared: Declared = call.body

    def go_on(made: int, of: int) -> None:
        if made < of and call.is_ending():
            raise ApplyStopped(
                f"this server ends: {made} of {of} changes are made, the others are not; apply again, which does the "
                "rest",
                retry_after_s=_AGAIN_S,
            )

    def approve(planned: Plan, made: int) -> None:
        go_on(made, made + len(planned.changes))
        if not query.shut_out and (text := shut_out_text(planned.changes)):
            raise WouldShutOut(f"{text} Changes made before: {made}. If that is meant, apply with shut_out=true")

    try:
        made = apply(call.registry, declared.orgs, prune=query.prune, approve=approve, progress=go_on)
    except VersionConflict as fault:
        raise ApplyConflict(str(fault)) from None
    return Answer(bodies.Applied(changes=_changes(made), warnings=declared.warnings))


def _changes(changes: Iterable[Change]) -> tuple[bodies.OrgChange, ...]:
    return tuple(
        bodies.OrgChange(
            org=change.org,
            doing=change.doing,
            fields=tuple(
                bodies.FieldChange(field=field.field, old=field.old, new=field.new) for field in change.fields
            ),
            shuts_out=bodies.ShutOut(**shut_out(change)._asdict()),
        )
        for change in changes
    )
