"""A gateway whose keys have limits, as an operator set them, and what its events tell of their requests."""

from typing import Any, NamedTuple

from dashboard import edits
from shared.organisation import Limits
from shared.stream import FIELD_FRAME, Partition, decode_frame
from tests.parts import wait_until
from tests.registry_operator import Operator
from tests.registry_site import Site, ask


class Recorded(NamedTuple):
    """What an event says of a request."""

    source: int
    ts_ms: int
    status: int


def recorded(site: Site, org: str) -> list[Recorded]:
    """All of an organisation, by their time."""
    with site.client() as client:
        entries: Any = client.xrange(Partition(0).stream)
    frames = [decode_frame(fields[FIELD_FRAME]) for _, fields in entries if FIELD_FRAME in fields]
    events = [(frame.source, event) for frame in frames for event in frame.events if event.org == org]
    return sorted((Recorded(source, event.ts_ms, event.status) for source, event in events), key=lambda one: one.ts_ms)


def limited(site: Site, operator: Operator, name: str, *more: Any, **limits: Any) -> str:
    """An organisation's key, with limits and what more was edited in force."""
    key = operator.create_org(name)[1]
    for edit in (*more, edits.set_limits(Limits(**limits))):
        operator.edit(name, edit, "limits")
    marker = operator.create_org(f"{name}-marker")[1]
    # Pushes come in order.
    wait_until(lambda: ask(site.started[0], marker) == 200)
    return key
