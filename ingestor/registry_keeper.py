"""Keeps the log of what operators set, and Redis as complete as the log: in the one process that owns partition 0.

A fault here costs a moment of delay, nothing else: changes wait on their stream, and gateways serve what they know.
"""

import asyncio
import time
from typing import Final

from ingestor.faults import IngestorFault
from ingestor.probes import OWNER, Health
from ingestor.registry_log import RegistryLog
from shared import counters
from shared.logs import get_log
from shared.tasks import cancelled

_TICK_S: Final = 0.5
_COMPARE_EVERY_S: Final = 60.0

_log = get_log("registry")


class RegistryKeeper:
    """Of the one registry."""

    def __init__(self, log: RegistryLog, health: Health) -> None:
        self._registry_log = log
        self._health = health
        self._compared_s: float | None = None
        """When Redis and the log were last compared; None while another process keeps them."""

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._health.partitions.get(0) != OWNER:
                self._compared_s = None
            else:
                try:
                    await self.look()
                except IngestorFault as fault:
                    counters.housekeeping_faults.labels(fault.label).inc()
                    _log.warning("registry not looked after", detail=str(fault))
            if cancelled():
                raise asyncio.CancelledError

    async def look(self) -> None:
        """Once. Raises IngestorFault."""
        log = self._registry_log
        await log.store()
        complete = await log.is_complete()
        due = self._compared_s is None or time.monotonic() - self._compared_s >= _COMPARE_EVERY_S
        if complete and not due:
            return
        # First what only Redis knows, or the log would not be the whole of both.
        if adopted := await log.adopt():
            _log.info("registry_adopted", records=adopted)
        if not complete or await log.is_behind():
            await log.refill()
        self._compared_s = time.monotonic()
