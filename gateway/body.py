"""The client's request body: read as far as it takes to find the model, the rest streamed on.

JSON is read whole (up to its limit), as the model can stand anywhere in it. A multipart body is read until its model
field was seen; what carries no model (file uploads, audio bytes) is not held at all. The bytes go out as they came in.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from gateway.exchange import Exchange
from gateway.faults import Fault, InvalidRequest, RequestTimeout, RequestTooLarge
from gateway.multipart import ModelField
from gateway.request_body import RequestFacts, body_kind, json_facts

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MODELLESS: Final = ("/files", "/uploads", "/upload/")
"""Endpoints that take files and no model: they are streamed at once, whatever type they say they have."""
_MOST_HELD_BYTES: Final = 32 * 1024 * 1024
"""How much of a form is held to find its model; the largest audio file that providers take is 25 MB."""
MARK_MODEL_NOT_REACHED: Final = "model_not_reached"


class Body:
    """A body whose beginning (or all of it) has been read."""

    def __init__(self, request: web.BaseRequest, *, limit_bytes: int, setting: str, silence_s: float) -> None:
        self._request = request
        self._limit_bytes = limit_bytes
        self._setting = setting
        self._silence_s = silence_s
        self._held = bytearray()
        self._ended = not request.body_exists
        self.facts = RequestFacts()
        self.fault: Fault | None = None
        """Set when the client broke its own upload off, or made it too long, while it was being streamed on."""

    @property
    def held_bytes(self) -> int:
        """How much was read so far."""
        return len(self._held)

    def outgoing(self, exchange: Exchange) -> bytearray | AsyncIterator[bytes | bytearray] | None:
        """What goes to the provider: the bytes if all are here, else a stream of the same bytes."""
        if not self._request.body_exists:
            return None
        return self._held if self._ended else self._stream(exchange)

    async def read_json(self) -> None:
        """Read the body whole: the model can stand anywhere in it."""
        while not self._ended:
            self._held += await self._next(len(self._held))
        self.facts = json_facts(bytes(self._held))

    async def read_form(self, content_type: str) -> None:
        """Read a multipart form until its model field was seen, or it is known that there is none."""
        field = ModelField(content_type)
        while not field.finished and not self._ended and len(self._held) < _MOST_HELD_BYTES:
            self._held += await self._next(len(self._held))
            field.scan(self._held)
        marks = () if field.finished or self._ended else (MARK_MODEL_NOT_REACHED,)
        self.facts = RequestFacts(model=field.model or "", marks=marks)

    def check_announced(self) -> None:
        """Raise RequestTooLarge before a byte is read, if the announced length says so."""
        if (self._request.content_length or 0) > self._limit_bytes:
            raise self._too_large()

    async def _next(self, read_bytes: int) -> bytes:
        """The next piece, after `read_bytes` of the body. Raises InvalidRequest, RequestTimeout, RequestTooLarge."""
        try:
            async with asyncio.timeout(self._silence_s):
                chunk = await self._request.content.readany()
        except web.RequestPayloadError:
            raise InvalidRequest("the request body broke off or its chunking is malformed") from None
        except TimeoutError:
            raise RequestTimeout(
                f"no byte of the request body for {self._silence_s:g} s; LECTR_CLIENT_TIMEOUT_S sets the limit"
            ) from None
        self._ended = self._request.content.at_eof()
        if read_bytes + len(chunk) > self._limit_bytes:
            raise self._too_large()
        return chunk

    async def _stream(self, exchange: Exchange) -> AsyncIterator[bytes | bytearray]:
        held, self._held = self._held, bytearray()
        yield held
        while not self._ended:
            try:
                chunk = await self._next(exchange.request_bytes)
            except Fault as fault:
                self.fault = fault
                raise
            exchange.request_bytes += len(chunk)
            if chunk:
                yield chunk

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"request body is over the limit of {self._limit_bytes} bytes; send less, or raise {self._setting}"
        )


async def read_body(
    request: web.BaseRequest, *, max_body_bytes: int, max_file_body_bytes: int, silence_s: float
) -> Body:
    """Read what is needed of the body. Raises RequestTooLarge, InvalidRequest, RequestTimeout."""
    content_type = request.headers.get("Content-Type", "")
    kind = "opaque" if any(part in request.path for part in _MODELLESS) else body_kind(content_type)
    if kind == "json":
        limit_bytes, setting = max_body_bytes, "LECTR_MAX_BODY_BYTES"
    else:
        limit_bytes, setting = max_file_body_bytes, "LECTR_MAX_FILE_BODY_BYTES"
    body = Body(request, limit_bytes=limit_bytes, setting=setting, silence_s=silence_s)
    body.check_announced()
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(_CONTINUE)
    if kind == "json":
        await body.read_json()
    elif kind == "multipart":
        await body.read_form(content_type)
    return body
