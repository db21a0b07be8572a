"""The way of a request, top to bottom: auth, detect, headers, upstream, relay, event.

Whatever happens, a request of a known organisation leaves one event behind. No step waits for Redis, a database or a
disk.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from gateway import faults
from gateway.attempts import Attempts
from gateway.auth import authenticate, require_enabled
from gateway.body import Body, WholeBody, read_body
from gateway.budgets import MARK_OVER_BUDGET, Budgets, budget_fault
from gateway.client import ClientRequest
from gateway.client_head import ClientHead
from gateway.credentials import Credentials
from gateway.destination import Router, Way
from gateway.detection import MARK_HEADER_INVALID
from gateway.directory import Access, Directory
from gateway.exchange import Exchange, endpoint_of
from gateway.journal import Journal
from gateway.limits import UNCOUNTED, Allowances
from gateway.providers import Catalogue
from gateway.redirect import Step
from gateway.relay import is_event_stream, relay
from gateway.request_body import MARK_MODEL_TRUNCATED, RequestFacts
from gateway.tunnel import run_tunnel
from gateway.unattended import MARK_CUT, Unattended, wants_drain
from gateway.upstream import Answer, Upstream
from shared import counters
from shared.clock import monotonic_ns, unix_ms
from shared.logs import get_log, place_of
from shared.organisation import Org
from shared.stream import encode_event

_SWITCHING: Final = 101
_LOG_INTERVAL_NS: Final = 1_000_000_000


class Proxy:
    """Serves requests; `serve` is the handler of the HTTP server."""

    def __init__(
        self,
        *,
        directory: Directory,
        catalogue: Catalogue,
        upstream: Upstream,
        journal: Journal,
        bases: Mapping[str, str],
        max_body_bytes: int,
        max_file_body_bytes: int,
        client_timeout_s: float,
        unattended: Unattended,
        credentials: Credentials,
        budgets: Budgets,
    ) -> None:
        self._directory = directory
        self._router = Router(catalogue, bases)
        self._journal = journal
        self._max_body_bytes = max_body_bytes
        self._max_file_body_bytes = max_file_body_bytes
        self._client_timeout_s = client_timeout_s
        self._unattended = unattended
        self._allowances = Allowances()
        self._attempts = Attempts(upstream, self._router, credentials)
        self._budgets = budgets
        self._log = get_log("proxy")
        self._running: set[asyncio.Task[object]] = set()
        self._none_running: asyncio.Future[None] | None = None
        self._cut = False
        self._header_invalid_said_ns = -_LOG_INTERVAL_NS
        self.draining = False
        # Looked at when somebody asks: setting it twice a request costs more.
        counters.open_requests.set_function(lambda: len(self._running))

    @property
    def open_requests(self) -> int:
        """Requests being served."""
        return len(self._running)

    async def serve(self, request: ClientRequest) -> bool:
        """Answer one request with the provider's answer, or with a fault of our own as JSON.

        Returns whether the client's connection can serve another. Raises ConnectionError when it is broken.
        """
        exchange = Exchange(monotonic_ns(), unix_ms(), request.method, endpoint_of(request.target))
        task = request.task
        self._running.add(task)
        try:
            return await self._exchange(request, exchange)
        except faults.Fault as fault:
            return self._refuse(request, exchange, fault)
        except ConnectionError:
            if not exchange.error_category:
                self._left(request, exchange)
            raise
        except asyncio.CancelledError:
            return self._cancelled(request, exchange)
        except Exception as error:  # noqa: BLE001 - counted, logged and answered: the last resort of the request path
            counters.handler_faults.inc()
            # Type and place only: the text of an exception may quote the request.
            self._log.error("defect", error=type(error).__name__, place=place_of(error))
            if exchange.status:
                exchange.failed("server_error", "gateway")
                request.abort()
                raise ConnectionResetError from None
            return self._refuse(request, exchange, faults.GatewayDefect("the gateway failed; its log has the place"))
        finally:
            self._running.discard(task)
            self._record(exchange)
            if self._none_running is not None and not self._running and not self._none_running.done():
                self._none_running.set_result(None)

    async def _exchange(self, request: ClientRequest, exchange: Exchange) -> bool:
        head = request.head
        access = self._access_of(head)
        org = access.org
        exchange.org, exchange.key = org.org, access.key.name
        self._journal.begin()
        _tag(head, exchange)
        require_enabled(access)
        limits = access.limits
        if limits.requests_per_s is not None:
            self._allowances.take_request(org.org, access.key.name, limits, exchange.started_ns)
        if head.problem:
            raise faults.InvalidRequest(head.problem)
        if request.method == "CONNECT":
            raise faults.InvalidRequest("CONNECT asks for a tunnel; this is a gateway, send the request itself")
        body = await read_body(
            request,
            limits,
            max_body_bytes=self._max_body_bytes,
            max_file_body_bytes=self._max_file_body_bytes,
            silence_s=self._client_timeout_s,
        )
        exchange.request_bytes = body.held_bytes
        way = self._way(request, exchange, org, body.facts)
        upgrades = request.upgrade and request.asks_for_websocket and not request.body_exists
        stream = UNCOUNTED
        if limits.concurrent_streams is not None and (exchange.streaming or upgrades):
            stream = self._allowances.take_stream(org.org, access.key.name, limits, exchange.started_ns)
        with stream:
            if org.budgets:
                self._spend(access, exchange)
            steps = self._attempts.steps(request, exchange, access, body, way)
            return await self._send(request, exchange, access, body, steps, upgrades=upgrades)

    def _spend(self, access: Access, exchange: Exchange) -> None:
        """Count the request against its budgets. Raises BudgetExceeded."""
        verdict = self._budgets.decide(access.account.budgets, exchange.feature, exchange.started_unix_ms)
        if verdict.decision == "allow":
            return
        counters.budget_decisions.labels(verdict.decision).inc()
        if verdict.decision == "block":
            raise budget_fault(access.org.org, verdict, exchange.started_unix_ms)
        exchange.marks += (MARK_OVER_BUDGET,)

    async def _send(
        self,
        request: ClientRequest,
        exchange: Exchange,
        access: Access,
        body: Body | WholeBody,
        steps: Sequence[Step],
        *,
        upgrades: bool,
    ) -> bool:
        """Send the request, and pass on what comes back: the first answer that is no reason to try another step."""
        org, limits = access.org, access.limits
        if org.drain_features and wants_drain(org, exchange.feature) and not upgrades:
            request.on_leave(partial(self._goes_on, request, request.task, exchange))
        answer = await self._attempts.answer(request, exchange, body, steps, upgrades=upgrades)
        if limits.concurrent_streams is None or exchange.streaming or upgrades:
            return await self._pass_on(request, exchange, answer)
        if not is_event_stream(answer.head.value(b"content-type")):
            return await self._pass_on(request, exchange, answer)
        # Nothing that could be read said so before: it cannot be refused any more, but takes its place.
        with self._allowances.count_stream(exchange.org, exchange.key, limits, monotonic_ns()):
            return await self._pass_on(request, exchange, answer)

    async def _pass_on(self, request: ClientRequest, exchange: Exchange, answer: Answer) -> bool:
        """The answer to the client."""
        try:
            if answer.head.status == _SWITCHING:
                await run_tunnel(request, answer, exchange)
                return False
            return await relay(
                request, answer, exchange, draining=self.draining, record=partial(self._record, exchange)
            )
        finally:
            answer.close()

    def _access_of(self, head: ClientHead) -> Access:
        """What a head's key gives access to, asked again after any change of the registry."""
        directory = self._directory
        if head.access is None or head.access_as_of != directory.changes:
            head.access = None
            head.access = authenticate(head.key_sha256, directory)
            head.access_as_of = directory.changes
        return head.access

    def _way(self, request: ClientRequest, exchange: Exchange, org: Org, facts: RequestFacts) -> Way:
        """Choose the provider, and note it. Raises AzureConfigMissing, UnknownPath."""
        exchange.facts = facts
        if facts.marks:
            exchange.marks += facts.marks
            if MARK_MODEL_TRUNCATED in facts.marks:
                counters.values_cut.labels("model").inc()
        chosen = self._router.destination(request.head, request.target, facts.model, org)
        exchange.streaming = facts.stream or chosen.streams
        exchange.model_requested = chosen.model
        exchange.provider, exchange.provider_source = chosen.provider, chosen.provider_source
        if chosen.marks:
            exchange.marks += chosen.marks
            if MARK_HEADER_INVALID in chosen.marks:
                self._say_header_invalid(org)
        if isinstance(chosen.way, faults.Fault):
            raise chosen.way
        return chosen.way

    def _goes_on(self, request: ClientRequest, task: "asyncio.Task[None]", exchange: Exchange) -> bool:
        """The client left: whether its request is served to the end. Not half a request."""
        if request.has_its_answer:
            return False
        return request.content.is_eof() and self._unattended.take_over(task, exchange)

    @staticmethod
    def _left(request: ClientRequest, exchange: Exchange) -> None:
        """Note that the client left, unless it had what it came for."""
        if not request.has_its_answer:
            exchange.failed("client_disconnect", "client")
            counters.client_disconnects.inc()

    def _say_header_invalid(self, org: Org) -> None:
        """Log it, at most once a second: a client with a wrong setting sends it with every request."""
        now_ns = monotonic_ns()
        if now_ns - self._header_invalid_said_ns >= _LOG_INTERVAL_NS:
            self._header_invalid_said_ns = now_ns
            self._log.warning("provider_header_invalid", org=org.org, fix="X-Lectr-Provider: one of the five providers")

    def _cancelled(self, request: ClientRequest, exchange: Exchange) -> bool:
        """The client left, or a drain ran out of patience: then what has no head yet gets one that says so."""
        if exchange.unattended:
            exchange.marks += (MARK_CUT,)
            raise asyncio.CancelledError
        if not self._cut and exchange.status == _SWITCHING:
            # Either side may end a WebSocket; which of them did is no fault.
            raise asyncio.CancelledError
        if not self._cut:
            self._left(request, exchange)
            raise asyncio.CancelledError
        exchange.error_category, exchange.error_source = "gateway_draining", "gateway"
        if exchange.status:
            request.abort()
            raise ConnectionResetError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return self._refuse(request, exchange, faults.GatewayDraining("the gateway is being restarted; try again"))

    def _refuse(self, request: ClientRequest, exchange: Exchange, fault: faults.Fault) -> bool:
        """The fault as an answer, and noted on the exchange; whether the connection stays open."""
        exchange.status = fault.status
        exchange.failed(fault.category, fault.source)
        keep_alive = request.keep_alive and not fault.closes
        self._record(exchange)
        request.write(faults.fault_answer(fault, exchange.endpoint, close=not keep_alive))
        return keep_alive

    def _record(self, exchange: Exchange) -> None:
        """Count the exchange and journal its event, once. A defect here costs the event, never the answer."""
        if exchange.recorded:
            return
        exchange.recorded = True
        exchange.ended_ns = exchange.ended_ns or monotonic_ns()
        if exchange.provider:
            seconds = (exchange.ended_ns - exchange.started_ns) / 1e9
            counters.requests.count(exchange.provider, exchange.status // 100, seconds)
        if not exchange.org:
            return
        try:
            event = encode_event(exchange.event(self._journal.next_seq))
        except Exception as error:  # noqa: BLE001 - counted and logged; its number is used up, so the hole is seen
            counters.events_dropped.labels("not_encodable").inc()
            self._log.error("defect", error=type(error).__name__, place=place_of(error))
            self._journal.skip()
        else:
            self._journal.append(event)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing is being served; False if that takes longer."""
        if self._running:
            self._none_running = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._none_running}, timeout=timeout_s)
        return not self._running

    def cut_running(self) -> None:
        """End everything that is being served, now."""
        self._cut = True
        for task in self._running:
            task.cancel()


def _tag(head: ClientHead, exchange: Exchange) -> None:
    """Note what the client says about its request."""
    exchange.feature, exchange.task = head.feature, head.task
    exchange.sdk, exchange.client_retry_count = head.sdk, head.retry_count
    for field in head.cut:
        exchange.marks += (f"{field}_truncated",)
        counters.values_cut.labels(field).inc()
