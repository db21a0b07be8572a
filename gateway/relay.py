"""The provider's answer to the client: its own bytes, head and body, shown to a meter on the way.

Only the hop's own fields are taken out and put in. Bytes are written before they are metered, but for the last ones:
an answer that its client has in full is in the journal. A client that takes bytes slowly makes the gateway read slowly.
When the provider breaks off, the client's connection is broken off too: never a clean end after a truncated answer.
"""

from collections.abc import Callable
from typing import Final

from gateway.client import ClientRequest
from gateway.exchange import Exchange
from gateway.faults import ClientStalled, Fault, ProviderStalled, ProviderTruncated
from gateway.upstream import Answer
from gateway.usage import Call, Meter, SilentMeter, open_meter, read_whole, request_id_of
from gateway.usage_relay import StrippedUsage, strips_usage
from shared import counters
from shared.clock import monotonic_ns

_BATCH_BYTES: Final = 4 * 1024
_BATCH_PIECES: Final = 32
_SPLIT_BYTES: Final = 64 * 1024
"""Of a longer last piece only the last byte waits for the journal: whether the client takes the rest is to be known."""
_EVENT_STREAM: Final = "text/event-stream"


class Relay:
    """Takes the body's bytes where they are received: to the client, then to the meter."""

    __slots__ = (
        "_answer",
        "_content_type",
        "_exchange",
        "_head",
        "_last",
        "_paused_ns",
        "_token_due",
        "_unread",
        "_unread_bytes",
        "_verbatim",
        "_write",
        "meter",
    )

    def __init__(
        self,
        request: ClientRequest,
        answer: Answer,
        exchange: Exchange,
        content_type: str,
        head: bytes,
        *,
        verbatim: bool,
    ) -> None:
        """`verbatim`: the client gets the bytes as they come, not the payload in them."""
        self._write = request.write
        self._answer = answer
        self._exchange = exchange
        self._head = head
        self._verbatim = verbatim
        self._paused_ns = 0
        self._token_due = exchange.streaming
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._last = b""
        """What is written when the exchange is in the journal."""
        self._content_type = content_type
        self.meter: Meter | None = None
        """Opened with the first bytes that it is shown."""

    def take(self, wire: bytes, payload: bytes, *, last: bool) -> None:
        """The next bytes of the answer."""
        if not self._verbatim:
            wire = payload
        if self._head:
            wire, self._head = self._head + wire, b""
        if last:
            self._last = wire
        else:
            self._write(wire)
        if self._token_due or not payload:
            self._await_token(payload)
            return
        # Nobody waits for what the rest says: many pieces at a time cost half as much to read.
        self._unread.append(payload)
        self._unread_bytes += len(payload)
        if self._unread_bytes >= _BATCH_BYTES or len(self._unread) >= _BATCH_PIECES:
            self.read()

    def _await_token(self, payload: bytes) -> None:
        if payload:
            self._unread.append(payload)
            self._unread_bytes += len(payload)
            if self.read().token_seen:
                self._token_due = False
                self._exchange.first_token_ns = monotonic_ns()

    def read(self) -> Meter:
        """Show the meter what has come."""
        meter = self.meter
        if meter is None:
            meter = self.meter = self._open()
        payload = b"".join(self._unread) if len(self._unread) != 1 else self._unread[0]
        self._unread = []
        self._exchange.response_bytes += self._unread_bytes
        self._unread_bytes = 0
        try:
            meter.feed(payload)
        except Exception:  # noqa: BLE001 - counted; a defect of ours in a meter must not cut a client's answer
            meter = self.meter = replaced(self._exchange)
        return meter

    def _call(self) -> Call:
        exchange = self._exchange
        facts = exchange.facts
        return Call(exchange.provider, exchange.method, exchange.endpoint, facts.content_bytes, facts.message_count)

    def _open(self) -> Meter:
        """The answer's meter; one that cannot be opened is replaced by one that lets the bytes pass."""
        head = self._answer.head
        try:
            return open_meter(self._call(), head.status, self._content_type, head.value(b"content-encoding"))
        except Exception:  # noqa: BLE001 - counted: the answer comes first
            return replaced(self._exchange)

    def _read_at_once(self) -> bool:
        """Read a whole answer of the commonest kind; False, and nothing read, for any other."""
        exchange, head = self._exchange, self._answer.head
        if exchange.streaming or b"content-encoding" in head.fields:
            return False
        try:
            reading = read_whole(self._call(), head.status, self._content_type, self._unread[0])
        except Exception:  # noqa: BLE001 - the meter may do better, and counts it if it does not
            return False
        if reading is None:
            return False
        exchange.response_bytes = self._unread_bytes
        exchange.reading = reading
        return True

    def end(self, *, complete: bool) -> None:
        """Put what the meter has read onto the exchange."""
        self.count_stall()
        if complete and self.meter is None and len(self._unread) == 1 and self._read_at_once():
            return
        finish(self.read() if self._unread or self.meter is None else self.meter, self._exchange, complete=complete)

    def flush(self) -> None:
        """Send the head if no byte of the body has taken it along, and the body is still to come."""
        if self._head and not self._last:
            self._write(self._head)
            self._head = b""

    async def write_most(self, request: ClientRequest, silence_s: float) -> None:
        """Wait until the client has taken what was written before the last piece. Raises ClientStalled."""
        if len(self._last) > _SPLIT_BYTES:
            self._write(self._last[:-1])
            self._last = self._last[-1:]
        if request.behind:
            await request.drained(silence_s)

    def write_last(self) -> None:
        """Write what was held back: the client has the whole answer."""
        self._write(self._head + self._last)

    def flow(self, paused: bool) -> None:
        """The client stopped taking bytes, or takes them again."""
        if paused:
            self._paused_ns = monotonic_ns()
            self._answer.pause()
        else:
            self.count_stall()
            self._answer.resume()

    def has_ended(self) -> bool:
        """Whether the answer's own end marker has come, and everything up to it was written."""
        meter = self.read() if self._unread else self.meter
        return meter is not None and meter.ended

    def count_stall(self) -> None:
        """Note how long the client has kept the answer waiting."""
        if self._paused_ns:
            self._exchange.client_stall_ns += monotonic_ns() - self._paused_ns
            self._paused_ns = 0


async def relay(
    request: ClientRequest, answer: Answer, exchange: Exchange, *, draining: bool, record: Callable[[], None]
) -> bool:
    """Pass the answer on to its end and fill in the exchange's outcome; whether the client's connection stays open.

    `record` is called before the client gets the last byte. Raises ConnectionError after breaking the client's
    connection, or when the client is gone.
    """
    head = answer.head
    exchange.first_byte_ns = monotonic_ns()
    content_type = head.value(b"content-type")
    exchange.streaming = exchange.streaming or is_event_stream(content_type)
    exchange.provider_request_id = request_id_of(head.fields)
    strips = exchange.usage_requested and strips_usage(exchange, head)
    if strips:
        head = head.unsized()
    data, keep_alive = head.for_client(v1_1=request.v1_1, keep_alive=request.keep_alive and not draining)
    passing = Relay(request, answer, exchange, content_type, data, verbatim=strips or request.v1_1)
    stripped = StrippedUsage(passing, exchange, chunked=request.v1_1 and head.chunked) if strips else None
    complete = False
    exchange.status = head.status
    try:
        if not answer.start(stripped or passing):
            passing.flush()
            request.watch_flow(passing.flow)
            request.answer_ended = passing.has_ended
            await answer.finished()
        complete = True
        if stripped is not None:
            stripped.end()
        await passing.write_most(request, answer.idle_timeout_s)
    except ClientStalled:
        counters.client_stalls.inc()
        exchange.failed("timeout", "client")
        request.abort()
        raise ConnectionResetError from None
    except ProviderTruncated as cut:
        counters.upstream_truncated.labels(exchange.provider).inc()
        exchange.failed("timeout" if isinstance(cut, ProviderStalled) else "stream_truncated", "provider")
        request.abort()
        raise ConnectionResetError from None
    except Fault as fault:
        # The upload ended badly after its answer had begun.
        exchange.failed(fault.category, fault.source)
        request.abort()
        raise ConnectionResetError from None
    finally:
        request.watch_flow(None)
        passing.end(complete=complete)
    record()
    passing.write_last()
    return keep_alive


def is_event_stream(content_type: str) -> bool:
    """Whether an answer of this type is a stream of events."""
    return content_type[: len(_EVENT_STREAM)].lower() == _EVENT_STREAM


def replaced(exchange: Exchange) -> Meter:
    """The meter instead of one that failed."""
    counters.meter_faults.labels(exchange.provider).inc()
    exchange.marks += ("meter_failed",)
    return SilentMeter(has_content=True)


def finish(meter: Meter, exchange: Exchange, *, complete: bool) -> None:
    """Put what the meter read onto the exchange."""
    try:
        exchange.reading = meter.finish(complete=complete)
        faulted = meter.faulted
    except Exception:  # noqa: BLE001 - as above
        exchange.marks += ("meter_failed",)
        faulted = True
    if faulted:
        counters.meter_faults.labels(exchange.provider).inc()
