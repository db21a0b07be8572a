"""The way of a request, top to bottom: auth, detect, headers, upstream, relay, event.

Whatever happens, a request of a known organisation leaves one event behind. No step waits for Redis, a database or a
disk.
"""

import asyncio
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway import faults
from gateway.auth import authenticate, require_enabled
from gateway.body import Body, read_body
from gateway.client import ClientRequest
from gateway.detection import MARK_HEADER_INVALID, detect, has_google_key
from gateway.exchange import Exchange
from gateway.headers import RequestFields, check_head, clean_value, retry_count_of, sdk_of, upstream_headers
from gateway.providers import Catalogue
from gateway.registry import Directory
from gateway.relay import relay
from gateway.request_body import MARK_MODEL_TRUNCATED, model_in_path, path_streams
from gateway.routes import request_target
from gateway.server import fault_answer
from gateway.shipper import Shipper
from gateway.tunnel import run_tunnel
from gateway.upstream import Upstream, origin_of
from gateway.usage import Call
from shared import counters
from shared.clock import monotonic_ns, unix_ms
from shared.event import UNTAGGED
from shared.logs import get_log
from shared.registry import Org
from shared.stream import encode_event

if TYPE_CHECKING:
    from prometheus_client import Counter

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
        shipper: Shipper,
        bases: Mapping[str, str],
        max_body_bytes: int,
        max_file_body_bytes: int,
        client_timeout_s: float,
    ) -> None:
        self._directory = directory
        self._catalogue = catalogue
        self._upstream = upstream
        self._shipper = shipper
        self._bases = bases
        self._max_body_bytes = max_body_bytes
        self._max_file_body_bytes = max_file_body_bytes
        self._client_timeout_s = client_timeout_s
        self._log = get_log("proxy")
        self._running: set[asyncio.Task[object]] = set()
        self._none_running = asyncio.Event()
        self._none_running.set()
        self._cut = False
        self._counted: dict[tuple[str, int], Counter] = {}
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
        exchange = Exchange(
            started_ns=monotonic_ns(),
            started_unix_ms=unix_ms(),
            method=clean_value(request.method)[0],
            endpoint=clean_value(request.path)[0],
        )
        task = request.task
        self._running.add(task)
        self._none_running.clear()
        try:
            return await self._exchange(request, exchange)
        except faults.Fault as fault:
            return _refuse(request, exchange, fault)
        except ConnectionError:
            if not exchange.error_category:
                exchange.failed("client_disconnect", "client")
                counters.client_disconnects.inc()
            raise
        except asyncio.CancelledError:
            return self._cancelled(request, exchange)
        except Exception as error:  # noqa: BLE001 - counted, logged and answered: the last resort of the request path
            counters.handler_faults.inc()
            # Type and place only: the text of an exception may quote the request.
            self._log.error("defect", error=type(error).__name__, place=_place(error))
            if exchange.status:
                exchange.failed("server_error", "gateway")
                request.abort()
                raise ConnectionResetError from None
            return _refuse(request, exchange, faults.GatewayDefect("the gateway failed; its log has the place"))
        finally:
            self._running.discard(task)
            self._record(exchange)
            if not self._running:
                self._none_running.set()

    async def _exchange(self, request: ClientRequest, exchange: Exchange) -> bool:
        org = authenticate(request.headers.get("X-Lectr-Key"), self._directory)
        exchange.org = org.org
        _tag(request, exchange)
        require_enabled(org)
        fields = RequestFields(request.raw_headers)
        if reason := check_head(fields):
            raise faults.InvalidRequest(reason)
        if request.method == "CONNECT":
            raise faults.InvalidRequest("CONNECT asks for a tunnel; this is a gateway, send the request itself")
        body = await read_body(
            request,
            max_body_bytes=self._max_body_bytes,
            max_file_body_bytes=self._max_file_body_bytes,
            silence_s=self._client_timeout_s,
        )
        exchange.request_bytes = body.held_bytes
        url = self._route(request, exchange, org, body)
        origin, target = origin_of(url)
        headers = upstream_headers(
            fields,
            exchange.provider,
            origin.netloc,
            azure_claude=exchange.provider == "azure" and "/anthropic/" in url,
        )
        outgoing = body.outgoing(exchange)
        if request.chunked and isinstance(outgoing, bytes | bytearray):
            headers.append((b"Content-Length", b"%d" % len(outgoing)))
        upgrades = request.asks_for_websocket and not request.body_exists
        if upgrades:
            headers += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        exchange.sent_ns = monotonic_ns()
        answer = await self._upstream.open(
            request.method, origin, target, headers, outgoing, on_interim=request.interim, upgrades=upgrades
        )
        call = Call(
            provider=exchange.provider,
            method=request.method,
            path=exchange.endpoint,
            content_bytes=exchange.facts.content_bytes,
            message_count=exchange.facts.message_count,
        )
        try:
            if answer.head.status == _SWITCHING:
                await run_tunnel(request, answer, exchange)
                return False
            return await relay(request, answer, exchange, call, draining=self.draining)
        finally:
            answer.close()

    def _route(self, request: ClientRequest, exchange: Exchange, org: Org, body: Body) -> str:
        """Choose the provider; the URL to send to. Raises AzureConfigMissing, UnknownPath."""
        path, _, query = request.target.partition("?")
        exchange.facts = body.facts
        exchange.marks.extend(body.facts.marks)
        if MARK_MODEL_TRUNCATED in body.facts.marks:
            counters.values_cut.labels("model").inc()
        exchange.streaming = body.facts.stream or path_streams(request.target)
        # An Azure deployment stands in the path; the body's model may then be any text.
        exchange.model_requested = model_in_path(request.target) or body.facts.model
        found = detect(
            self._catalogue,
            provider_header=request.headers.get("X-Lectr-Provider"),
            path=path,
            query=query,
            headers=request.headers,
            model=exchange.model_requested,
        )
        exchange.provider, exchange.provider_source = found.provider, found.provider_source
        exchange.marks.extend(found.marks)
        if MARK_HEADER_INVALID in found.marks:
            self._say_header_invalid(org)
        if found.provider == "azure" and org.azure is None:
            raise faults.AzureConfigMissing(
                f"organisation {org.org} has no Azure endpoint; set one with: azure set {org.org} --endpoint https://…"
            )
        url = request_target(
            found.provider,
            request.target,
            self._bases,
            org.azure,
            model=exchange.model_requested,
            google_key=has_google_key(request.headers, query),
        )
        if url is None:
            raise faults.UnknownPath(
                "no provider has this path; use /v1/… or a provider SDK's own path, and base_url '<gateway>/v1'"
            )
        return url

    def _say_header_invalid(self, org: Org) -> None:
        """Log it, at most once a second: a client with a wrong setting sends it with every request."""
        now_ns = monotonic_ns()
        if now_ns - self._header_invalid_said_ns >= _LOG_INTERVAL_NS:
            self._header_invalid_said_ns = now_ns
            self._log.warning("provider_header_invalid", org=org.org, fix="X-Lectr-Provider: one of the five providers")

    def _cancelled(self, request: ClientRequest, exchange: Exchange) -> bool:
        """The client left, or a drain ran out of patience: then what has no head yet gets one that says so."""
        if not self._cut and exchange.status == _SWITCHING:
            # Either side may end a WebSocket; which of them did is no fault.
            raise asyncio.CancelledError
        if not self._cut:
            exchange.failed("client_disconnect", "client")
            counters.client_disconnects.inc()
            raise asyncio.CancelledError
        exchange.error_category, exchange.error_source = "gateway_draining", "gateway"
        if exchange.status:
            request.abort()
            raise ConnectionResetError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return _refuse(request, exchange, faults.GatewayDraining("the gateway is being restarted; try again"))

    def _record(self, exchange: Exchange) -> None:
        """Count the exchange and hand its event on. A defect here costs the event, never the answer."""
        exchange.ended_ns = monotonic_ns()
        if exchange.provider:
            self._count(exchange.provider, exchange.status // 100)
            counters.request_seconds.observe((exchange.ended_ns - exchange.started_ns) / 1e9)
        if not exchange.org:
            return
        try:
            event = encode_event(exchange.event(self._shipper.next_seq))
        except Exception as error:  # noqa: BLE001 - counted and logged; its number is used up, so the hole is seen
            counters.events_dropped.labels("not_encodable").inc()
            self._log.error("defect", error=type(error).__name__, place=_place(error))
            self._shipper.skip()
        else:
            self._shipper.add(event)

    def _count(self, provider: str, status_class: int) -> None:
        counter = self._counted.get((provider, status_class))
        if counter is None:
            counter = self._counted[provider, status_class] = counters.requests.labels(provider, f"{status_class}xx")
        counter.inc()

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing is being served; False if that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none_running.wait()
        except TimeoutError:
            return False
        return True

    def cut_running(self) -> None:
        """End everything that is being served, now."""
        self._cut = True
        for task in self._running:
            task.cancel()


def _refuse(request: ClientRequest, exchange: Exchange, fault: faults.Fault) -> bool:
    """The fault as an answer, and noted on the exchange; whether the connection stays open."""
    exchange.status = fault.status
    exchange.failed(fault.category, fault.source)
    keep_alive = request.keep_alive and not fault.closes
    request.write(fault_answer(fault, exchange.endpoint, close=not keep_alive))
    return keep_alive


def _tag(request: ClientRequest, exchange: Exchange) -> None:
    """Read what the client says about its request."""
    exchange.feature = _bounded(exchange, "feature", request.headers.get("X-Lectr-Feature") or UNTAGGED)
    exchange.task = _bounded(exchange, "task", request.headers.get("X-Lectr-Task") or "")
    exchange.sdk = sdk_of(request.headers)
    exchange.client_retry_count = retry_count_of(request.headers)


def _bounded(exchange: Exchange, field: str, value: str) -> str:
    """The value as it is stored: valid UTF-8, at most 1 KiB, with a mark if it was cut."""
    stored, cut = clean_value(value)
    if cut:
        exchange.marks.append(f"{field}_truncated")
        counters.values_cut.labels(field).inc()
    return stored


def _place(error: BaseException) -> str:
    """File and line where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
