"""The HTTP server: aiohttp's, with connections that have a request loop, limits and errors of our own."""

import asyncio
from typing import Final

from aiohttp import web

from gateway.client_connection import READ_BYTES, ClientConnection, Handler

_LONGEST_HEAD_LINE_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 256
_IDLE_CLIENT_S: Final = 620.0
"""Longer than a load balancer's own idle limit (600 s in common ones): it must be the one that closes first."""
_SWEEP_S: Final = 1.0


class GatewayServer(web.Server):
    """Makes one ClientConnection per client connection, and looks after slow ones. `sweep` runs as a task."""

    def __init__(self, handler: Handler, *, head_timeout_s: float, idle_timeout_s: float) -> None:
        # A client that leaves cancels its handler, and with it the request to the provider.
        super().__init__(_never, handler_cancellation=True)
        self._serve = handler
        self._head_timeout_s = head_timeout_s
        self._idle_timeout_s = idle_timeout_s

    def __call__(self) -> ClientConnection:
        """The protocol of one new connection."""
        return ClientConnection(
            self,
            self._serve,
            idle_timeout_s=self._idle_timeout_s,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_IDLE_CLIENT_S,
            max_line_size=_LONGEST_HEAD_LINE_BYTES,
            max_field_size=_LONGEST_HEAD_LINE_BYTES,
            max_headers=_MOST_HEADERS,
            read_bufsize=READ_BYTES,
        )

    async def sweep(self) -> None:
        """Refuse heads that take too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._head_timeout_s / 2))
            now_s = loop.time()
            for connection in self.connections:
                if isinstance(connection, ClientConnection):
                    connection.check_head(now_s, self._head_timeout_s)


async def _never(_request: web.BaseRequest) -> web.StreamResponse:
    raise RuntimeError("ClientConnection has a request loop of its own")
