"""Lets requests in by secret, rate, size and form, and turns whatever goes wrong into a fault that is told.

In: a request and its operation. Out: an answer, always JSON, never a stack trace. Nothing of a request is looked at
before its secret was. Wrong secrets never keep the right one out: many clients may share one address.
"""

import asyncio
import hashlib
import hmac
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from dashboard.api import faults
from dashboard.api.attempts import Attempts
from dashboard.api.calls import Answer, Call, actor_of, body_of, is_json, path_of, query_of, versions_of
from dashboard.api.faults import Fault
from dashboard.api.handlers import HANDLERS
from dashboard.api.operation import MOST_BODY_BYTES, MOST_OPEN, MOST_OPEN_OF, Load, Operation
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.responses import encoded, fault_response, good_response
from dashboard.api.translation import fault_of
from dashboard.clickhouse import ClickHouseFault
from dashboard.read_only import RegistryReadOnly
from dashboard.registry import Registry, RegistryUnavailable
from shared import counters
from shared.environment import Secret
from shared.logs import get_log
from shared.registry import RegistryFault

_BODY_TIMEOUT_S: Final = 30.0
"""For a body of MOST_BODY_BYTES; a larger one has as much longer."""
_END_S: Final = 6.0
"""How long what takes long is waited for after it was told to end: longer than Redis may take over one change."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_log = get_log("api")

Handling = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """What every request passes."""

    def __init__(self, *, secret: Secret, calls: RegistryCalls, attempts: Attempts, registry_file: str = "") -> None:
        self._secret_hash = _hash(secret.reveal())
        self._calls = calls
        self._attempts = attempts
        self._registry_file = registry_file
        self._open: Counter[Load] = Counter()
        self._is_ending = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing that has the secret is being served; whether that was soon enough.

        What takes longer is told to end between two changes.
        """
        soon = await self._is_idle(timeout_s)
        # Also for what still comes on connections that are kept open.
        self._is_ending = True
        return soon or await self._is_idle(_END_S)

    async def _is_idle(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def closed(self, operation: Operation) -> Handling:
        """What serves an operation that needs the secret."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return good_response(operation, *await self._answer(operation, request))

        return told(serve)

    async def _answer(self, operation: Operation, request: web.Request) -> tuple[Answer, bytes | None]:
        self._authenticate(request)
        if operation.changes and self._registry_file:
            raise RegistryReadOnly(self._registry_file)
        path = path_of(operation, request.match_info)
        query = query_of(operation, tuple(request.query.items()))
        actor = actor_of(request.headers.getall("X-Lectr-Actor", [])) if operation.changes else "api"
        versions = versions_of(request.headers.getall("If-Match", [])) if operation.is_conditional else None
        with self._slot(operation.load):
            data = b"" if operation.body is None else await _read(request, operation.most_body_bytes)

            def work(registry: Registry) -> tuple[Answer, bytes | None]:
                answer = HANDLERS[operation.id](
                    Call(
                        registry=registry.as_actor(actor),
                        path=path,
                        query=query,
                        body=body_of(operation, data),
                        versions=versions,
                        is_ending=lambda: self._is_ending,
                    )
                )
                return answer, encoded(answer)

            return await self._calls.run(work)

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.getall("Authorization", [])
        if not given:
            raise faults.MissingAdminSecret("send LECTR_ADMIN_SECRET in the header Authorization, after Bearer")
        scheme, _, secret = given[0].partition(" ")
        is_right = hmac.compare_digest(_hash(secret.strip()), self._secret_hash)
        if not (is_right and scheme.lower() == "bearer" and len(given) == 1):
            self._attempts.fail(request.remote or "")
            raise faults.InvalidAdminSecret("that is not LECTR_ADMIN_SECRET: send it in Authorization, after Bearer")
        self._attempts.take()

    @contextmanager
    def _slot(self, load: Load) -> Iterator[None]:
        if self._open.total() >= MOST_OPEN or self._open[load] >= MOST_OPEN_OF[load]:
            raise faults.ServerBusy(
                f"{MOST_OPEN} requests are being served, or {MOST_OPEN_OF[load]} of this kind; send fewer at once",
                retry_after_s=1,
            )
        self._open[load] += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._open[load] -= 1
            if not self._open.total():
                self._idle.set()


def told(serve: Handling) -> Handling:
    """The same, with every fault and defect as an answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await serve(request)
        except Fault as fault:
            return fault_response(fault)
        except (RegistryFault, RegistryUnavailable, ClickHouseFault) as error:
            return fault_response(fault_of(error))
        except ConnectionError:
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 - a defect: told, counted and logged, whatever it is
            return defect_response(error)

    return handle


def defect_response(error: BaseException | None) -> web.Response:
    """A bug of ours, by its type and place: its text may hold what must not be told."""
    counters.dashboard_handler_faults.inc()
    _log.error("defect", error=type(error).__name__, place=_place(error))
    return fault_response(faults.Defect("a defect in Lectr: its log tells the place; the request may have been done"))


async def _read(request: web.Request, most_bytes: int) -> bytes:
    if not is_json(request.headers.get("Content-Type"), request.headers.get("Content-Encoding")):
        raise faults.UnsupportedMediaType("send JSON, not compressed, with Content-Type: application/json")
    too_large = faults.RequestTooLarge(f"a body may have {most_bytes} bytes here")
    if (request.content_length or 0) > most_bytes:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(_CONTINUE)
    timeout_s = _BODY_TIMEOUT_S * most_bytes / MOST_BODY_BYTES
    try:
        async with asyncio.timeout(timeout_s):
            return await request.clone(client_max_size=most_bytes).read()
    except TimeoutError:
        raise faults.RequestTimeout(f"the body did not arrive within {timeout_s:.0f} s; send it again") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except web.RequestPayloadError:
        raise faults.InvalidRequest("the body breaks off or is not framed as HTTP frames one") from None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _place(error: BaseException | None) -> str:
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
