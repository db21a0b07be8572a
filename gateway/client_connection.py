"""One connection of a client: aiohttp's parser and connection, with a request loop, limits and errors of our own.

aiohttp's loop makes a task, a request and a response object for each request; this one calls the handler in the
connection's own task and lets it write bytes: a third of the cost, and nothing adds a header.
"""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, _ErrInfo

from gateway.client import ClientRequest, parsed_request
from gateway.faults import ClientStalled, Fault, InvalidRequest, RequestTimeout, fault_answer
from gateway.repetition import Wire
from gateway.trailers import Trailers
from shared import counters

if TYPE_CHECKING:
    from gateway.client_head import ClientHead


Handler = Callable[[ClientRequest], Awaitable[bool]]
"""Serves one request and says whether the connection can serve another. ConnectionError: it is broken."""

_LONGEST_HEAD_BYTES: Final = 256 * 1024
"""Lines are limited one by one and in number; this bounds what a head of many long lines can hold."""
_LINGER_S: Final = 2.0
"""After a refusal, how long unread body bytes are drained so that the client can read the answer before a reset."""
READ_BYTES: Final = 256 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
"""Linger for 0 s: closing resets."""
_FRAMING_BYTES: Final = 256 * 1024
_FRAMING_PER_BYTE: Final = 16
"""What an upload may send beside its payload: a byte in a chunk of its own takes five more; the rest is extensions."""
_MALFORMED: Final = "malformed HTTP request: check the request line, the header fields and their sizes"


class ClientConnection(RequestHandler):
    """One connection of a client."""

    def __init__(self, server: web.Server, handler: Handler, *, idle_timeout_s: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._handler = handler
        self._idle_timeout_s = idle_timeout_s
        self._content: StreamReader | None = None
        self._body_bytes = 0
        self._head_bytes = 0
        self._head_since_s = 0.0
        self.answer_begun = False
        self.known_head: ClientHead | None = None
        """What the last request's head said."""
        self._wire = Wire()
        self.trailers = Trailers(self._wire)
        self._repeated: ClientRequest | None = None
        """A request that went past the parser and is not yet served."""
        self._due_bytes = 0
        """What is still to come of a body that goes past the parser, and where it goes."""
        self._due: StreamReader = EMPTY_PAYLOAD
        self._unconsumed = False
        """Whether the parser is yet to be told that the request being served left it."""
        self._leaving = False
        """Whether the connection is to be closed after the request that is still arriving."""
        self._closing: asyncio.TimerHandle | None = None
        self._on_flow: Callable[[bool], None] | None = None
        self.on_leave: Callable[[], bool] | None = None
        """Whether the request that is being served goes on without its client."""

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client. A body whose chunking is malformed fails at once for whoever reads it."""
        if self._due_bytes:
            self._take_due(data)
            return
        if data and self._waiter is not None and self._take_repeated(data, self._waiter):
            return
        self._wire.parsed(data)
        content = self._content
        in_body = content is not None and not content.is_eof()
        known = len(self._messages)
        super().data_received(data)
        # A parser whose queue is full holds bytes back.
        all_parsed = len(self._messages) < MAX_MSG_QUEUE_SIZE - 1
        self.trailers.look(itertools.islice(self._messages, known, None), all_parsed=all_parsed)
        if in_body and content is not None:
            if content.is_eof():
                # The last piece of the body: no head has begun, whatever the parser still waits for.
                return
            self._body_bytes += len(data)
            endless = self._body_bytes > _FRAMING_BYTES + _FRAMING_PER_BYTE * content.total_bytes
            # The parser reports a fault behind the request that is being served, which would wait for it for ever.
            if endless or (self._messages and isinstance(self._messages[-1][0], _ErrInfo)):
                content.set_exception(RequestPayloadError("malformed body"))
        elif self._messages:
            self._head_bytes = 0
        elif data and not self._upgraded:
            self._count_head(len(data))

    def _take_repeated(self, data: bytes, waiter: asyncio.Future[None]) -> bool:
        """Take a request that repeats the last one's head, past the parser; False, and nothing taken, for another."""
        found = self._wire.repeated(data)
        if found is None or waiter.done() or self._close or self._force_close:
            return False
        repetition, length, begin = found
        missing_bytes = begin + int(length or b"0") - len(data)
        content, body = None, data[begin:]
        if missing_bytes:
            self._due_bytes = missing_bytes
            self._due = content = self.reader()
            content.feed_data(body)
            body = b""
        self._repeated = ClientRequest(
            self, repetition.method, repetition.target, repetition.head, length, body, content
        )
        waiter.set_result(None)
        return True

    def _take_due(self, data: bytes) -> None:
        """Take more of a body that goes past the parser."""
        self._due.feed_data(data[: self._due_bytes])
        rest = data[self._due_bytes :]
        self._due_bytes = max(self._due_bytes - len(data), 0)
        if not self._due_bytes:
            self._due.feed_eof()
            self._due = EMPTY_PAYLOAD
        if rest:
            self.data_received(rest)

    def reader(self) -> StreamReader:
        """A stream of a body."""
        return StreamReader(self, READ_BYTES, loop=self._loop)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if reading was paused: aiohttp calls this for every piece of a body that is taken."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, or its connection was closed: what it asked for is cancelled, or goes on without it."""
        if self._closing is not None:
            self._closing.cancel()
        goes_on = self.on_leave is not None and self.on_leave()
        if goes_on:
            # What aiohttp would cancel.
            self._task_handler = None
        super().connection_lost(exc)
        if goes_on and self._on_flow is not None:
            # It may have left because it could not keep up.
            self._on_flow(False)  # noqa: FBT003 - what resume_writing would say

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        if self._on_flow is not None:
            self._on_flow(self._paused)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._on_flow is not None:
            self._on_flow(self._paused)

    # What a request uses.

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The connection's task."""
        return self._task_handler

    def watch_flow(self, on_flow: Callable[[bool], None] | None) -> None:
        """Tell when the client stops taking bytes (True) and takes them again; at once if it has stopped already."""
        self._on_flow = on_flow
        if on_flow is not None and self._paused:
            on_flow(self._paused)

    def send(self, data: bytes) -> None:
        """Write bytes of an answer; to a connection that is gone they are not written."""
        if self.transport is not None:
            self.answer_begun = True
            self.transport.write(data)

    def send_interim(self, head: bytes) -> None:
        """Write a 1xx head, unless the answer has begun."""
        if self.transport is not None and not self.answer_begun:
            self.transport.write(head)

    def start_tunnel(self, take: Callable[[bytes], None]) -> None:
        """Give all further bytes of the client to `take`, and an empty one at the end."""
        self.set_parser(_TunnelReader(take))  # type: ignore[arg-type] # aiohttp uses these two methods of it

    def pause_tunnel(self) -> None:
        """Stop reading."""
        self._pause_transport_reading()

    def resume_tunnel(self) -> None:
        """Read on."""
        self._resume_transport_reading()

    @property
    def behind(self) -> bool:
        """Whether the write buffer is above its high-water mark."""
        return bool(self._paused)

    async def drained(self, timeout_s: float) -> None:
        """Wait until the write buffer is below its high-water mark. Raises ClientStalled."""
        if self._paused:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._drain_helper()
            except TimeoutError:
                raise ClientStalled("nothing was taken within the idle timeout") from None

    def close(self) -> None:
        """Take no further request. One that is still arriving is taken whole: aiohttp would drop its bytes."""
        self._leaving = True
        arriving = self._messages[-1][1] if self._messages else self._content
        if arriving is None or arriving.is_eof():
            super().close()

    def abort(self) -> None:
        """Cut the connection with a reset: a body that ends with its connection must not look whole."""
        if self.transport is not None:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    # The loop.

    async def start(self) -> None:
        """Serve requests one after the other; aiohttp runs this as the connection's task."""
        try:
            while not self._force_close and await self._serve_next():
                close_at_s = self._loop.time() + self._keepalive_timeout
                self._next_keepalive_close_time = close_at_s
                if self._keepalive_handle is None:
                    self._keepalive_handle = self._loop.call_at(close_at_s, self._process_keepalive)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self.force_close()
                raise
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                # What the client does not take of the rest in this time, it does not want.
                self._closing = self._loop.call_later(self._idle_timeout_s, self.transport.abort)
                self.transport.close()

    async def _serve_next(self) -> bool:
        """Wait for a request and serve it; whether the connection can serve another."""
        if not self._messages:
            if self._close:
                return False
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self.answer_begun = False
        self._head_bytes = 0
        request, self._repeated = self._repeated, None
        if request is None and (request := self._parsed()) is None:
            return False
        self._request_in_progress = True
        try:
            keep = await self._handler(request)
            # Nobody can make answers pile up by asking without reading.
            if self._paused:
                await self.drained(self._idle_timeout_s)
        except ConnectionError:
            return False
        except ClientStalled:
            counters.client_stalls.inc()
            self.abort()
            return False
        finally:
            self.on_leave = None
            self._request_in_progress = False
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
        if not request.whole and not request.content.is_eof():
            keep = await self._linger(request.content) and keep
        keep = keep and not (request.chunked and self.trailers.may_trail(request.content))
        if self._unconsumed:
            self._unconsumed = False
            self._consumed()
            # It may have stopped between two requests, a slot short.
            self.data_received(b"")
        self._content = None
        return keep and not (self._close or self._leaving) and (bool(self._messages) or not self._upgraded)

    def _parsed(self) -> ClientRequest | None:
        """What the parser found; None, and the client told, if that is no request."""
        message, content = self._messages.popleft()
        # aiohttp counts a request when it is complete: one that is taken off before would be counted for ever.
        self._unconsumed = not content.is_eof()
        if not self._unconsumed:
            self._consumed()
        if isinstance(message, _ErrInfo):
            # Its text may quote the request, so it is not passed on.
            self.send(fault_answer(InvalidRequest(_MALFORMED), "/v1", close=True))
            return None
        request = parsed_request(self, message, content)
        self._wire.learn(request)
        self._content = content
        self._body_bytes = 0
        return request

    def _consumed(self) -> None:
        """Tell the parser that it may go on to another request."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _linger(self, content: StreamReader) -> bool:
        """Read what is left of a body that nobody wanted, so that its sender sees the answer; whether it ended."""
        # An upload that was just cancelled still stands at the reader.
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError, RequestPayloadError):
            async with asyncio.timeout(_LINGER_S):
                while not content.is_eof() and not self._force_close:
                    await content.readany()
        return content.is_eof()

    # Limits on heads.

    def _count_head(self, size_bytes: int) -> None:
        if not self._head_bytes:
            self._head_since_s = self._loop.time()
        self._head_bytes += size_bytes
        if self._head_bytes > _LONGEST_HEAD_BYTES:
            self._refuse_head(InvalidRequest(_MALFORMED))

    def check_head(self, now_s: float, timeout_s: float) -> None:
        """Refuse a head that has been arriving for too long."""
        if self._head_bytes and now_s - self._head_since_s > timeout_s:
            self._refuse_head(
                RequestTimeout(f"the request head took over {timeout_s:g} s; LECTR_CLIENT_TIMEOUT_S sets the limit")
            )

    def _refuse_head(self, fault: Fault) -> None:
        self._head_bytes = 0
        if self._waiter is None:
            # An earlier request is being served: its answer comes first, and nothing is said behind it.
            self.close()
            return
        self.answer_begun = False
        self.send(fault_answer(fault, "/v1", close=True))
        self.force_close()


class _TunnelReader:
    """What aiohttp hands the bytes behind an accepted upgrade to."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass bytes on; never the end, never a rest."""
        if data:
            self._take(data)
        return False, b""

    def feed_eof(self) -> None:
        """Say that the client has ended."""
        self._take(b"")
