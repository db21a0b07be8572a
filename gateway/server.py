"""The HTTP server's protocol: aiohttp's, with our limits and with our errors instead of its pages."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.web import RequestPayloadError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.faults import Fault, GatewayDefect, InvalidRequest, error_body
from shared import counters

_LONGEST_HEAD_LINE_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 256
_LINGER_S: Final = 2.0
"""After a refusal, how long unread body bytes are drained so that the client can read the answer before a reset."""
_IDLE_CLIENT_S: Final = 620.0
"""Longer than a load balancer's own idle limit (600 s in common ones): it must be the one that closes first."""
_READ_BYTES: Final = 256 * 1024
_SERVER_ERROR: Final = 500


def fault_response(fault: Fault, path: str) -> web.Response:
    """A fault as the HTTP answer that its client can read."""
    counters.refused.labels(fault.code).inc()
    response = web.Response(
        status=fault.status,
        body=error_body(fault, path),
        headers={"Content-Type": "application/json", "Server": "lectr"},
    )
    if fault.closes:
        response.force_close()
    return response


class _Connection(RequestHandler):
    def data_received(self, data: bytes) -> None:
        """Take bytes from the client. A body whose chunking is malformed fails at once for whoever reads it."""
        super().data_received(data)
        request = self._current_request
        if request is None or request.content.is_eof() or not self._messages:
            return
        # The parser reports the fault behind the request that is being served, which would wait for it for ever.
        if isinstance(self._messages[-1][0], _ErrInfo):
            request.content.set_exception(RequestPayloadError("malformed body"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp's parser refuses; its message may quote the request, so it is not passed on."""
        del exc, message
        if request.writer.output_size > 0:
            # A head was sent: whatever came now would stand in the middle of its body.
            raise ConnectionResetError
        if status >= _SERVER_ERROR:
            counters.handler_faults.inc()
            fault: Fault = GatewayDefect("the gateway failed")
        else:
            fault = InvalidRequest("malformed HTTP request: check the request line, the header fields and their sizes")
        response = fault_response(fault, "/v1")
        response.force_close()
        return response


class GatewayServer(web.Server):
    """Makes one connection handler per client connection."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        # A client that leaves cancels its handler, and with it the request to the provider.
        super().__init__(handler, handler_cancellation=True)

    def __call__(self) -> RequestHandler:
        """The protocol of one new connection."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None switches it off; the stub does not say so
            auto_decompress=False,
            keepalive_timeout=_IDLE_CLIENT_S,
            lingering_time=_LINGER_S,
            max_line_size=_LONGEST_HEAD_LINE_BYTES,
            max_field_size=_LONGEST_HEAD_LINE_BYTES,
            max_headers=_MOST_HEADERS,
            read_bufsize=_READ_BYTES,
        )
