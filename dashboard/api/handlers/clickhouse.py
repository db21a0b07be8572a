"""What ClickHouse tells: who changed what, and which keys and rules are in use."""

from collections.abc import Iterable

from dashboard.api import clickhouse_bodies as bodies
from dashboard.api.calls import Answer, Call
from dashboard.api.faults import ClickHouseNotConfigured
from dashboard.api.request_bodies import converted
from dashboard.changes import changes
from dashboard.clickhouse import ClickHouse
from dashboard.in_use import Uses, keys_in_use, rules_in_use
from shared.clock import unix_ms
from shared.organisation import Key, Rule


def list_changes(call: Call) -> Answer:
    """Of one organisation or of all, the latest first."""
    query: bodies.ChangeQuery = call.query
    found = changes(
        _clickhouse(call),
        org=query.org or "",
        since_ms=query.since_ms,
        before=query.before or None,
        # One more tells whether there are others.
        limit=query.limit + 1,
    )
    here = found[: query.limit]
    following = here[-1].version if len(found) > len(here) else None
    return Answer(bodies.Changes(changes=converted(here, tuple[bodies.Change, ...]), next=following))


def read_use(call: Call) -> Answer:
    """Of each key and rule."""
    query: bodies.UseQuery = call.query
    org = call.read()
    clickhouse, now_ms = _clickhouse(call), unix_ms()
    keys = _uses(org.keys, keys_in_use(clickhouse, org.org, now_ms, query.days))
    rules = _uses(org.rules, rules_in_use(clickhouse, org.org, now_ms, query.days))
    return Answer(bodies.InUse(days=query.days, keys=keys, rules=rules), org.version)


def _clickhouse(call: Call) -> ClickHouse:
    """Raises ClickHouseNotConfigured."""
    if call.registry.clickhouse is None:
        raise ClickHouseNotConfigured(
            "LECTR_CLICKHOUSE_URL is not set for this server: the log of changes and the rows of requests are there"
        )
    return call.registry.clickhouse


def _uses(records: Iterable[Key | Rule], uses: Uses) -> tuple[bodies.Use, ...]:
    return tuple(
        bodies.Use(name=one.name, requests=use.requests, last_ms=use.last_ms)
        if (use := uses.get(one.name))
        else bodies.Use(name=one.name, requests=0, last_ms=None)
        for one in records
    )
