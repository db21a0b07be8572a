"""Which keys and rules of an organisation are in use: read from its requests of the last days.

In: a way to ClickHouse, an organisation, a window. Out: by name, how often and when last. What is not there was not
used in the window.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from dashboard.clickhouse import ClickHouse
from shared.organisation import MOST_KEYS, MOST_RULES

WINDOW_DAYS: Final = 30
MOST_DAYS: Final = 366
_DAY_MS: Final = 86_400_000
_KEYS: Final = """
SELECT key AS name, count(), toUnixTimestamp64Milli(max(ts)) AS last FROM requests
WHERE org = {org:String} AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND key != ''
GROUP BY name ORDER BY last DESC LIMIT {most:UInt32}
"""
_RULES: Final = """
SELECT rule AS name, count(), toUnixTimestamp64Milli(max(ts)) AS last FROM requests
WHERE org = {org:String} AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND rule != ''
GROUP BY name ORDER BY last DESC LIMIT {most:UInt32}
"""


class Use(msgspec.Struct, frozen=True):
    """Of one key or rule."""

    requests: int
    last_ms: int


Uses = Mapping[str, Use]


def keys_in_use(clickhouse: ClickHouse, org: str, now_ms: int, days: int = WINDOW_DAYS) -> Uses:
    """Of each key: requests that came with it, refused ones included. Raises ClickHouseFault."""
    return _uses(clickhouse, _KEYS, org, now_ms - days * _DAY_MS, 2 * MOST_KEYS)


def rules_in_use(clickhouse: ClickHouse, org: str, now_ms: int, days: int = WINDOW_DAYS) -> Uses:
    """Of each rule: requests that it applied to. Raises ClickHouseFault."""
    return _uses(clickhouse, _RULES, org, now_ms - days * _DAY_MS, 2 * MOST_RULES)


def _uses(clickhouse: ClickHouse, sql: str, org: str, since_ms: int, most: int) -> Uses:
    # Names that are gone since have a share in `most`, hence twice what there may be at once.
    found = clickhouse.query(sql, {"org": org, "since": since_ms, "most": most})
    return {str(name): Use(int(requests), int(last_ms)) for name, requests, last_ms in found}
