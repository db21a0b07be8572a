"""The keys of an organisation."""

from msgspec import UNSET

from dashboard import edits, new_keys
from dashboard.api import answer_bodies as answers
from dashboard.api import request_bodies as bodies
from dashboard.api.calls import Answer, Call, record_of
from dashboard.api.handlers.orgs import key_location, shown_key
from shared.organisation import Limits, Org


def list_all(call: Call) -> Answer:
    """All of them."""
    org = call.read()
    return Answer(answers.Keys(keys=bodies.converted(org.keys, tuple[answers.Key, ...])), org.version)


def add(call: Call) -> Answer:
    """One more, for the only time."""
    body: bodies.KeyCreate = call.body
    limits = record_of(body.limits, Limits)
    made = new_keys.add_key(call.registry, call.org, body.name, limits, version=call.version())
    return shown_key(made, location=key_location(call.org, body.name))


def change(call: Call) -> Answer:
    """Switch it, or replace its limits."""
    body: bodies.KeyPatch = call.body
    name = call.path["key"]
    enabled = None if body.enabled is UNSET else body.enabled
    limits = None if body.limits is UNSET else record_of(body.limits, Limits)
    done = [
        *([] if enabled is None else ["enable" if enabled else "disable"]),
        *([] if limits is None else ["set limits of"]),
    ]
    action = f"{' and '.join(done) or 'leave'} key {name}"
    return _key(call.edit(edits.change_key(name, enabled=enabled, limits=limits), action), name)


def remove(call: Call) -> Answer:
    """It is gone for good."""
    name = call.path["key"]
    return Answer(version=call.edit(edits.remove_key(name), f"remove key {name}").version)


def rotate(call: Call) -> Answer:
    """Another one of the same name, for the only time."""
    return shown_key(new_keys.rotate_key(call.registry, call.org, call.path["key"], version=call.version()))


def _key(org: Org, name: str) -> Answer:
    return Answer(bodies.converted(edits.named(org.keys, name, "key", org), answers.Key), org.version)
