"""Partitions that hold something and that no report is about: without them nothing must be called complete.

In: what Redis holds of all partitions. Out: up to when such a partition is complete for certain. It is one beyond
LECTR_STREAM_PARTITIONS, where a gateway has just begun, or one whose owner has not reported yet.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from ingestor.clickhouse import ClickHouse
from ingestor.ledger import Ledger
from ingestor.partitions import partitions_with
from ingestor.progress import Census
from ingestor.redis_link import Redis
from shared.stream import Partition

_REPORTED: Final = (
    "SELECT partition, toUnixTimestamp64Milli(complete_up_to) FROM ingestion_progress FINAL WHERE NOT retired"
)


class Report(msgspec.Struct, frozen=True):
    """How far a partition is."""

    partition: int
    complete_ms: int
    census: Census


class Unreported:
    """All that are there when asked; to be asked behind the censuses of what else is reported."""

    def __init__(self, client: Redis, ledger: Ledger, clickhouse: ClickHouse) -> None:
        self._client = client
        self._ledger = ledger
        self._clickhouse = clickhouse

    async def reports(self, reported: Collection[int], now_ms: int) -> list[Report]:
        """Of partitions but for these. Raises ClickHouseFault, RedisFault, PendingMismatch.

        No later than what is said of others: as long as their owners have not said it, marks need not be true.
        """
        holding = await partitions_with(self._client, "stream", "pending", "accepted", "seen")
        if not set(holding).difference(reported):
            return []
        known = {int(index): int(ms) for index, ms in await self._clickhouse.query(_REPORTED)}
        found = []
        for index in sorted(set(holding).difference(reported, known)):
            census = await self._ledger.census(Partition(index))
            found.append(Report(index, min([census.complete_up_to_ms(now_ms), *known.values()]), census))
        return found
