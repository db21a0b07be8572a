"""Keeps the log of what operators set, and Redis as complete as the log: in the one process that owns partition 0.

A fault here costs a moment of delay, nothing else: changes wait on their stream, and gateways serve what they know.
"""

import asyncio
import time
from typing import Final

from ingestor.faults import IngestorFault
from ingestor.probes import OWNER, Health
from ingestor.registry_log import RegistryLog, State
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
        self._state: State | None = None
        """Redis as it was seen last; None while another process keeps it."""
        self._compared_s = 0.0
        """When Redis and the log were last compared."""

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._health.partitions.get(0) != OWNER:
                self._state = None
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
        log, before = self._registry_log, self._state
        await log.store()
        state = await log.state()
        # Another mark or a lower version: it is not the Redis any more that was compared.
        same = before is not None and state.mark == before.mark and state.version >= before.version
        if state.mark and same and time.monotonic() - self._compared_s < _COMPARE_EVERY_S:
            self._state = state
            return
        # First what only Redis knows, or the log would not be the whole of both.
        found = await log.compare()
        if found.adopted:
            _log.info("registry_adopted", records=found.adopted)
        if not state.mark or found.lacking:
            await log.refill()
        self._state, self._compared_s = await log.state(), time.monotonic()
