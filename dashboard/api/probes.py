"""What is answered to everybody: is it alive, is Redis there, its numbers, and what the API has."""

from typing import Final

import msgspec
from aiohttp import web

from dashboard.api import faults
from dashboard.api.answer_bodies import Health, Readiness
from dashboard.api.door import Handling, told
from dashboard.api.openapi import document
from dashboard.api.operations import OPERATIONS
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.registry_file import RegistryFile
from dashboard.api.responses import plain_response
from dashboard.api.translation import RETRY_AFTER_S
from dashboard.registry import RegistryUnavailable
from shared import counters

_ALIVE: Final = msgspec.json.encode(Health())
_READY: Final = msgspec.json.encode(Readiness())


class Probes:
    """Serves the open operations."""

    def __init__(self, calls: RegistryCalls, file: RegistryFile | None) -> None:
        """`file`: what declares the registry, if anything does."""
        self._calls = calls
        self._file = file
        self._document = msgspec.json.encode(document(OPERATIONS))
        self.handlings: Final[dict[str, Handling]] = {
            "health": told(self._health),
            "readiness": told(self._readiness),
            "metrics": told(self._metrics),
            "readDocument": told(self._read_document),
        }
        """By the ids of operations.py, those that are open. A test compares the two."""

    async def _health(self, _request: web.Request) -> web.Response:
        return plain_response(_ALIVE)

    async def _readiness(self, _request: web.Request) -> web.Response:
        try:
            await self._calls.check()
        except RegistryUnavailable:
            # Its text tells an address, and who asks here is not known.
            raise faults.RegistryUnavailable(
                "Redis (LECTR_REDIS_URL) does not answer", retry_after_s=RETRY_AFTER_S
            ) from None
        file = self._file
        if file is None:
            return plain_response(_READY)
        if not file.was_kept:
            raise faults.RegistryUnavailable(
                "the registry is not yet as its file (LECTR_REGISTRY_FILE) declares it; the log says why",
                retry_after_s=RETRY_AFTER_S,
            )
        return plain_response(msgspec.json.encode(Readiness(registry_file=file.state)))

    async def _metrics(self, _request: web.Request) -> web.Response:
        return plain_response(counters.exposition("dashboard"), content_type=counters.CONTENT_TYPE)

    async def _read_document(self, _request: web.Request) -> web.Response:
        return plain_response(self._document)
