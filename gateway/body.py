"""The client's request body: read as far as it takes to find the model, the rest streamed on.

JSON is read whole (up to its limit), as the model can stand anywhere in it. A multipart body is read until its model
field was seen; what carries no model (file uploads, audio bytes) is not held at all. The bytes go out as they came in.
"""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from gateway.exchange import Exchange
from gateway.faults import InvalidRequest, RequestTooLarge
from gateway.request_body import ModelField, RequestFacts, body_kind, json_facts

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MODELLESS: Final = ("/files", "/uploads")
"""Multipart endpoints without a model field: looking for one would hold the whole upload in memory."""


class Body:
    """A body whose beginning (or all of it) has been read."""

    def __init__(self, request: web.BaseRequest, limit_bytes: int, setting: str) -> None:
        self._request = request
        self._limit_bytes = limit_bytes
        self._setting = setting
        self._held = bytearray()
        self._ended = not request.body_exists
        self.facts = RequestFacts()
        self.fault: RequestTooLarge | None = None
        """Set when the limit was hit while the body was being streamed on."""

    @property
    def held_bytes(self) -> int:
        """How much was read so far."""
        return len(self._held)

    def outgoing(self, exchange: Exchange) -> bytes | AsyncIterator[bytes] | None:
        """What goes to the provider: bytes if all is here, else a stream of the same bytes."""
        if not self._request.body_exists:
            return None
        return bytes(self._held) if self._ended else self._stream(exchange)

    async def read_json(self) -> None:
        """Read the body whole: the model can stand anywhere in it."""
        while not self._ended:
            self._held += await self._next()
        self.facts = json_facts(bytes(self._held))

    async def read_form(self, content_type: str) -> None:
        """Read a multipart form until its model field was seen, or it is known that there is none."""
        field = ModelField(content_type)
        while not field.finished and not self._ended:
            self._held += await self._next()
            field.scan(self._held)
        self.facts = RequestFacts(model=field.model or "")

    async def _next(self) -> bytes:
        try:
            chunk = await self._request.content.readany()
        except web.RequestPayloadError:
            raise InvalidRequest("the request body broke off or its chunking is malformed") from None
        self._ended = self._request.content.at_eof()
        if len(self._held) + len(chunk) > self._limit_bytes:
            raise self._too_large()
        return chunk

    async def _stream(self, exchange: Exchange) -> AsyncIterator[bytes]:
        yield bytes(self._held)
        self._held.clear()
        while not self._ended:
            chunk = await self._request.content.readany()
            self._ended = self._request.content.at_eof()
            exchange.request_bytes += len(chunk)
            if exchange.request_bytes > self._limit_bytes:
                self.fault = self._too_large()
                raise self.fault
            if chunk:
                yield chunk

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"request body is over the limit of {self._limit_bytes} bytes; send less, or raise {self._setting}"
        )

    def check_announced(self) -> None:
        """Raise RequestTooLarge before a byte is read, if the announced length says so."""
        if (self._request.content_length or 0) > self._limit_bytes:
            raise self._too_large()


async def read_body(request: web.BaseRequest, *, max_body_bytes: int, max_file_body_bytes: int) -> Body:
    """Read what is needed of the body. Raises RequestTooLarge, InvalidRequest."""
    content_type = request.headers.get("Content-Type", "")
    kind = body_kind(content_type)
    if kind == "json":
        body = Body(request, max_body_bytes, "LECTR_MAX_BODY_BYTES")
    else:
        body = Body(request, max_file_body_bytes, "LECTR_MAX_FILE_BODY_BYTES")
    body.check_announced()
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(_CONTINUE)
    if kind == "json":
        await body.read_json()
    elif kind == "multipart" and not any(part in request.path for part in _MODELLESS):
        await body.read_form(content_type)
    return body
