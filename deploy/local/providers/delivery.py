"""A Reply onto the wire: head, then pieces, delayed, cut, encoded or broken off as ordered.

In: the request, the Reply, its headers, the Behaviour. Out: the response object, and whether the whole answer was sent.
Never changes the content; raises ConnectionError or CancelledError when the client leaves.
"""

import asyncio
from collections.abc import Iterable, Iterator

from aiohttp import web

from deploy.local.providers.behaviour import Behaviour
from deploy.local.providers.call import Headers, Reply
from deploy.local.providers.encoding import accepts, encode
from deploy.local.providers.failures import BODILESS
from deploy.local.providers.profile import Weather


async def deliver(
    request: web.Request,
    reply: Reply,
    provider_headers: Headers,
    behaviour: Behaviour,
    weather: Weather,
    *,
    sized: bool,
) -> tuple[web.StreamResponse, bool]:
    """Send the reply. `sized`: a body of one piece carries its length instead of chunked framing."""
    await _pause(behaviour.delay_ms or weather.delay_ms)
    response = web.StreamResponse(status=reply.status, reason=behaviour.reason)
    if behaviour.drop_before_head:
        _close(request)
        return response, False
    pieces: Iterable[bytes] = reply.pieces
    headers = _merge((("Content-Type", reply.content_type), *provider_headers, *reply.extra_headers), behaviour.headers)
    for name, value in headers:
        if value or name != "Content-Type":
            response.headers.add(name, value)
    bodiless = reply.status in BODILESS
    if behaviour.encoding and not bodiless and accepts(request.headers.get("Accept-Encoding", ""), behaviour.encoding):
        response.headers["Content-Encoding"] = behaviour.encoding
        pieces = encode(pieces, behaviour.encoding)
    if sized and not bodiless and len(reply.pieces) == 1:
        body = b"".join(pieces)
        response.content_length = len(body)
        pieces = (body,)
    await response.prepare(request)
    if bodiless or request.method == "HEAD":
        return response, True
    return response, await _send(request, response, pieces, behaviour, weather)


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    pieces: Iterable[bytes],
    behaviour: Behaviour,
    weather: Weather,
) -> bool:
    """Send the body and return whether all of it went out."""
    left = behaviour.cut_after_bytes
    chunk_delay_ms = behaviour.chunk_delay_ms or weather.chunk_delay_ms
    first = True
    for piece in _recut(pieces, behaviour.chunk_bytes):
        if left == 0:
            break
        if not first:
            await _pause(chunk_delay_ms)
        first = False
        now = piece if left is None else piece[:left]
        await response.write(now)
        if left is not None:
            left -= len(now)
        if behaviour.chunk_bytes is not None:
            # Give the transport its turn, so that small pieces leave one by one.
            await asyncio.sleep(0)
    if left is None:
        await response.write_eof()
        return True
    _close(request)
    return False


def _recut(pieces: Iterable[bytes], size: int | None) -> Iterator[bytes]:
    if size is None:
        yield from (piece for piece in pieces if piece)
        return
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            yield buffer[:size]
            buffer = buffer[size:]
    if buffer:
        yield buffer


def _merge(own: Headers, ordered: Headers) -> Headers:
    replaced = {name.lower() for name, _ in ordered}
    return (*((name, value) for name, value in own if name.lower() not in replaced), *ordered)


def _close(request: web.Request) -> None:
    """Close without the end of the message: what was written still goes out, then the connection ends."""
    if request.transport is not None:
        request.transport.close()


async def _pause(delay_ms: float) -> None:
    if delay_ms:
        await asyncio.sleep(delay_ms / 1000)
