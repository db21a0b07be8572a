"""Looks at the partitions of this process every few seconds, says how far they are, and clears away what is over.

In: what Redis holds about sources. Out: metrics, rows of `ingestion_progress`, and hashes that do not grow for ever.
A fault here costs a report, nothing else.
"""

import asyncio
import time
from typing import Final

from ingestor.absence import Absence
from ingestor.clickhouse import ClickHouse
from ingestor.faults import IngestorFault
from ingestor.ledger import Ledger
from ingestor.presence import FORGET_GONE_MS
from ingestor.probes import OWNER, Health
from ingestor.progress import Census
from ingestor.schema_watch import SchemaWatch
from ingestor.silence import Silence
from ingestor.unreported import Report, Unreported
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log
from shared.stream import Partition
from shared.tasks import cancelled

_INTERVAL_S: Final = 5.0
_FORGET_ENDED_MS: Final = 24 * 3_600_000
"""Whoever adopted a journal asks within seconds whether its end was stored."""

_log = get_log("housekeeping")


class Housekeeping:
    """Of all partitions that this process owns."""

    def __init__(
        self, ledger: Ledger, clickhouse: ClickHouse, health: Health, silence: Silence, unreported: Unreported
    ) -> None:
        self._ledger = ledger
        self._clickhouse = clickhouse
        self._health = health
        self._silence = silence
        self._unreported = unreported
        self._absence = Absence()
        self._schema = SchemaWatch(clickhouse, health)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            for look in (self._schema.look, self._look):
                try:
                    await look()
                except IngestorFault as fault:
                    counters.housekeeping_faults.labels(fault.label).inc()
                    _log.warning("no report", detail=str(fault))
                if cancelled():
                    raise asyncio.CancelledError

    async def _look(self) -> None:
        reports: list[Report] = []
        for index, role in sorted(self._health.partitions.items()):
            if role != OWNER:
                continue
            partition, now_ms = Partition(index), unix_ms()
            census = await self._ledger.census(partition)
            if not await self._ledger.is_settled(partition):
                # Who has not announced itself since Redis forgot it would not hold the report back.
                counters.housekeeping_faults.labels("unsettled").inc()
                continue
            complete_ms = census.complete_up_to_ms(now_ms)
            counters.events_missing.labels(index).set(census.missing)
            counters.complete_up_to_unix_s.labels(index).set(complete_ms / 1_000)
            reports.append(Report(index, complete_ms, census))
            await self._clear(partition, census, now_ms)
            await self._silence.look(partition, census, now_ms)
        if reports:
            reports += await self._unreported.reports({report.partition for report in reports}, unix_ms())
            values = ", ".join(map(_row, reports))
            columns = "partition, complete_up_to, missing, waiting_frames"
            await self._clickhouse.execute(f"INSERT INTO ingestion_progress ({columns}) VALUES {values}")  # noqa: S608 - numbers

    async def _clear(self, partition: Partition, census: Census, now_ms: int) -> None:
        gone = self._absence.look(partition.index, census, now_ms, time.monotonic())
        for source in gone:
            missing = census.marks[source].missing if source in census.marks else 0
            _log.error("gateway given up", source=source, last_seen_ms=census.seen[source].at_ms, missing=missing)
        await self._ledger.give_up(partition, gone)
        await self._ledger.forget_ends(partition, census.long_ended(now_ms - _FORGET_ENDED_MS, now_ms - FORGET_GONE_MS))


def _row(report: Report) -> str:
    census = report.census
    return f"({report.partition:d}, {report.complete_ms / 1_000:.3f}, {census.missing:d}, {census.waiting_frames:d})"
