"""The way of events to the Redis stream: in order, each once, whatever happens to Redis or to the connection."""

import asyncio
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from structlog.testing import capture_logs

from gateway.shipper import _OVERHEAD_BYTES, _next_frame, new_source
from shared import counters
from shared.stream import MAX_FRAME_EVENTS, Partition, encode_event, encode_frame
from tests.ingestor_process import event
from tests.parts import ROOT
from tests.shipper_site import Store, add, count, flow, frames, lossy, order, seqs, shipped, shipper, until

PASSWORD = "hunter2-velvet"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "redis")
    yield made
    made.client.close()
    made.part.kill()


async def test_events_arrive_in_order(redis_url: str) -> None:
    """Events added in bursts arrive once each, in order and unchanged, in frames whose numbers follow each other."""
    ship = shipper(redis_url)
    sent_before = count(counters.events_sent)
    ship.start()
    for burst in (1, 2, 500, 3, 1_000):
        add(ship, burst)
        await until(lambda: ship.waiting_events == 0)
    await ship.close(5)
    assert ship.next_seq == 1_506
    assert [item for frame in frames(redis_url, ship) for item in frame.events] == [event(n) for n in range(1_506)]
    following = 0
    for frame in frames(redis_url, ship):
        assert frame.first_seq == following
        following += len(frame.events)
    assert count(counters.events_sent) - sent_before == 1_506
    assert counters.registry.get_sample_value("lectr_gateway_events_buffered") == 0


async def test_frames_are_bounded(redis_url: str) -> None:
    """A backlog is shipped in frames of at most MAX_FRAME_EVENTS."""
    ship = shipper(redis_url)
    add(ship, 2 * MAX_FRAME_EVENTS + 1)
    ship.start()
    await ship.close(10)
    assert [len(frame.events) for frame in frames(redis_url, ship)] == [MAX_FRAME_EVENTS, MAX_FRAME_EVENTS, 1]


def test_a_frame_ends_at_a_hole() -> None:
    """A frame holds consecutive numbers only: a hole in what waits begins a new one."""
    waiting = deque([(4, b"a"), (5, b"b"), (8, b"c"), (9, b"d")])
    assert _next_frame(waiting) == (4, [b"a", b"b"])
    assert len(waiting) == 4, "what Redis has not accepted yet is kept"
    del waiting[0], waiting[0]
    assert _next_frame(waiting) == (8, [b"c", b"d"])


async def test_sources_do_not_mix(redis_url: str) -> None:
    """Two gateways that ship at once into one partition keep their own numbers and order."""
    ships = [shipper(redis_url) for _ in range(2)]
    for ship in ships:
        ship.start()
    for step in range(50):
        for number, ship in enumerate(ships):
            add(ship, step % 3 + number)
            await until(lambda: all(ship.waiting_events < 3 for ship in ships))
    for ship in ships:
        await ship.close(5)
        assert seqs(redis_url, ship) == list(range(ship.next_seq))


async def test_a_source_stays_in_its_partition(redis_url: str) -> None:
    """With several partitions all frames of a source go to the one that its number names."""
    for _ in range(8):
        ship = shipper(redis_url, partitions=4)
        ship.start()
        add(ship, 3)
        await ship.close(5)
        assert sum(len(frame.events) for frame in frames(redis_url, ship, partitions=4)) == 3


def test_sources_are_drawn() -> None:
    """A source's name is 63 random bits, another for every boot."""
    drawn = {new_source() for _ in range(1_000)}
    assert len(drawn) == 1_000
    assert all(0 <= source < 2**63 for source in drawn)
    assert max(drawn) > 2**61


def script(client: "redis.Redis", source: int, first_seq: int, number: int) -> int:
    """The push of one frame, as the shipper makes it; what Redis expects next."""
    push = client.register_script((ROOT / "gateway" / "push.lua").read_text("utf-8"))
    frame = encode_frame(source, first_seq, "gw", [encode_event(event(first_seq + n)) for n in range(number)])
    partition = Partition(0)
    return int(push(keys=[partition.stream, partition.accepted], args=[source, first_seq, number, frame]))


def test_a_repeated_push_changes_nothing(redis_url: str) -> None:
    """The script appends a frame once, however often it is called; a hole is taken, what came before it is not."""
    source = new_source()
    with redis.Redis.from_url(redis_url) as client:
        before = client.xlen(Partition(0).stream)
        assert [script(client, source, 0, 10) for _ in range(3)] == [10, 10, 10]
        assert script(client, source, 10, 5) == 15
        assert [script(client, source, *frame) for frame in ((0, 10), (10, 5), (3, 1))] == [15, 15, 15]
        assert client.xlen(Partition(0).stream) == before + 2
        assert script(client, source, 20, 1) == 21, "numbers 15 to 19 were dropped; the hole stays visible"
        assert script(client, source, 15, 5) == 21
        assert client.xlen(Partition(0).stream) == before + 3
        assert client.hget(Partition(0).accepted, str(source)) == b"21"
        assert script(client, new_source(), 0, 1) == 1, "another source has its own numbers"


@pytest.mark.parametrize("hang", [False, True], ids=["connection lost", "answer never comes"])
async def test_a_lost_answer_repeats_nothing(redis_url: str, monkeypatch: pytest.MonkeyPatch, hang: bool) -> None:
    """When Redis took a frame but its answer is lost, the frame is pushed again and is there once."""
    monkeypatch.setattr("gateway.shipper._SOCKET_TIMEOUT_S", 0.3)
    async with lossy(redis_url) as (proxy, url):
        ship = shipper(url)
        ship.start()
        add(ship, 10)
        await until(lambda: ship.waiting_events == 0)
        proxy.lose, proxy.hang = 3, hang
        for _ in range(5):
            add(ship, 10)
            await until(lambda: ship.waiting_events == 0)
        await ship.close(5)
    assert proxy.lost == 3
    assert seqs(redis_url, ship) == list(range(60))
    assert not ship.redis_failing


async def test_redis_killed_again_and_again(store: Store) -> None:
    """SIGKILL of Redis while events flow, three times: afterwards every event is on the stream, each once."""
    ship = shipper(store.url)
    ship.start()
    stop = asyncio.Event()
    flowing = asyncio.create_task(flow(ship, stop))
    for _ in range(3):
        await shipped(ship, ship.next_seq + 200)
        await asyncio.to_thread(store.restart)
    await until(lambda: not ship.redis_failing)
    stop.set()
    await flowing
    await ship.close(15)
    assert ship.waiting_events == 0
    assert seqs(store.url, ship) == list(range(ship.next_seq))


async def test_redis_that_comes_later(store: Store) -> None:
    """Events from before Redis was up arrive once it is; meanwhile the shipper says that Redis fails."""
    store.part.kill()
    ship = shipper(store.url)
    retried = count(counters.push_retries, "ConnectionError")
    ship.start()
    add(ship, 50)
    await until(lambda: ship.redis_failing)
    assert ship.waiting_events == 50
    await asyncio.to_thread(store.restart)
    await until(lambda: ship.waiting_events == 0)
    assert not ship.redis_failing
    assert count(counters.push_retries, "ConnectionError") > retried
    await ship.close(5)
    assert seqs(store.url, ship) == list(range(50))


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (("config", "set", "maxmemory", "1"), ("config", "set", "maxmemory", "0"), "OutOfMemoryError"),
        (("set", "lectr:{0}:frames", "x"), ("del", "lectr:{0}:frames"), "ResponseError"),
        (("replicaof", "127.0.0.1", "1"), ("replicaof", "no", "one"), "ReadOnlyError"),
    ],
)
async def test_redis_that_refuses(
    store: Store, break_it: tuple[str, ...], mend_it: tuple[str, ...], reason: str
) -> None:
    """A Redis that is full, misused or a replica is asked again until it accepts, and each refusal is counted."""
    ship = shipper(store.url)
    order(store, *break_it)
    before = count(counters.push_retries, reason)
    ship.start()
    add(ship, 20)
    await until(lambda: count(counters.push_retries, reason) > before)
    assert ship.waiting_events == 20
    order(store, *mend_it)
    await until(lambda: ship.waiting_events == 0)
    await ship.close(5)
    assert seqs(store.url, ship) == list(range(20))


@pytest.mark.parametrize("command", [("script", "flush"), ("flushall",), ("client", "kill", "type", "normal")])
async def test_redis_that_forgets(store: Store, command: tuple[str, ...]) -> None:
    """A Redis that lost its scripts, its memory or its connections takes what comes next."""
    ship = shipper(store.url)
    ship.start()
    add(ship, 5)
    await until(lambda: ship.waiting_events == 0)
    order(store, *command)
    add(ship, 5)
    await until(lambda: ship.waiting_events == 0)
    await ship.close(5)
    assert seqs(store.url, ship)[-5:] == [5, 6, 7, 8, 9]


async def test_a_full_buffer_drops_and_says_so(store: Store) -> None:
    """Past the bound new events are dropped and counted, and keep their numbers: the hole shows what is missing."""
    store.part.kill()
    # Numbers below 128 take one byte, so a hundred such events fill this to the last byte.
    ship = shipper(store.url, capacity_bytes=100 * (len(encode_event(event(0))) + _OVERHEAD_BYTES))
    dropped = count(counters.events_dropped, "buffer_full")
    ship.start()
    add(ship, 130)
    assert ship.waiting_events == 100
    assert ship.next_seq == 130
    assert count(counters.events_dropped, "buffer_full") - dropped == 30
    assert counters.registry.get_sample_value("lectr_gateway_events_buffered") == 100
    await asyncio.to_thread(store.restart)
    await until(lambda: ship.waiting_events == 0)
    add(ship, 20)
    await ship.close(5)
    assert seqs(store.url, ship) == [*range(100), *range(130, 150)]
    accepted = store.client.hget(Partition(0).accepted, str(ship.source))
    assert accepted == b"150"


async def test_close_ships_what_is_left(redis_url: str) -> None:
    """Closing ships everything at once, without waiting for the interval."""
    ship = shipper(redis_url, interval_ms=60_000)
    ship.start()
    add(ship, 3_000)
    async with asyncio.timeout(20):
        await ship.close(15)
    assert ship.waiting_events == 0
    assert seqs(redis_url, ship) == list(range(3_000))


async def test_close_of_an_idle_shipper(redis_url: str) -> None:
    """With nothing to ship closing is immediate and loses nothing, started or not."""
    lost = count(counters.events_dropped, "exit")
    for started in (True, False):
        ship = shipper(redis_url, interval_ms=60_000)
        if started:
            ship.start()
        async with asyncio.timeout(5):
            await ship.close(60)
    assert count(counters.events_dropped, "exit") == lost


@pytest.mark.parametrize("hangs", [False, True], ids=["dead", "hanging"])
async def test_close_gives_up(store: Store, hangs: bool) -> None:
    """With Redis dead or hanging closing ends after its timeout; what is lost is counted and logged, once."""
    if hangs:
        store.part.process.send_signal(signal.SIGSTOP)
    else:
        store.part.kill()
    url = store.url.replace("redis://", f"redis://:{PASSWORD}@")
    lost = count(counters.events_dropped, "exit")
    with capture_logs() as logs:
        ship = shipper(url)
        ship.start()
        add(ship, 42)
        async with asyncio.timeout(10):
            await ship.close(0.5)
    assert count(counters.events_dropped, "exit") - lost == 42
    said = [line for line in logs if line["event"] == "events_lost_at_exit"]
    assert [(line["events"], line["log_level"]) for line in said] == [(42, "error")]
    assert "LECTR_REDIS_URL" in said[0]["fix"]
    assert PASSWORD not in repr(logs)


async def test_an_outage_is_logged_once(store: Store) -> None:
    """One line when Redis fails and one when it is back, however many attempts lie between."""
    ship = shipper(store.url)
    with capture_logs() as logs:
        store.part.kill()
        retried = count(counters.push_retries, "ConnectionError")
        ship.start()
        add(ship, 3)
        await until(lambda: count(counters.push_retries, "ConnectionError") >= retried + 3)
        await asyncio.to_thread(store.restart)
        await until(lambda: ship.waiting_events == 0)
        await ship.close(5)
    assert [line["event"] for line in logs] == ["redis_unavailable", "redis_available"]
