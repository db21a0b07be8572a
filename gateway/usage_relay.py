"""An answer whose usage the gateway asked for, on its way to a client that did not: the meter sees all of it.

Stands between the provider's bytes and the relay. The framing of the client's hop is ours then: each piece that is left
is one chunk, and trailers follow as they came.
"""

import re
from typing import TYPE_CHECKING, Final

from gateway.usage_strip import UsageStrip
from shared import counters

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.upstream import AnswerHead, Sink

MARK_NOT_STRIPPED: Final = "usage_not_stripped"
"""The client may have got what it did not ask for."""
_TRAILERS: Final = re.compile(
    rb"\A(?:(?s:.*\n)?0+[ \t]*(?:;[^\r\n]*)?\r\n)?((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n]*\r\n)*)\r\n\Z"
)
"""The end of a chunked body, whose last chunk's size may have come before."""


def strips_usage(exchange: "Exchange", head: "AnswerHead") -> bool:
    """Whether an answer can be stripped. One that cannot, and may have something to strip, is marked and counted."""
    media_type = head.value(b"content-type").partition(";")[0].strip().lower()
    # Errors and whole answers say no more than they would have said unasked.
    if head.framing is None or head.status // 100 != 2 or media_type == "application/json":  # noqa: PLR2004 - HTTP's own
        return False
    if media_type == "text/event-stream" and head.value(b"content-encoding").strip().lower() in {"", "identity"}:
        return True
    _note(exchange)
    return False


class StrippedUsage:
    """Hands the answer on: what is left of it for the client, all of it for the meter."""

    __slots__ = ("_chunked", "_exchange", "_sink", "_strip")

    def __init__(self, sink: "Sink", exchange: "Exchange", *, chunked: bool) -> None:
        """`chunked`: the client gets chunks."""
        self._sink = sink
        self._exchange = exchange
        self._chunked = chunked
        self._strip = UsageStrip()

    def take(self, wire: bytes, payload: bytes, *, last: bool) -> None:
        """The next bytes of the answer."""
        kept = self._strip.feed(payload)
        if last:
            kept += self._strip.end()
        if self._strip.unsure:
            _note(self._exchange)
        # The relay counts what it shows the meter.
        self._exchange.response_bytes += len(kept) - len(payload)
        if self._chunked:
            if kept:
                kept = b"%x\r\n%b\r\n" % (len(kept), kept)
            if last:
                trailers = _TRAILERS.match(wire)
                kept += b"0\r\n%b\r\n" % (trailers[1] if trailers else b"")
        self._sink.take(kept, payload, last=last)

    def end(self) -> None:
        """The answer ended with its connection: nothing follows what was held back."""
        if rest := self._strip.end():
            self._exchange.response_bytes += len(rest)
            self._sink.take(rest, b"", last=True)


def _note(exchange: "Exchange") -> None:
    if MARK_NOT_STRIPPED not in exchange.marks:
        exchange.marks += (MARK_NOT_STRIPPED,)
        counters.usage_not_stripped.inc()
