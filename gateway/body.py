"""The client's request body: read as far as it takes to find the model, the rest streamed on.

JSON is read whole (up to its limit), as the model can stand anywhere in it. A multipart body is read until its model
field was seen, and the plain fields behind that; what carries no model (file uploads, audio bytes) is not held at all.
The bytes go out as they came in.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final

import msgspec
from aiohttp.web import RequestPayloadError

from gateway.client import ClientRequest
from gateway.exchange import Exchange
from gateway.faults import InvalidRequest, RequestTimeout, RequestTooLarge
from gateway.multipart import ModelField
from gateway.request_body import NO_FACTS, RequestFacts, json_facts
from shared.organisation import Limits

_MODELLESS: Final = ("/files", "/uploads", "/upload/")
"""Endpoints that take files and no model: they are streamed at once, whatever type they say they have."""
_MOST_HELD_BYTES: Final = 32 * 1024 * 1024
"""How much of a form is held to find its model; the largest audio file that providers take is 25 MB."""
_LONGEST_KNOWN_TARGET: Final = 256
"""Clients make targets; what is remembered of them stays small."""
MARK_MODEL_NOT_REACHED: Final = "model_not_reached"


class Body:
    """A body whose beginning (or all of it) has been read."""

    __slots__ = ("_ended", "_held", "_limit_bytes", "_request", "_setting", "_silence_s", "facts")

    def __init__(self, request: ClientRequest, *, limit_bytes: int, setting: str, silence_s: float) -> None:
        self._request = request
        self._limit_bytes = limit_bytes
        self._setting = setting
        self._silence_s = silence_s
        self._held: bytes | bytearray = b""
        self._ended = not request.body_exists
        self.facts = NO_FACTS

    @property
    def held_bytes(self) -> int:
        """How much was read so far."""
        return len(self._held)

    @property
    def held(self) -> bytes | bytearray:
        """What was read so far."""
        return self._held

    @property
    def is_whole(self) -> bool:
        """Whether that is all of it."""
        return self._ended

    def outgoing(
        self, exchange: Exchange, instead: bytes | None = None
    ) -> bytes | bytearray | AsyncIterator[bytes | bytearray] | None:
        """What goes to the provider: the bytes if all are here, else a stream; `instead` of those that were read."""
        if not self._request.body_exists:
            return None
        held = self._held if instead is None else instead
        return held if self._ended else self._stream(exchange, held)

    async def read_json(self) -> None:
        """Read the body whole: the model can stand anywhere in it."""
        held: bytes | bytearray = b""
        if not self._ended:
            held = await self._next(0)
        if not self._ended:
            pieces = [held]
            read_bytes = len(held)
            while not self._ended:
                piece = await self._next(read_bytes)
                pieces.append(piece)
                read_bytes += len(piece)
            held = b"".join(pieces)
        self._held = held
        self.facts = json_facts(held)

    async def read_form(self, content_type: str) -> None:
        """Read a multipart form until its model field was seen and whether it asks for a stream, or to its end."""
        field = ModelField(content_type, and_stream=True)
        held = bytearray()
        self._held = held
        while not field.finished and not self._ended and len(held) < _MOST_HELD_BYTES:
            held += await self._next(len(held))
            field.scan(held)
        reached = field.finished or self._ended or field.model is not None
        marks = () if reached else (MARK_MODEL_NOT_REACHED,)
        self.facts = RequestFacts(model=field.model or "", stream=field.stream, marks=marks)

    def check_announced(self) -> None:
        """Raise RequestTooLarge before a byte is read, if the announced length says so."""
        length = self._request.length
        if length and int(length) > self._limit_bytes:
            raise self._too_large()

    async def _next(self, read_bytes: int) -> bytes:
        """The next piece, after `read_bytes` of the body. Raises InvalidRequest, RequestTimeout, RequestTooLarge."""
        content = self._request.content
        try:
            # What is already here needs no timer.
            chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                async with asyncio.timeout(self._silence_s):
                    chunk = await content.readany()
        except RequestPayloadError:
            raise InvalidRequest("the request body broke off or its chunking is malformed") from None
        except TimeoutError:
            raise RequestTimeout(
                f"no byte of the request body for {self._silence_s:g} s; LECTR_CLIENT_TIMEOUT_S sets the limit"
            ) from None
        self._ended = content.at_eof()
        if read_bytes + len(chunk) > self._limit_bytes:
            raise self._too_large()
        return chunk

    async def _stream(self, exchange: Exchange, held: bytes | bytearray) -> AsyncIterator[bytes | bytearray]:
        self._held = b""
        yield held
        del held
        while not self._ended:
            chunk = await self._next(exchange.request_bytes)
            exchange.request_bytes += len(chunk)
            if chunk:
                yield chunk

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"request body is over the limit of {self._limit_bytes} bytes; send less, or raise {self._setting}"
        )


class WholeBody(msgspec.Struct):
    """A body that had arrived as a whole when it was asked for: most have."""

    held: bytes
    facts: RequestFacts

    @property
    def held_bytes(self) -> int:
        """All of it."""
        return len(self.held)

    @property
    def is_whole(self) -> bool:
        """It is."""
        return True

    def outgoing(self, _exchange: Exchange, instead: bytes | None = None) -> bytes:
        """The same bytes, or `instead` of them."""
        return self.held if instead is None else instead


async def read_body(
    request: ClientRequest, limits: Limits, *, max_body_bytes: int, max_file_body_bytes: int, silence_s: float
) -> Body | WholeBody:
    """Read what is needed of the body. Raises RequestTooLarge, InvalidRequest, RequestTimeout."""
    head = request.head
    kind = "opaque" if _takes_files(request.target) else head.body_kind
    own_bytes = limits.body_bytes if kind == "json" else limits.file_body_bytes
    gateway_bytes = max_body_bytes if kind == "json" else max_file_body_bytes
    limit_bytes = gateway_bytes if own_bytes is None or own_bytes > gateway_bytes else own_bytes
    if kind == "json" and (held := request.whole_body()) is not None and len(held) <= limit_bytes:
        return WholeBody(held, json_facts(held))
    setting = _setting("" if kind == "json" else "file_", own_bytes, gateway_bytes)
    body = Body(request, limit_bytes=limit_bytes, setting=setting, silence_s=silence_s)
    body.check_announced()
    if head.expects_continue:
        request.expect_more()
    if kind == "json":
        await body.read_json()
    elif kind == "multipart":
        await body.read_form(head.headers.get("Content-Type", ""))
    return body


def _setting(kind: str, own_bytes: int | None, gateway_bytes: int) -> str:
    """What to raise when a body is refused: the smaller of the key's limit and the gateway's is what refused it."""
    gateways = f"LECTR_MAX_{kind.upper()}BODY_BYTES"
    if own_bytes is None:
        return gateways
    keys = f"this key's limit {kind}body_bytes"
    if own_bytes < gateway_bytes:
        return keys
    # Who set it may think that it alone holds.
    return f"the gateway's {gateways}: {keys} of {own_bytes} cannot exceed it"


def _takes_files(target: str) -> bool:
    """Whether the path is one of those that take files and no model."""
    return _known_to_take_files(target) if len(target) <= _LONGEST_KNOWN_TARGET else _read_target(target)


def _read_target(target: str) -> bool:
    path = target.partition("?")[0]
    return any(part in path for part in _MODELLESS)


_known_to_take_files: Final = lru_cache(maxsize=1024)(_read_target)
