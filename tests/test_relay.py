"""The relay's own promises that no whole-path test can force."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.exchange import Exchange
from gateway.proxy import Proxy
from gateway.relay import Relay, finish
from shared.logs import get_log


class BrokenMeter:
    """A meter with a defect."""

    token_seen = False
    faulted = False
    ended = False

    def feed(self, chunk: bytes) -> None:
        raise IndexError(chunk)

    def finish(self, *, complete: bool) -> Any:
        raise KeyError(complete)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(started_ns=1, started_unix_ms=1, method="POST", endpoint="/v1/x", provider="openai")


def test_a_meter_that_fails_is_replaced(exchange: Exchange) -> None:
    """A defect in a meter never reaches the answer: the rest passes unmetered, and the event says so."""
    written: list[bytes] = []
    request = SimpleNamespace(write=written.append)
    passing = Relay(cast("Any", request), cast("Any", None), exchange, "", b"HEAD", verbatim=True)
    passing.meter = BrokenMeter()
    passing.take(b"1\r\nx\r\n", b"x", last=False)
    passing.take(b"1\r\ny\r\n", b"y", last=True)
    assert written == [b"HEAD1\r\nx\r\n"], "the last piece waits for the journal"
    passing.end(complete=True)
    passing.write_last()
    assert written == [b"HEAD1\r\nx\r\n", b"1\r\ny\r\n"]
    event = exchange.event(0)
    assert event.marks == ("meter_failed",)
    assert event.usage_source == "absent"


def test_a_meter_that_fails_at_the_end(exchange: Exchange) -> None:
    """A defect at the end leaves an event without usage."""
    finish(BrokenMeter(), exchange, complete=True)
    event = exchange.event(0)
    assert event.marks == ("meter_failed",)
    assert event.usage_source == "absent"


def test_an_event_that_cannot_be_made_costs_the_event_alone(
    monkeypatch: pytest.MonkeyPatch, exchange: Exchange
) -> None:
    """A defect while the event is made is counted, its number is used up, and the answer is not touched."""
    kept: list[bytes] = []

    class Numbers:
        next_seq = 7

        def skip(self) -> None:
            self.next_seq += 1

        def append(self, event: bytes) -> None:
            kept.append(event)

    journal = Numbers()
    proxy = Proxy.__new__(Proxy)
    proxy._journal = cast("Any", journal)
    proxy._log = get_log("proxy")
    exchange.org = "acme"
    monkeypatch.setattr(Exchange, "event", lambda *_: 1 / 0)
    proxy._record(exchange)
    assert (journal.next_seq, kept) == (8, [])
