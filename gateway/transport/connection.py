"""One connection to a provider: a request out, its answer's head in, its body pushed to a sink. One at a time.

A body is pushed from where it is received, without a task in between: `Sink.take` runs inside the event loop's read
callback. Whoever relays waits once for the head and once for the end.
"""

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal, Protocol, cast

from gateway.faults import ProviderTruncated, ProviderUnreachable
from gateway.transport.framing import Framing, MalformedAnswer, UntilClose
from gateway.transport.head import LONGEST_HEAD_BYTES, AnswerHead, is_interim, parse_head

_MOST_INTERIM_HEADS: Final = 32
_CONTINUE: Final = 100
_SWITCHING: Final = 101
_HELD_BYTES: Final = 64 * 1024
"""Body bytes kept while nobody takes them yet; past it the provider has to wait."""
_WRITE_HIGH_BYTES: Final = 256 * 1024


class Sink(Protocol):
    """Where the body of an answer goes."""

    def take(self, wire: bytes, payload: bytes, *, last: bool) -> None:
        """Bytes as they came (chunk framing included), and the payload in them. Never raises, never waits.

        `last`: the body ends with them.
        """


class Connection(asyncio.Protocol):
    """A connection and the exchange on it. Made by `dial`, kept by `pool`."""

    __slots__ = (
        "_broken",
        "_done",
        "_drained",
        "_framing",
        "_head",
        "_held",
        "_interim_heads",
        "_loop",
        "_lost",
        "_method",
        "_now_s",
        "_on_interim",
        "_poll",
        "_sink",
        "_sink_paused",
        "_transport",
        "_tunnel",
        "_upgrades",
        "_upload",
        "_waiter",
        "born_s",
        "heard_s",
        "proxy_lines",
        "target_prefix",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now_s = loop.time
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._waiter: asyncio.Future[AnswerHead] | None = None
        self._head: AnswerHead | None = None
        self._held = bytearray()
        self._sink: Sink | None = None
        self._framing: Framing | None = None
        self._sink_paused = False
        self._done: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._lost = False
        self._broken = False
        self._method = ""
        self._interim_heads = 0
        self._on_interim: Callable[[bytes], None] | None = None
        self._upgrades = False
        self.born_s = self.heard_s = loop.time()
        self.target_prefix = b""
        """What stands before each request target: the origin, when an HTTP proxy is asked."""
        self.proxy_lines = b""
        """Header lines for that proxy, each with its CRLF before it."""
        self._tunnel: Callable[[bytes], None] | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, on a plain or a TLS transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        fd = transport.get_extra_info("socket").fileno()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the provider."""
        self.heard_s = self._now_s()
        sink, framing = self._sink, self._framing
        if sink is not None and framing is not None:
            try:
                wire, payload, rest = framing.take(data)
            except MalformedAnswer:
                self.fail(ProviderTruncated("malformed body"))
                return
            if wire:
                sink.take(wire, payload, last=framing.ended)
            if framing.ended:
                # Bytes behind the end belong to nothing: this connection is not used again.
                self._broken |= bool(rest)
                self._sink = None
                if self._done is not None and not self._done.done():
                    self._done.set_result(None)
        elif self._tunnel is not None:
            self._tunnel(data)
        elif self._head is not None:
            self._held += data
            if len(self._held) > _HELD_BYTES and self._transport is not None:
                self._transport.pause_reading()
        elif self._waiter is not None:
            self._read_heads(data)
        else:
            # Nobody asked: whatever it is, it must not become the beginning of the next answer.
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost = True
        self._broken |= exc is not None
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError())
            self._drained.exception()  # whoever sent may have left; asyncio would call it unseen
        if self._sink is not None:
            self._end_with_connection()
        elif self._tunnel is not None:
            self._tunnel(b"")
        elif self._head is None:
            self.fail(ProviderUnreachable("the connection broke before an answer"))

    def pause_writing(self) -> None:
        """The provider does not take what is sent."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # One exchange.

    def send(
        self, method: str, request: bytes, *, on_interim: Callable[[bytes], None] | None = None, upgrades: bool = False
    ) -> None:
        """Write a request head (and its body if it is small); `answer` waits for what comes back."""
        self._method, self._on_interim, self._upgrades = method, on_interim, upgrades
        self._waiter = self._loop.create_future()
        self._interim_heads = 0
        self.heard_s = self._now_s()
        if self._transport is None or self._lost:
            self.fail(ProviderUnreachable("the connection broke before the request was sent"))
        else:
            self._transport.write(request)

    def upload(self, pieces: AsyncIterator[bytes | bytearray], *, chunked: bool) -> None:
        """Send the request's body behind its head, while the answer may already be coming."""
        self._upload = asyncio.create_task(self._send_pieces(pieces, chunked=chunked), name="upload")

    def answer(self) -> asyncio.Future[AnswerHead]:
        """The head of the answer. It raises ProviderUnreachable, ProviderTimeout, and what the upload raised."""
        if self._waiter is None:
            raise RuntimeError("nothing was sent")
        return self._waiter

    def start(self, sink: Sink) -> bool:
        """Push the body to the sink, beginning with what is here; whether that is all of it already."""
        head = self._head
        if head is None:
            raise RuntimeError("no answer to relay")
        framing = head.framing
        if framing is None:
            return True
        self._sink, self._framing = sink, framing
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self.data_received(held)
            self._read_on()
        if self._lost and self._sink is not None:
            self._end_with_connection()
        return framing.ended

    async def finished(self) -> None:
        """Wait for the end of the body. Raises ProviderTruncated, ProviderStalled, and what the upload raised."""
        if self._done is None:
            self._done = self._loop.create_future()
        await self._done

    def start_tunnel(self, take: Callable[[bytes], None]) -> None:
        """After a 101: hand over all bytes as they come, and an empty one at the end."""
        self._tunnel = take
        held, self._held = bytes(self._held), bytearray()
        if held:
            take(held)
        if self._lost:
            take(b"")
        else:
            self._read_on()

    def overdue(self, now_s: float, first_byte_s: float, idle_s: float) -> Literal["first byte", "idle", "client", ""]:
        """What has been silent for too long, if anything has: "client" is one that does not take what came."""
        silent_s = now_s - self.heard_s
        if self._head is None:
            return "first byte" if silent_s > first_byte_s else ""
        if silent_s <= idle_s or self._sink is None or self._transport is None:
            return ""
        return "idle" if self._transport.is_reading() else "client"

    def fail(self, error: Exception) -> None:
        """End the exchange with this error, and the connection with it."""
        self._sink = None
        if self._head is None:
            ending: asyncio.Future[Any] | None = self._waiter
        else:
            ending = self._done = self._done or self._loop.create_future()
        if ending is not None and not ending.done():
            ending.set_exception(error)
        self.abort()

    def finish(self) -> bool:
        """End the exchange; whether the connection may serve another one. If not, it is cut."""
        head, self._head = self._head, None
        ended = head is not None and (head.framing is None or head.framing.ended) and not self._held
        uploaded = self._upload is None or (self._upload.done() and not self._upload.cancelled())
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        if self._waiter is not None:
            _mark_seen(self._waiter)
        if self._done is not None:
            _mark_seen(self._done)
        self._sink = self._framing = self._on_interim = self._waiter = self._done = self._tunnel = None
        self._sink_paused = False
        if (
            head is not None
            and ended
            and uploaded
            and head.reusable
            and not self._lost
            and not self._broken
            # Paused by a client that left with the last bytes: nobody would notice what comes, or that it closed.
            and self._transport is not None
            and self._transport.is_reading()
        ):
            return True
        self.abort()
        return False

    # The connection.

    def pause(self) -> None:
        """Stop reading: the client is slower than the provider."""
        self._sink_paused = True
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._sink_paused = False
        self._read_on()

    def _read_on(self) -> None:
        if self._transport is None or self._lost or self._sink_paused or self._transport.is_reading():
            return
        self.heard_s = self._now_s()
        self._transport.resume_reading()

    def write(self, data: bytes | bytearray) -> asyncio.Future[None] | None:
        """Send bytes; what to wait for before sending more, if anything."""
        if self._transport is None or self._lost:
            raise ConnectionResetError
        self._transport.write(data)
        return self._drained

    @property
    def alive(self) -> bool:
        """Whether nothing has happened on an idle connection: asks the socket, as the event loop may be behind it."""
        if self._lost or self._broken or self._transport is None or self._transport.is_closing() or self._poll is None:
            return False
        return not self._poll.poll(0)

    def abort(self) -> None:
        """Cut it, now: the provider stops working for nobody."""
        self._broken = True
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    def _read_heads(self, data: bytes) -> None:
        if self._held:
            searched_from = max(len(self._held) - 3, 0)
            self._held += data
            found = self._held.find(b"\r\n\r\n", searched_from)
            data = bytes(self._held) if found >= 0 else b""
        else:
            searched_from = 0
            found = data.find(b"\r\n\r\n")
            if found < 0:
                self._held += data
        try:
            if found < 0:
                self._check_held(searched_from)
            while found >= 0:
                head = parse_head(data[: found + 4], self._method)
                data = data[found + 4 :]
                if not is_interim(head.status):
                    self._held = bytearray(data)
                    self._begin_answer(head)
                    return
                self._pass_interim(head)
                self._held = bytearray(data)
                found = data.find(b"\r\n\r\n")
        except MalformedAnswer as malformed:
            self.fail(ProviderUnreachable(f"the provider's answer is not valid HTTP ({malformed})"))

    def _check_held(self, seen_bytes: int) -> None:
        """Refuse an unfinished head that cannot become one; the first `seen_bytes` were looked at."""
        held = self._held
        if len(held) > LONGEST_HEAD_BYTES:
            raise MalformedAnswer("a head without end")
        line_end = held.find(b"\n", seen_bytes)
        while line_end >= 0:
            # Waiting for its CRLFs would take until the timeout.
            if not held.startswith(b"\r", max(line_end - 1, 0)):
                raise MalformedAnswer("a bare LF in the head")
            line_end = held.find(b"\n", line_end + 1)

    def _begin_answer(self, head: AnswerHead) -> None:
        if head.status == _SWITCHING and not self._upgrades:
            raise MalformedAnswer("101 although nobody asked for another protocol")
        # What was switched does not switch back.
        self._broken |= head.status == _SWITCHING
        self._head = head
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(head)

    def _pass_interim(self, head: AnswerHead) -> None:
        self._interim_heads += 1
        if self._interim_heads > _MOST_INTERIM_HEADS:
            raise MalformedAnswer("interim answers without end")
        # 100 answers an Expect that was ours to answer.
        if head.status != _CONTINUE and self._on_interim is not None:
            self._on_interim(head.block)

    def _end_with_connection(self) -> None:
        framing = self._head.framing if self._head is not None else None
        if isinstance(framing, UntilClose) and not self._broken:
            framing.ended = True
            self._sink = None
            if self._done is not None and not self._done.done():
                self._done.set_result(None)
        else:
            self.fail(ProviderTruncated("the connection closed inside the body"))

    async def _send_pieces(self, pieces: AsyncIterator[bytes | bytearray], *, chunked: bool) -> None:
        try:
            async for piece in pieces:
                if not piece:
                    continue
                waits = self.write(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)) if chunked else piece)
                if waits is not None:
                    await waits
                self.heard_s = self._now_s()
            if chunked:
                self.write(b"0\r\n\r\n")
        except ConnectionError:
            # The provider closed: its answer, or that there is none, is what counts.
            return
        except Exception as error:  # noqa: BLE001 - the client's fault, or a defect: whoever waits for the answer gets it
            self.fail(error)


def _mark_seen(ending: asyncio.Future[Any]) -> None:
    """Whoever waited for it may have been cancelled; asyncio would log its error as never retrieved."""
    if ending.done() and not ending.cancelled():
        ending.exception()
