"""Organisations, and what becomes of their streams."""

from urllib.parse import quote

from dashboard import edits, new_keys
from dashboard.api import answer_bodies as answers
from dashboard.api import request_bodies as bodies
from dashboard.api.calls import Answer, Call
from dashboard.api.operations import PREFIX
from dashboard.new_keys import NewKey
from shared.organisation import Org


def list_page(call: Call) -> Answer:
    """Some organisations by name."""
    query: bodies.OrgQuery = call.query
    orgs, following = call.registry.page(query.after or "", query.limit)
    return Answer(answers.OrgPage(orgs=tuple(map(_summary, orgs)), next=following))


def create(call: Call) -> Answer:
    """A new organisation and its key, for the only time."""
    body: bodies.OrgCreate = call.body
    made = new_keys.create_org(call.registry, body.org)
    return shown_key(made, location=f"{PREFIX}/orgs/{body.org}")


def read(call: Call) -> Answer:
    """All that is set."""
    return _org(call.read())


def switch(call: Call) -> Answer:
    """Serve it, or refuse it."""
    body: bodies.Switch = call.body
    action = "enable org" if body.enabled else "disable org"
    return _org(call.edit(edits.switch(enabled=body.enabled), action))


def read_policies(call: Call) -> Answer:
    """What becomes of streams."""
    return _policies(call.read())


def set_policies(call: Call) -> Answer:
    """Both lists at once."""
    body: bodies.Policies = call.body
    return _policies(call.edit(edits.set_policies(body.drain_features, body.usage_features), "set policies"))


def shown_key(made: NewKey, *, location: str | None = None) -> Answer:
    """A key for the only time."""
    body = answers.NewKey(org=made.org.org, name=made.name, key=made.key.reveal())
    return Answer(body, made.org.version, location)


def key_location(org: str, key: str) -> str:
    """Where a key is."""
    return f"{PREFIX}/orgs/{org}/keys/{quote(key)}"


def _org(org: Org) -> Answer:
    return Answer(bodies.converted(org, answers.Org), org.version)


def _policies(org: Org) -> Answer:
    return Answer(bodies.Policies(drain_features=org.drain_features, usage_features=org.usage_features), org.version)


def _summary(org: Org) -> answers.OrgSummary:
    return answers.OrgSummary(
        org=org.org,
        version=org.version,
        enabled=org.enabled,
        keys=len(org.keys),
        rules=len(org.rules),
        budgets=len(org.budgets),
    )
