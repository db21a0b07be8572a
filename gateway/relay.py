"""The provider's answer to the client: head and body as received, shown to a meter on the way.

Only hop-by-hop fields and the framing of our hop are ours. A chunk goes out before it is metered. When the provider
breaks off, the client's connection is broken off too: never a clean end after a truncated answer.
"""

from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from gateway.exchange import Exchange
from gateway.faults import ProviderStalled, ProviderTruncated
from gateway.headers import response_headers
from gateway.upstream import Answer, RawHeaders
from gateway.usage import Call, Meter, SilentMeter, open_meter, request_id_of
from shared import counters
from shared.clock import monotonic_ns

_BODILESS: Final = frozenset({204, 304})
_STALL_NS: Final = 1_000_000
"""A write that takes longer than this waited for the client; shorter is scheduling."""


class RelayedResponse(web.StreamResponse):
    """A response whose head is written byte by byte as the provider sent it: aiohttp adds nothing."""

    def __init__(self, status: int, reason: str, raw_headers: RawHeaders, *, close: bool) -> None:
        super().__init__(status=status, reason=reason)
        self._raw_headers = raw_headers
        self._closes = close

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._req = request
        writer = self._payload_writer = request._payload_writer  # noqa: SLF001 - the only way past aiohttp's own head
        if not isinstance(writer, StreamWriter):
            raise TypeError(f"unexpected writer {type(writer).__name__}")
        lines = [f"HTTP/1.1 {self.status} {self.reason or ''}".encode("latin-1", "surrogateescape")]
        lines += [name + b": " + value for name, value in self._raw_headers]
        length = next((value for name, value in self._raw_headers if name.lower() == b"content-length"), None)
        keep_alive = request.keep_alive and not self._closes
        bodiless = request.method == "HEAD" or self.status in _BODILESS
        if not bodiless and length is None:
            if request.version >= HttpVersion11:
                writer.enable_chunking()
                lines.append(b"Transfer-Encoding: chunked")
            else:
                keep_alive = False
        if not keep_alive:
            lines.append(b"Connection: close")
        elif request.version < HttpVersion11:
            lines.append(b"Connection: keep-alive")
        self._keep_alive = keep_alive
        writer._write(b"\r\n".join(lines) + b"\r\n\r\n")  # noqa: SLF001 - see above
        return writer


def break_off(request: web.BaseRequest) -> None:
    """Cut the client's connection, so that it cannot take what it has for a whole answer."""
    if request.transport is not None:
        request.transport.abort()


def _value(raw: RawHeaders, name: bytes) -> str:
    """First value of a header, empty if there is none."""
    return next((v.decode("latin-1") for n, v in raw if n.lower() == name), "")


async def relay(
    request: web.BaseRequest, answer: Answer, exchange: Exchange, call: Call, *, draining: bool
) -> web.StreamResponse:
    """Pass the answer on to its end and fill in the exchange's outcome.

    Raises ProviderTruncated after breaking the client's connection; ConnectionError when the client is gone.
    """
    raw = response_headers(answer.raw_headers)
    exchange.first_byte_ns = monotonic_ns()
    content_type = _value(answer.raw_headers, b"content-type")
    exchange.streaming |= content_type.lower().startswith("text/event-stream")
    exchange.provider_request_id = request_id_of(
        (n.decode("latin-1"), v.decode("latin-1")) for n, v in answer.raw_headers
    )
    meter = _open(call, answer, content_type, exchange)
    response = RelayedResponse(answer.status, answer.reason, raw, close=draining)
    complete = False
    try:
        await response.prepare(request)
        exchange.status = answer.status
        async for chunk in answer.chunks():
            before_ns = monotonic_ns()
            await response.write(chunk)
            after_ns = monotonic_ns()
            if after_ns - before_ns > _STALL_NS:
                exchange.client_stall_ns += after_ns - before_ns
            exchange.response_bytes += len(chunk)
            meter = _show(meter, chunk, exchange)
            if exchange.streaming and not exchange.first_token_ns and meter.token_seen:
                exchange.first_token_ns = before_ns
        complete = True
    except ProviderTruncated as cut:
        counters.upstream_truncated.labels(exchange.provider).inc()
        exchange.failed("timeout" if isinstance(cut, ProviderStalled) else "stream_truncated", "provider")
        break_off(request)
        raise
    finally:
        _finish(meter, exchange, complete=complete)
    return response


def _open(call: Call, answer: Answer, content_type: str, exchange: Exchange) -> Meter:
    """The answer's meter; one that cannot be opened is replaced as in `_show`."""
    try:
        return open_meter(call, answer.status, content_type, _value(answer.raw_headers, b"content-encoding"))
    except Exception:  # noqa: BLE001 - as in _show
        return _replaced(exchange)


def _show(meter: Meter, chunk: bytes, exchange: Exchange) -> Meter:
    """Feed the meter. One that fails is replaced by one that lets the bytes pass: the answer comes first."""
    try:
        meter.feed(chunk)
    except Exception:  # noqa: BLE001 - counted; a defect of ours in a meter must not cut a client's answer
        return _replaced(exchange)
    return meter


def _replaced(exchange: Exchange) -> Meter:
    counters.meter_faults.labels(exchange.provider).inc()
    exchange.marks.append("meter_failed")
    return SilentMeter(has_content=True)


def _finish(meter: Meter, exchange: Exchange, *, complete: bool) -> None:
    try:
        exchange.reading = meter.finish(complete=complete)
        faulted = meter.faulted
    except Exception:  # noqa: BLE001 - as above
        exchange.marks.append("meter_failed")
        faulted = True
    if faulted:
        counters.meter_faults.labels(exchange.provider).inc()
