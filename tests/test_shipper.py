"""The way of events to the Redis stream: in order, each once, whatever happens to Redis or to the connection."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import new_source
from gateway.journal.backlog import MAX_RUN_BYTES, Backlog
from gateway.journal.segment import Segment
from shared import counters
from shared.stream import MAX_FRAME_EVENTS, BootEnd, Partition, encode_event
from tests.ingestor_process import event
from tests.journal_site import INSTANCE, SMALL_BYTES
from tests.shipper_site import (
    Sender,
    Store,
    assert_chain,
    count,
    ends,
    entries,
    flow,
    frames,
    lossy,
    order,
    seqs,
    shipped,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_shipper")

PASSWORD = "hunter2-velvet"
P0 = Partition(0)


async def test_events_arrive_in_order(redis_url: str, state: Path) -> None:
    """Events added in bursts arrive once each, in order and unchanged, in frames whose numbers follow each other."""
    sender = Sender(redis_url, state, segment_bytes=SMALL_BYTES)
    sent_before = count(counters.events_sent)
    sender.start()
    for burst in (1, 2, 500, 3, 1_000):
        sender.add(burst)
        await sender.all_shipped()
    await sender.close()
    arrived = frames(redis_url, sender.source)
    assert [item for frame in arrived for item in frame.events] == [event(n) for n in range(1_506)]
    assert arrived[0].expected_seq == 0
    assert_chain(arrived)
    assert all(frame.expected_seq == frame.first_seq for frame in arrived), "no number is missing"
    assert count(counters.events_sent) - sent_before == 1_506
    assert counters.registry.get_sample_value("lectr_gateway_events_buffered") == 0


async def test_frames_are_bounded(redis_url: str, state: Path) -> None:
    """A backlog is shipped in frames of at most MAX_FRAME_EVENTS events and MAX_RUN_BYTES bytes."""
    sender = Sender(redis_url, state, segment_bytes=8 << 20)
    sender.add(2 * MAX_FRAME_EVENTS + 1)
    for _ in range(30):
        sender.journal.append(encode_event(event(sender.journal.next_seq, task="x" * (MAX_RUN_BYTES // 10))))
    sender.start()
    await sender.close()
    sizes = [len(frame.events) for frame in frames(redis_url, sender.source)]
    assert sizes[:2] == [MAX_FRAME_EVENTS, MAX_FRAME_EVENTS]
    assert sizes[2] == 1 + 9, "the tenth large event would go beyond the bound"
    assert max(sizes[3:]) == 9
    assert seqs(redis_url, sender.source) == list(range(2 * MAX_FRAME_EVENTS + 31))


async def test_sources_do_not_mix(redis_url: str, state: Path) -> None:
    """Two gateways that ship at once into one partition keep their own numbers and order."""
    senders = [Sender(redis_url, state) for _ in range(2)]
    for sender in senders:
        sender.start()
    for step in range(50):
        for number, sender in enumerate(senders):
            sender.add(step % 3 + number)
            await until(lambda: all(sender.waiting < 3 for sender in senders))
    for sender in senders:
        await sender.close()
        assert seqs(redis_url, sender.source) == list(range(sender.journal.next_seq))


async def test_a_source_stays_in_its_partition(redis_url: str) -> None:
    """With several partitions all frames of a source go to the one that its number names, and so does its end."""
    for _ in range(8):
        sender = Sender(redis_url, partitions=4)
        sender.start()
        sender.add(3)
        await sender.close()
        arrived = entries(redis_url, sender.source, partitions=4)
        assert sum(len(entry.events) for entry in arrived) == 3
        assert arrived[-1].end is not None


def test_sources_are_drawn() -> None:
    """A source's name is 63 random bits, another for every boot."""
    drawn = {new_source() for _ in range(1_000)}
    assert len(drawn) == 1_000
    assert all(0 <= source < 2**63 for source in drawn)
    assert max(drawn) > 2**61


@pytest.mark.parametrize("hang", [False, True], ids=["connection lost", "answer never comes"])
async def test_a_lost_answer_repeats_nothing(
    redis_url: str, state: Path, monkeypatch: pytest.MonkeyPatch, hang: bool
) -> None:
    """When Redis took a frame but its answer is lost, the frame is pushed again and is there once."""
    monkeypatch.setattr("gateway.stream.SOCKET_TIMEOUT_S", 0.3)
    async with lossy(redis_url) as (proxy, url):
        sender = Sender(url, state)
        sender.start()
        sender.add(10)
        await sender.all_shipped()
        proxy.lose, proxy.hang = 3, hang
        for _ in range(5):
            sender.add(10)
            await sender.all_shipped()
        await sender.close()
    assert proxy.lost == 3
    assert seqs(redis_url, sender.source) == list(range(60))
    assert not sender.ship.redis_failing


async def test_redis_killed_again_and_again(store: Store, state: Path) -> None:
    """SIGKILL of Redis while events flow, three times: afterwards every event is on the stream, each once."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    stop = asyncio.Event()
    flowing = asyncio.create_task(flow(sender, stop))
    for _ in range(3):
        await shipped(sender, sender.journal.next_seq + 200)
        await asyncio.to_thread(store.restart)
    await until(lambda: not sender.ship.redis_failing)
    stop.set()
    await flowing
    await sender.close(30)
    assert sender.waiting == 0
    assert seqs(store.url, sender.source) == list(range(sender.journal.next_seq))
    assert_chain(entries(store.url, sender.source))


async def test_redis_that_comes_later(store: Store, state: Path) -> None:
    """Events from before Redis was up arrive once it is; meanwhile the shipper says that Redis fails."""
    store.part.kill()
    sender = Sender(store.url, state)
    retried = count(counters.push_retries, "ConnectionError")
    sender.start()
    sender.add(50)
    await until(lambda: sender.ship.redis_failing)
    assert sender.waiting == 50
    await asyncio.to_thread(store.restart)
    await sender.all_shipped()
    assert not sender.ship.redis_failing
    assert count(counters.push_retries, "ConnectionError") > retried
    await sender.close()
    assert seqs(store.url, sender.source) == list(range(50))


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (("config", "set", "maxmemory", "1"), ("config", "set", "maxmemory", "0"), "OutOfMemoryError"),
        (("set", P0.stream, "x"), ("del", P0.stream), "ResponseError"),
        (("replicaof", "127.0.0.1", "1"), ("replicaof", "no", "one"), "ReadOnlyError"),
    ],
)
async def test_redis_that_refuses(
    store: Store, state: Path, break_it: tuple[str, ...], mend_it: tuple[str, ...], reason: str
) -> None:
    """A Redis that is full, misused or a replica is asked again until it accepts, and each refusal is counted."""
    sender = Sender(store.url, state)
    order(store.url, *break_it)
    before = count(counters.push_retries, reason)
    sender.start()
    sender.add(20)
    await until(lambda: count(counters.push_retries, reason) > before)
    assert sender.waiting == 20
    order(store.url, *mend_it)
    await sender.all_shipped()
    await sender.close()
    assert seqs(store.url, sender.source) == list(range(20))


async def test_a_full_redis_still_sees_that_a_gateway_lives(store: Store, state: Path) -> None:
    """A Redis without memory takes no frames, but tells how far a source is and notes that it lives."""
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: store.client.hexists(P0.seen, str(sender.source)))
    order(store.url, "config", "set", "maxmemory", "1")
    store.client.hdel(P0.seen, str(sender.source))
    await until(lambda: store.client.hexists(P0.seen, str(sender.source)))
    assert not sender.ship.redis_failing
    order(store.url, "config", "set", "maxmemory", "0")
    await sender.close()


@pytest.mark.parametrize("command", [("script", "flush"), ("flushall",), ("client", "kill", "type", "normal")])
async def test_redis_that_forgets(store: Store, state: Path, command: tuple[str, ...]) -> None:
    """A Redis that lost its scripts, its memory or its connections has everything in the end, each event once."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(5)
    await sender.all_shipped()
    order(store.url, *command)
    sender.add(5)
    await until(lambda: seqs(store.url, sender.source) == list(range(10)))
    await sender.close()
    assert seqs(store.url, sender.source) == list(range(10))
    assert_chain(entries(store.url, sender.source))


async def test_holes_are_declared(redis_url: str, state: Path) -> None:
    """Numbers of no event stand between a frame's fields p and a, and at the end between those of the end record."""
    sender = Sender(redis_url, state)
    for events, skipped in ((0, 2), (5, 3), (4, 1)):
        sender.add(events)
        for _ in range(skipped):
            sender.journal.skip()
    sender.start()
    await sender.close()
    arrived = entries(redis_url, sender.source)
    assert [entry.bounds for entry in arrived] == [(0, 2, 7), (7, 10, 14), (14, 15, 15)]
    assert arrived[-1].end is not None


async def test_the_last_entry_says_how_a_source_ended(redis_url: str, state: Path) -> None:
    """After an orderly end one record follows the frames: who it was, how many numbers it used, nobody killed."""
    sender = Sender(redis_url, state)
    sender.start()
    for _ in range(7):
        sender.journal.begin()
        sender.add(1)
    await sender.close()
    *_, last = entries(redis_url, sender.source)
    assert (last.bounds, last.events) == ((7, 7, 7), [])
    assert last.end is not None
    started_ms = sender.journal.started_ms
    assert last.end.started_ms == started_ms <= last.end.ended_ms
    assert last.end == BootEnd(INSTANCE, started_ms, last.end.ended_ms, 7, 0, killed=False)
    assert len(ends(redis_url, sender.source)) == 1


async def test_close_ships_what_is_left(redis_url: str, state: Path) -> None:
    """Closing ships everything at once, without waiting for the interval."""
    sender = Sender(redis_url, state, interval_ms=60_000)
    sender.start()
    sender.add(3_000)
    async with asyncio.timeout(20):
        await sender.close(15)
    assert sender.waiting == 0
    assert seqs(redis_url, sender.source) == list(range(3_000))


async def test_close_of_an_idle_shipper(redis_url: str) -> None:
    """With nothing to ship closing is immediate and loses nothing, started or not."""
    lost = count(counters.events_dropped, "exit")
    for started in (True, False):
        sender = Sender(redis_url, interval_ms=60_000)
        if started:
            sender.start()
        async with asyncio.timeout(30):
            await sender.close(60)
    assert count(counters.events_dropped, "exit") == lost


def break_down(store: Store, *, hangs: bool) -> None:
    if hangs:
        store.part.process.send_signal(signal.SIGSTOP)
    else:
        store.part.kill()


@pytest.mark.parametrize("hangs", [False, True], ids=["dead", "hanging"])
async def test_close_gives_up(store: Store, hangs: bool) -> None:
    """With Redis dead or hanging closing ends after its timeout; what memory loses is counted and logged, once."""
    break_down(store, hangs=hangs)
    lost = count(counters.events_dropped, "exit")
    with capture_logs() as logs:
        sender = Sender(store.url.replace("redis://", f"redis://:{PASSWORD}@"))
        sender.start()
        sender.add(42)
        async with asyncio.timeout(10):
            await sender.close(0.5)
    assert count(counters.events_dropped, "exit") - lost == 42
    said = [line for line in logs if line["event"] == "events_lost_at_exit"]
    assert [(line["events"], line["log_level"]) for line in said] == [(42, "error")]
    assert "LECTR_STATE_DIR" in said[0]["fix"]
    assert PASSWORD not in repr(logs)


@pytest.mark.parametrize("hangs", [False, True], ids=["dead", "hanging"])
async def test_what_close_leaves_the_next_one_ships(store: Store, state: Path, hangs: bool) -> None:
    """With a journal on disk an end without Redis loses nothing: the next process ships it, each event once."""
    break_down(store, hangs=hangs)
    lost = count(counters.events_dropped, "exit")
    with capture_logs() as logs:
        sender = Sender(store.url, state)
        sender.start()
        sender.add(42)
        async with asyncio.timeout(10):
            await sender.close(0.5)
    assert count(counters.events_dropped, "exit") == lost
    said = [line["events"] for line in logs if line["event"] == "events_left_in_journal"]
    assert said == [42]
    store.part.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(store.restart)
    heir = Sender(store.url, state)
    heir.start()
    await until(lambda: ends(store.url, sender.source))
    await heir.close()
    assert seqs(store.url, sender.source) == list(range(42))
    end = ends(store.url, sender.source)[0].end
    assert end is not None
    assert (end.events, end.unfinished, end.killed) == (42, 0, False)


async def test_an_outage_is_logged_once(store: Store, state: Path) -> None:
    """One line when Redis fails and one when it is back, however many attempts lie between."""
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        store.part.kill()
        retried = count(counters.push_retries, "ConnectionError")
        sender.start()
        sender.add(3)
        await until(lambda: count(counters.push_retries, "ConnectionError") >= retried + 3)
        await asyncio.to_thread(store.restart)
        await sender.all_shipped()
        await sender.close()
    assert [line["event"] for line in logs] == ["redis_unavailable", "redis_available"]


async def test_a_file_that_cannot_be_opened_stops_nothing(
    redis_url: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a journal file cannot be mapped for a moment, for want of descriptors, shipping goes on afterwards."""
    sender = Sender(redis_url, state, segment_bytes=SMALL_BYTES)
    sender.add(500)
    real = Segment.load
    refused: list[Segment] = []

    def load(segment: Segment) -> None:
        if not refused:
            refused.append(segment)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(segment)

    monkeypatch.setattr(Segment, "load", load)
    sender.start()
    try:
        await until(lambda: seqs(redis_url, sender.source) == list(range(500)))
    finally:
        assert refused
        await sender.die()


async def test_a_defect_does_not_end_shipping(redis_url: str, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expected is counted and said, and the events are shipped all the same."""
    sender = Sender(redis_url, state)
    real = Backlog.next_run
    raised: list[Backlog] = []

    def next_run(backlog: Backlog, most: int) -> object:
        if not raised:
            raised.append(backlog)
            raise IndexError
        return real(backlog, most)

    monkeypatch.setattr(Backlog, "next_run", next_run)
    before = count(counters.push_retries, "IndexError")
    sender.add(20)
    sender.start()
    await sender.all_shipped()
    await sender.close()
    assert count(counters.push_retries, "IndexError") == before + 1
    assert seqs(redis_url, sender.source) == list(range(20))
