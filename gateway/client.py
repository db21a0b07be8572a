"""One request of a client as the steps of the proxy see it: its head, where its body comes from, where answers go."""

from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.client_head import ClientHead

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp.http_parser import RawRequestMessage

    from gateway.client_connection import ClientConnection

_SMALL_BYTES: Final = 64 * 1024
"""Well below what makes the reader pause its connection: there is nothing to resume."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientRequest:
    """A request whose head was parsed.

    `target` is the raw request target, `head` what its fields say, `length` the announced one as on the wire (empty if
    there is none). Answers are written as bytes: whoever answers writes head and body himself.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_content",
        "_keep_alive",
        "answer_ended",
        "chunked",
        "head",
        "length",
        "method",
        "target",
        "upgrade",
        "v1_1",
        "write",
    )

    def __init__(  # noqa: PLR0917 - made for every request, and names cost time
        self,
        connection: "ClientConnection",
        method: str,
        target: str,
        head: ClientHead,
        length: bytes,
        body: bytes,
        content: StreamReader | None = None,
        *,
        chunked: bool = False,
        upgrade: bool = False,
        v1_1: bool = True,
        keep_alive: bool = True,
    ) -> None:
        """The body is `content`, or where that is None `body`: all of it came with the head."""
        self._connection = connection
        self.method = method
        self.target = target
        self.head = head
        self.length = length
        self._content = content
        self._body = body
        self.chunked = chunked
        self.upgrade = upgrade
        self.v1_1 = v1_1
        """Whether the client knows chunks and keeps its connection by default."""
        self._keep_alive = keep_alive
        self.answer_ended: Callable[[], bool] = bool
        """Whether the end of the answer's content was written, whatever the framing still lacks."""
        self.write: Callable[[bytes], None] = connection.send
        """Send bytes of the answer. A client that left is told by cancellation, not here."""

    @property
    def task(self) -> "asyncio.Task[None]":
        """What serves it; cancelled when the client leaves."""
        task = self._connection.task
        if task is None:
            raise RuntimeError("a request is served inside its connection's task")
        return task

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection may serve another request, as far as is known."""
        return self._keep_alive and not (self.chunked and self._connection.trailers.may_trail(self.content))

    @property
    def body_exists(self) -> bool:
        """Whether the head announces a body."""
        return bool(self._body) if self._content is None else self._content is not EMPTY_PAYLOAD

    @property
    def whole(self) -> bool:
        """Whether the body came with the head."""
        return self._content is None

    @property
    def content(self) -> StreamReader:
        """The body as a stream."""
        if self._content is None:
            self._content = self._connection.reader() if self._body else EMPTY_PAYLOAD
            if self._body:
                self._content.feed_data(self._body)
                self._content.feed_eof()
        return self._content

    def whole_body(self) -> bytes | None:
        """The body, if it has arrived as a whole and is small; None otherwise. It is not taken from `content`."""
        content = self._content
        if content is None:
            return self._body
        if content is EMPTY_PAYLOAD:
            return b""
        # What aiohttp's reader has is not its promise, but asking for it through the front door costs 4 us.
        pieces = content._buffer  # noqa: SLF001 - see above
        if not content.is_eof() or content.exception() is not None or content.total_bytes > _SMALL_BYTES:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def expect_more(self) -> None:
        """Answer `Expect: 100-continue`, so that the client sends its body."""
        self._connection.send_interim(_CONTINUE)

    def interim(self, head: bytes) -> None:
        """Pass on an interim answer of the provider, to a client that knows of such."""
        if self.v1_1:
            self._connection.send_interim(head)

    @property
    def asks_for_websocket(self) -> bool:
        """Whether this is a WebSocket handshake (RFC 6455 4.1)."""
        return self.upgrade and self.head.asks_for_websocket

    def start_tunnel(self, take: "Callable[[bytes], None]") -> None:
        """From now on hand over all bytes of the client as they come, and an empty one at the end."""
        self._connection.start_tunnel(take)

    def pause(self) -> None:
        """Take no more from the client for now."""
        self._connection.pause_tunnel()

    def resume(self) -> None:
        """Take bytes again."""
        self._connection.resume_tunnel()

    def on_leave(self, goes_on: "Callable[[], bool]") -> None:
        """Ask, when the client leaves, whether the request goes on without it; otherwise it is cancelled."""
        self._connection.on_leave = goes_on

    def watch_flow(self, on_change: "Callable[[bool], None] | None") -> None:
        """Be told when the client stops taking bytes (True) and takes them again (False)."""
        self._connection.watch_flow(on_change)

    @property
    def has_its_answer(self) -> bool:
        """Whether a client that leaves now has all that it waited for: SDKs close a stream at its end marker."""
        return self.answer_ended() and not self.behind

    @property
    def behind(self) -> bool:
        """Whether the client has yet to take much of what was written."""
        return self._connection.behind

    async def drained(self, timeout_s: float) -> None:
        """Wait until the client has taken most of what was written. Raises ClientStalled, ConnectionError."""
        await self._connection.drained(timeout_s)

    def abort(self) -> None:
        """Cut the client's connection, so that it cannot take what it has for a whole answer."""
        self._connection.abort()


def parsed_request(
    connection: "ClientConnection", message: "RawRequestMessage", content: StreamReader
) -> ClientRequest:
    """The request that aiohttp's parser found; its head is the last one's if that says the same."""
    raw = message.raw_headers
    head = connection.known_head
    if head is None or not head.describes(raw):
        head = ClientHead(raw, message.headers)
        connection.known_head = head if head.repeatable else None
    version = message.version
    return ClientRequest(
        connection,
        message.method,
        message.path,
        head,
        head.length_in(raw),
        b"",
        content,
        chunked=message.chunked,
        upgrade=message.upgrade,
        v1_1=version is HttpVersion11 or version >= HttpVersion11,
        # aiohttp's parser already weighed Connection against the version; 0.9 is not to be kept in any case. Behind an
        # upgrade that is not taken it drops what came in the same read, and takes what follows for a request.
        keep_alive=not (message.should_close or version < HttpVersion10 or message.upgrade),
    )
