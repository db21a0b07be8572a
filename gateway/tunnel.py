"""A WebSocket after its upgrade: bytes in both directions, unread, until either side ends.

In: a request that asked for WebSocket and the provider's 101. Out: the exchange's bytes and times. What is said inside
is not looked at, so its usage is unknown. Each side is read only as fast as the other one takes.
"""

import asyncio

from gateway.client import ClientRequest
from gateway.exchange import Exchange
from gateway.upstream import Answer
from shared.clock import monotonic_ns


class Tunnel:
    """Passes bytes on where they are received; done when a side has ended."""

    def __init__(self, request: ClientRequest, answer: Answer, exchange: Exchange) -> None:
        self._request = request
        self._answer = answer
        self._exchange = exchange
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def from_provider(self, data: bytes) -> None:
        """Bytes for the client; none at the end."""
        if data:
            self._exchange.response_bytes += len(data)
            self._request.write(data)
        elif not self.ended.done():
            self.ended.set_result(None)

    def from_client(self, data: bytes) -> None:
        """Bytes for the provider; none at the end."""
        if not data:
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._exchange.request_bytes += len(data)
        try:
            waits = self._answer.write(data)
        except ConnectionError:
            return  # its end is on its way
        if waits is not None:
            self._request.pause()
            waits.add_done_callback(self._provider_takes_again)

    def _provider_takes_again(self, waits: "asyncio.Future[None]") -> None:
        if not waits.cancelled() and waits.exception() is None:
            self._request.resume()

    def client_flow(self, paused: bool) -> None:
        """The client stopped taking bytes, or takes them again."""
        if paused:
            self._answer.pause()
        else:
            self._answer.resume()


async def run_tunnel(request: ClientRequest, answer: Answer, exchange: Exchange) -> None:
    """Hand the 101 on and pass bytes until a side ends. A client that leaves cancels it, which is an end like any."""
    exchange.first_byte_ns = monotonic_ns()
    exchange.status = answer.head.status
    exchange.streaming = True
    tunnel = Tunnel(request, answer, exchange)
    request.watch_flow(tunnel.client_flow)
    request.write(answer.head.block)
    answer.start_tunnel(tunnel.from_provider)
    request.start_tunnel(tunnel.from_client)
    try:
        await tunnel.ended
    finally:
        request.watch_flow(None)
