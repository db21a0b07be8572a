"""Who changed what of which organisation, and when: read from the log in ClickHouse.

In: a way to ClickHouse. Out: changes, the latest first. A change is in the log a moment after it was made.
"""

from typing import Final

import msgspec

from dashboard.clickhouse import ClickHouse, NotMigrated

MOST_CHANGES: Final = 10_000
"""Of one question: a person reads a page, a program asks for the next one by its time."""
_CHANGES: Final = """
SELECT toUnixTimestamp64Milli(at), org, version, actor, action FROM registry_changes
WHERE ({org:String} = '' OR org = {org:String}) AND at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
AND ({before:UInt64} = 0 OR version < {before:UInt64})
ORDER BY version DESC LIMIT {limit:UInt32}
"""
_LOGGED: Final = """
SELECT org, max(version) FROM registry_log WHERE {org:String} = '' OR org = {org:String} GROUP BY org
"""


class Change(msgspec.Struct, frozen=True):
    """One change of an organisation's record."""

    at_ms: int
    org: str
    version: int
    actor: str
    action: str


def changes(
    clickhouse: ClickHouse, *, org: str = "", since_ms: int = 0, before: int | None = None, limit: int
) -> list[Change]:
    """The last changes, at most `limit`, of one organisation or of all (''); `before`: the change of this version.

    Raises ClickHouseFault.
    """
    parameters = {"org": org, "since": since_ms, "before": before or 0, "limit": min(limit, MOST_CHANGES)}
    return [
        Change(int(at_ms), str(name), int(version), str(actor), str(action))
        for at_ms, name, version, actor, action in clickhouse.query(_CHANGES, parameters)
    ]


def logged_versions(clickhouse: ClickHouse, org: str = "") -> dict[str, int]:
    """The last version of one organisation, or of each (''), that the log has. Raises ClickHouseFault."""
    try:
        return {str(name): int(version) for name, version in clickhouse.query(_LOGGED, {"org": org})}
    except NotMigrated:
        return {}
