"""Looks once a minute whether all tables and views that this process needs are as they were, and says what is not.

In: a database. Out: a fault in /readyz, a log line and a count, until it is back. Stops nothing: rows go on into
`requests` while only the rollup's view is gone, and its hours are made anew from them later.
"""

import time
from typing import Final

from ingestor.clickhouse import ClickHouse
from ingestor.faults import SchemaFault
from ingestor.probes import Health
from shared import counters
from shared.logs import get_log

_INTERVAL_S: Final = 60.0
NAME: Final = "schema"

_log = get_log("schema")


class SchemaWatch:
    """Of the one database; the start has looked before."""

    def __init__(self, clickhouse: ClickHouse, health: Health) -> None:
        self._clickhouse = clickhouse
        self._health = health
        self._next_s = time.monotonic() + _INTERVAL_S

    async def look(self) -> None:
        """If it is time, which it always is while something is missing. Raises ClickHouseFault, which tells nothing."""
        if NAME not in self._health.faults and time.monotonic() < self._next_s:
            return
        try:
            await self._clickhouse.check_schema()
        except SchemaFault as fault:
            counters.schema_faults.inc()
            said = f"LECTR_CLICKHOUSE_URL={fault}"
            if self._health.faults.get(NAME) != said:
                _log.error("a table, view or column is missing or of another form", detail=said)
            self._health.faults[NAME] = said
        else:
            self._next_s = time.monotonic() + _INTERVAL_S
            if self._health.faults.pop(NAME, None):
                _log.info("all tables, views and columns are there again")
