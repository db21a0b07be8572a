"""Partitions beyond LECTR_STREAM_PARTITIONS: a gateway started with more of them may have left something there.

In: the number of the setting. Out: which others hold something, so that somebody works on them; and those that nobody
needs any more marked as such, so that they hold up no report.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final, Literal

from ingestor.clickhouse import ClickHouse
from ingestor.faults import IngestorFault
from ingestor.redis_link import Redis, translated
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log
from shared.stream import MOST_PARTITIONS, Partition
from shared.tasks import cancelled

_INTERVAL_S: Final = 10.0
SILENT_S: Final = 20
"""Another ingestor that still works on a partition reports it far more often."""
_OVER: Final = (
    "SELECT partition FROM ingestion_progress FINAL WHERE partition >= {first:UInt32} AND NOT retired"
    " AND reported_at < now() - {silent_s:UInt32}"
)

_log = get_log("partitions")


async def partitions_with(client: Redis, *keys: Literal["stream", "pending", "accepted", "seen", "dead"]) -> list[int]:
    """Partitions that have any of these keys. Raises RedisFault."""
    pipeline = client.pipeline(transaction=False)
    for partition in map(Partition, range(MOST_PARTITIONS)):
        pipeline.exists(*(getattr(partition, key) for key in keys))
    with translated():
        found = await pipeline.execute()
    return [index for index, count in enumerate(found) if count]


class Beyond:
    """The partitions from number `first` on."""

    def __init__(self, client: Redis, clickhouse: ClickHouse, first: int) -> None:
        self._client = client
        self._clickhouse = clickhouse
        self._first = first

    async def run(self, serve: Callable[[int], None]) -> None:
        """For ever: have every partition served that holds something, from then on."""
        served: set[int] = set()
        while True:
            try:
                holding = await partitions_with(self._client, "stream", "pending", "accepted", "seen")
                for index in set(holding).difference(served, range(self._first)):
                    _log.warning("partition beyond LECTR_STREAM_PARTITIONS", partition=index, setting=self._first)
                    serve(index)
                    served.add(index)
                await self._retire(served)
            except IngestorFault as fault:
                counters.housekeeping_faults.labels(fault.label).inc()
                _log.warning("partitions not looked at", detail=str(fault))
            if cancelled():
                raise asyncio.CancelledError
            await asyncio.sleep(_INTERVAL_S)

    async def _retire(self, served: AbstractSet[int]) -> None:
        parameters = {"first": self._first, "silent_s": SILENT_S}
        over = {int(index) for (index,) in await self._clickhouse.query(_OVER, parameters)} - served
        if over:
            values = ", ".join(f"({index:d}, {unix_ms() / 1_000:.3f}, 0, 0, true)" for index in sorted(over))
            columns = "partition, complete_up_to, missing, waiting_frames, retired"
            await self._clickhouse.execute(f"INSERT INTO ingestion_progress ({columns}) VALUES {values}")  # noqa: S608 - numbers
            _log.info("partitions retired", partitions=sorted(over))
