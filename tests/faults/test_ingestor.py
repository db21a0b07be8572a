"""The ingestor among failures: nothing lost, nothing twice, and a plain word about what is wrong."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from ingestor.pricing import Pricer
from shared.event import Event
from shared.stream import encode_event, encode_frame
from tests.ingestor_crash import STEPS
from tests.ingestor_process import OwnStores, Stores, event, metric, readiness, serving, some_events, stores
from tests.parts import Ingestor, fetch, free_port, running, wait_until

QUICK = {"LECTR_LEASE_MS": "1000", "LECTR_BATCH_MAX_AGE_MS": "50"}


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[OwnStores]:
    """Stores whose engine a test may kill."""
    with stores(tmp_path) as made:
        yield made


def total(events: list[Event]) -> Decimal:
    pricer = Pricer()
    return sum((cost for item in events if (cost := pricer.price(item).dollars) is not None), Decimal(0))


def check_exact(own: Stores, events: list[Event]) -> None:
    """Every event once, and the money to the last digit."""
    assert own.figures() == (len(events), len(events))
    row = own.select("SELECT toString(sum(cost)) AS cost FROM lectr.requests")[0]
    assert Decimal(row["cost"]) == total(events)


def faults_of(part: Ingestor) -> dict[str, str]:
    """What /readyz says is wrong, by the part it concerns."""
    faults: dict[str, str] = readiness(part)[1]["faults"]
    return faults


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_and_taken_over(own: Stores, step: str) -> None:
    """SIGKILL before, between and after each step of a batch; the next owner finishes it exactly."""
    events = some_events(2_000)
    own.pusher.push(7, events)
    crashed = own.crashing(step)
    assert crashed.process.wait(60) == -signal.SIGKILL, crashed.output
    with serving(own.ingestor(**QUICK)) as part:
        # Where the dead one had finished, there is nothing else to wait for.
        wait_until(lambda: metric(part, 'lectr_ingestor_lease_changes_total{change="gained"}') == 1, deadline_s=60)
        own.wait_drained()
        check_exact(own, events)
        replayed = metric(part, "lectr_ingestor_batches_replayed_total")
    assert replayed == (0 if step in {"before_record", "after_commit"} else 1)
    assert own.pusher.marks() == {7: "2000"}
    assert own.pusher.client.exists(own.pusher.partition.pending, own.pusher.partition.lease) == 0


def test_killed_at_random_while_events_arrive(breakable: OwnStores) -> None:
    """Ingestors and ClickHouse die at random moments under load; every event is stored once."""
    dice = random.Random(20261123)
    sent: list[Event] = []
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(0.05):
            events = some_events(500, first_seq=len(sent))
            breakable.pusher.push(7, events)
            sent.extend(events)

    feeder = threading.Thread(target=feed)
    feeder.start()
    pause = threading.Event()
    try:
        for number in range(5):
            with serving(breakable.ingestor(f"victim-{number}", **QUICK)) as part:
                pause.wait(dice.uniform(0.0, 1.5))
                if number % 2:
                    breakable.clickhouse.kill()
                    pause.wait(dice.uniform(0.0, 0.5))
                    breakable.restart_clickhouse()
                    pause.wait(dice.uniform(0.0, 1.0))
                part.kill()
    finally:
        stop.set()
        feeder.join()
    with running(breakable.ingestor(**QUICK)):
        breakable.wait_drained()
    check_exact(breakable, sent)


def test_poison_is_kept_apart_and_the_rest_is_stored(own: Stores) -> None:
    """Unreadable entries go to the dead-letter stream with their reason; their neighbours are stored."""
    client, stream = own.pusher.client, own.pusher.partition.stream
    own.pusher.push(7, [event(0), event(1)])
    client.xadd(stream, {"s": 8, "a": 0, "n": 3, "f": b"\xff\xfe"})
    client.xadd(stream, {"unknown": "entry"})
    wrong = encode_frame(7, 5, "gw", [encode_event(event(0))])
    client.xadd(stream, {"s": 7, "a": 5, "n": 1, "f": wrong})
    own.pusher.push(7, [event(2), event(3)])
    with serving(own.ingestor(**QUICK)) as part:
        own.wait_drained()
        assert metric(part, "lectr_ingestor_dead_letters_total") == 3
    assert own.figures() == (4, 4)
    dead = own.pusher.dead()
    assert [fields[b"reason"] for fields in dead] == [b"undecodable", b"missing", b"inconsistent"]
    assert dead[0][b"f"] == b"\xff\xfe"
    assert dead[2][b"f"] == wrong
    assert own.pusher.marks() == {7: "4", 8: "3"}, (
        "what is kept aside need not come again; a claim out of order is no mark"
    )


def test_a_refused_event_is_found_and_kept_while_others_are_stored(own: Stores) -> None:
    """ClickHouse refuses one frame's content: the batch is cut down to that frame, a dead letter."""
    statement = b"ALTER TABLE lectr.requests ADD CONSTRAINT no_such CHECK model_requested != 'refuse me'"
    assert fetch(f"{own.clickhouse_url}/", data=statement, method="POST")[0] == 200
    events = [event(seq, model_requested="refuse me" if seq == 333 else "fine") for seq in range(1_000)]
    own.pusher.push(7, events, frame_events=50)
    with serving(own.ingestor(**QUICK)) as part:
        own.wait_drained()
        assert metric(part, "lectr_ingestor_batch_splits_total") >= 1
    assert own.figures() == (950, 950)
    (dead,) = own.pusher.dead()
    assert dead[b"reason"] == b"refused"
    assert dead[b"a"] == b"300"
    assert own.pusher.marks() == {7: "1000"}


def test_clickhouse_down_then_up(breakable: OwnStores) -> None:
    """Without ClickHouse events wait in Redis, /readyz says why; with it they are stored once."""
    events = some_events(1_000)
    with serving(breakable.ingestor(**QUICK)) as part:
        wait_until(lambda: readiness(part)[0] == 200)
        breakable.clickhouse.kill()
        breakable.pusher.push(7, events)
        wait_until(lambda: any(name.startswith("LECTR_CLICKHOUSE_URL=http://") for name in faults_of(part)))
        assert readiness(part)[0] == 503
        assert fetch(f"{part.ops_url}/healthz")[0] == 200
        wait_until(lambda: '"event": "waiting"' in part.output)
        assert breakable.pusher.waiting() > 0
        breakable.restart_clickhouse()
        breakable.wait_drained()
        wait_until(lambda: readiness(part)[0] == 200)
    check_exact(breakable, events)


def test_redis_down_then_up(own: Stores) -> None:
    """Redis dies by SIGKILL and comes back with its append-only file: nothing lost, nothing twice."""
    early, late = some_events(1_000), some_events(1_000, first_seq=1_000)
    with serving(own.ingestor(**QUICK)) as part:
        own.pusher.push(7, early)
        own.wait_drained()
        own.redis.kill()
        wait_until(lambda: any(name.startswith("LECTR_REDIS_URL=redis://") for name in faults_of(part)))
        assert readiness(part)[0] == 503
        own.restart_redis()
        own.pusher.push(7, late)
        own.wait_drained()
    check_exact(own, early + late)


def test_both_down_at_the_start(breakable: OwnStores) -> None:
    """An ingestor that starts before its stores waits for them."""
    breakable.clickhouse.kill()
    breakable.redis.kill()
    ops_url = f"127.0.0.1:{free_port()}"
    part = breakable.ingestor(**QUICK, LECTR_OPS_LISTEN=ops_url)
    part.ops_url = f"http://{ops_url}"
    with running(part):
        wait_until(lambda: "LECTR_CLICKHOUSE_URL" in part.output)
        assert readiness(part)[0] == 503
        breakable.restart_redis()
        breakable.restart_clickhouse()
        breakable.pusher.push(7, [event(0)])
        breakable.wait_drained()
        wait_until(lambda: readiness(part)[0] == 200)
    assert breakable.figures() == (1, 1)


@pytest.mark.parametrize("after_ms", [0, 50, 100, 200, 250, 300])
def test_sigterm_at_any_moment(own: Stores, after_ms: int) -> None:
    """SIGTERM soon ends an idle ingestor and gives its lease back, also when it meets a renewal of the lease."""
    part = own.ingestor(**QUICK)
    part.line_with("partition owned")
    threading.Event().wait(after_ms / 1_000)
    assert part.terminate(deadline_s=15) == 0
    assert own.pusher.client.exists(own.pusher.partition.lease) == 0


def test_sigterm_under_load(own: Stores) -> None:
    """SIGTERM finishes the running batch, gives the lease back and exits 0; the next ingestor goes on at once."""
    events = some_events(20_000)
    own.pusher.push(7, events)
    part = own.ingestor("first", LECTR_LEASE_MS="60000", LECTR_BATCH_MAX_EVENTS="1000").wait()
    wait_until(lambda: own.pusher.waiting() < 200)
    assert part.terminate() == 0
    keys = own.pusher.partition
    assert own.pusher.client.exists(keys.lease, keys.pending) == 0
    assert own.pusher.waiting() > 0, "too little load to interrupt anything"
    with running(own.ingestor("second", LECTR_LEASE_MS="60000")):
        own.wait_drained()
    check_exact(own, events)


def test_sigterm_without_clickhouse(breakable: OwnStores) -> None:
    """A stop does not wait for a database that is away; the recorded batch stays for the next owner."""
    with serving(breakable.ingestor("first", **QUICK)) as part:
        # Of a source that it does not know it would ask ClickHouse before it makes a batch.
        breakable.pusher.push(7, [event(0)])
        breakable.wait_drained()
        breakable.clickhouse.kill()
        breakable.pusher.push(7, [event(1)])
        wait_until(lambda: '"event": "waiting"' in part.output)
        assert part.terminate() == 0
    assert breakable.pusher.client.exists(breakable.pusher.partition.pending) == 1
    breakable.restart_clickhouse()
    with running(breakable.ingestor("second", **QUICK)):
        breakable.wait_drained()
    assert breakable.figures() == (2, 2)


def test_sigterm_while_redis_is_silent(own: Stores) -> None:
    """A stop does not wait for a Redis that takes every question and answers none; a second signal ends it at once."""
    patient = own.ingestor("first", **QUICK, LECTR_STREAM_PARTITIONS="4", LECTR_DRAIN_TIMEOUT_S="6").wait()
    hasty = own.ingestor("second", **QUICK, LECTR_DRAIN_TIMEOUT_S="60").wait()
    with running(patient), running(hasty):
        own.redis.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: readiness(hasty)[1]["faults"])
            # The housekeeping of the first begins to wait for Redis within its drain time, and is cancelled then.
            patient.process.send_signal(signal.SIGTERM)
            hasty.process.send_signal(signal.SIGTERM)
            hasty.line_with('"event": "stopping"')
            hasty.process.send_signal(signal.SIGTERM)
            assert hasty.process.wait(30) == -signal.SIGTERM
            assert patient.process.wait(25) == 0
        finally:
            own.redis.process.send_signal(signal.SIGCONT)


def test_two_ingestors_share_nothing(own: Stores) -> None:
    """One owns the partition, the other stands by and takes over when the owner is killed."""
    first = own.ingestor("first", **QUICK).wait()
    wait_until(lambda: readiness(first)[1]["partitions"] == {"0": "owner"})
    with serving(own.ingestor("second", **QUICK)) as second:
        wait_until(lambda: readiness(second)[1]["partitions"] == {"0": "standby"})
        assert readiness(second)[0] == 200
        early, late = some_events(1_000), some_events(1_000, first_seq=1_000)
        own.pusher.push(7, early)
        own.wait_drained()
        first.kill()
        own.pusher.push(7, late)
        own.wait_drained()
        assert readiness(second)[1]["partitions"] == {"0": "owner"}
    check_exact(own, early + late)


def test_a_paused_owner_does_no_harm(own: Stores) -> None:
    """An owner stopped for longer than its lease finds itself replaced, and stores nothing a second time."""
    first = own.ingestor("first", **QUICK).wait()
    wait_until(lambda: readiness(first)[1]["partitions"] == {"0": "owner"})
    with running(first), serving(own.ingestor("second", **QUICK)) as second:
        events = some_events(3_000)
        own.pusher.push(7, events[:2_000])
        os.kill(first.process.pid, signal.SIGSTOP)
        own.pusher.push(7, events[2_000:])
        own.wait_drained()
        wait_until(lambda: readiness(second)[1]["partitions"] == {"0": "owner"})
        os.kill(first.process.pid, signal.SIGCONT)
        wait_until(lambda: readiness(first)[1]["partitions"] == {"0": "standby"})
    check_exact(own, events)


def test_a_frame_pushed_twice_is_stored_once(own: Stores) -> None:
    """What the marks call done is left out, whatever brought it back into the stream."""
    events = some_events(500)
    with serving(own.ingestor(**QUICK)) as part:
        own.pusher.push(7, events)
        own.wait_drained()
        own.pusher.client.delete(own.pusher.partition.accepted)
        own.pusher.push(7, events)
        own.wait_drained()
        wait_until(lambda: metric(part, "lectr_ingestor_events_repeated_total") == 500)
    check_exact(own, events)


def test_a_full_redis_is_emptied(own: Stores) -> None:
    """With Redis at its memory limit nothing can be pushed, but the ingestor works and makes room."""
    events = some_events(5_000)
    own.pusher.push(7, events)
    own.pusher.client.config_set("maxmemory", "1mb")
    with running(own.ingestor(**QUICK)):
        own.wait_drained()
    own.pusher.client.config_set("maxmemory", "0")
    check_exact(own, events)


def test_a_recorded_batch_that_lost_its_entries(own: Stores) -> None:
    """Entries that vanish under a recorded batch: ClickHouse says what is stored, and nothing is stored twice."""
    own.pusher.push(7, some_events(300))
    crashed = own.crashing("after_insert")
    assert crashed.process.wait(60) == -signal.SIGKILL
    own.pusher.lose_first()
    with serving(own.ingestor(**QUICK)) as part:
        own.wait_drained()
        wait_until(lambda: metric(part, 'lectr_ingestor_recoveries_total{reason="entries_missing"}') == 1)
        assert metric(part, "lectr_ingestor_batches_given_up_total") == 1
    assert own.figures() == (300, 300)
    assert own.pusher.marks() == {7: "300"}
