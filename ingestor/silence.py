"""Sources that were not heard for a while and are waited for in vain, so that they hold up the freshness no more.

In: what Redis holds of the sources of a partition. Out: those forgotten whose end ClickHouse has (an earlier state of
Redis was brought back), and those that announced themselves in another partition (they were waited for where the number
of partitions puts them now, not where they began).
"""

import time
from collections.abc import Sequence
from typing import Final

from ingestor.clickhouse import ClickHouse
from ingestor.faults import PendingMismatch
from ingestor.ledger import Ledger
from ingestor.partitions import partitions_with
from ingestor.presence import ended
from ingestor.progress import Census, Seen
from ingestor.redis_link import Redis, translated
from shared.logs import get_log
from shared.stream import Partition

_SILENT_MS: Final = 30_000
"""A gateway says each second that it lives."""
_ASK_S: Final = 30.0

_log = get_log("silence")


class Silence:
    """Of all partitions, each looked at every half a minute if somebody is silent there."""

    def __init__(self, client: Redis, ledger: Ledger, clickhouse: ClickHouse) -> None:
        self._client = client
        self._ledger = ledger
        self._clickhouse = clickhouse
        self._ask_again_s: dict[int, float] = {}

    async def look(self, partition: Partition, census: Census, now_ms: int) -> None:
        """Forget whom nobody needs to wait for. Raises ClickHouseFault, RedisFault, PendingMismatch."""
        silent = census.silent(now_ms - _SILENT_MS)
        if not silent or time.monotonic() < self._ask_again_s.get(partition.index, 0.0):
            return
        self._ask_again_s[partition.index] = time.monotonic() + _ASK_S
        # An end is stored only when nothing before it is missing: with it there, all that it counts is accounted for.
        over = [
            source
            for source, end_seq in (await ended(self._clickhouse, silent)).items()
            if census.next_seq(source) <= end_seq
        ]
        homeless = [source for source in silent if source not in over and source not in census.accepted]
        moved = await self._heard_elsewhere(partition, census, homeless)
        if over or moved:
            _log.info("waited for no more", partition=partition.index, ended=over, heard_elsewhere=moved)
        await self._ledger.forget(partition, [*over, *moved])

    async def _heard_elsewhere(self, partition: Partition, census: Census, sources: Sequence[int]) -> list[int]:
        if not sources:
            return []
        others = [index for index in await partitions_with(self._client, "seen") if index != partition.index]
        pipeline = self._client.pipeline(transaction=False)
        for index in others:
            pipeline.hmget(Partition(index).seen, list(map(str, sources)))
        with translated():
            found = await pipeline.execute() if others else []
        try:
            return [
                source
                for place, source in enumerate(sources)
                if any(row[place] and Seen.parse(row[place]).at_ms > census.seen[source].at_ms for row in found)
            ]
        except (TypeError, ValueError) as error:
            raise PendingMismatch(f"what a gateway says of itself cannot be read: {error}") from None
