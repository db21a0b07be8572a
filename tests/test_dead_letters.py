"""Dead letters: put back they are stored after all and once; where too much is refused nothing is put aside."""

import json

import msgspec

from ingestor.deadletter import MOST_AT_ONCE, DeadLimit
from shared.stream import FRAME_VERSION, encode_event, encode_frame
from tests.ingestor_process import Stores, event, metric, readiness, serving, some_events
from tests.parts import execute, run_command, wait_until

CONSTRAINT = "no_such"


def alter(own: Stores, change: str) -> None:
    execute(own.clickhouse_url, f"ALTER TABLE lectr.requests {change}")


def order(redis_url: str, *arguments: str, code: int = 0) -> str:
    """A command of the ingestor's; what it printed."""
    done = run_command("ingestor", *arguments, LECTR_REDIS_URL=redis_url)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_redriven_frame_is_stored_once(own: Stores) -> None:
    """Refused for its content, put aside, put back once the table takes it: its events are stored, none twice."""
    alter(own, f"ADD CONSTRAINT {CONSTRAINT} CHECK model_requested != 'refuse me'")
    events = [event(seq, model_requested="refuse me" if seq == 75 else "fine") for seq in range(200)]
    own.pusher.push(7, events, frame_events=50)
    with serving(own.eager()) as part:
        own.wait_drained()
        assert own.figures() == (150, 150)
        (letter,) = [json.loads(line) for line in order(own.redis_url, "dead-letters", "--json").splitlines()]
        assert (letter["reason"], letter["s"], letter["a"], letter["n"]) == ("refused", "7", "50", "50")
        assert "reasons there are: refused\n" in order(own.redis_url, "redrive", "--reason", "undecodable", code=1)
        alter(own, f"DROP CONSTRAINT {CONSTRAINT}")
        assert order(own.redis_url, "redrive", letter["letter"]) == "put back: 1\n"
        wait_until(lambda: own.figures() == (200, 200))
        own.wait_drained()
        assert order(own.redis_url, "dead-letters") == "no dead letters\n"
        # Its numbers were taken care of before and are now.
        assert own.pusher.marks() == {7: "200"}
        assert metric(part, "lectr_ingestor_events_repeated_total") == 0
    assert own.select("SELECT * FROM lectr.event_gaps") == []


def test_a_flood_of_refusals_stops_the_partition(own: Stores) -> None:
    """When most of what comes cannot be read, a few entries are put aside and the others wait where they are."""
    client, stream = own.pusher.client, own.pusher.partition.stream
    for number in range(MOST_AT_ONCE + 30):
        client.xadd(stream, {"s": 9, "a": number, "n": 1, "f": b"\xc1"})
    with serving(own.eager()) as part:
        wait_until(lambda: "over 10% of the last entries" in readiness(part)[1]["faults"].get("partition 0", ""))
        assert readiness(part)[0] == 503
        assert metric(part, "lectr_ingestor_dead_letters_total") == MOST_AT_ONCE
    assert own.pusher.waiting() == 30


def test_a_newer_frame_waits_for_a_newer_ingestor(own: Stores) -> None:
    """A frame of a release that is newer is not put aside: it stays for whoever can read it, and this one says so."""
    events = some_events(10)
    own.pusher.push(7, events)
    frame = msgspec.msgpack.decode(encode_frame(7, 10, "gw", [encode_event(event(10))]))
    frame[0] = FRAME_VERSION + 1
    own.pusher.client.xadd(own.pusher.partition.stream, {"s": 7, "a": 10, "n": 1, "f": msgspec.msgpack.encode(frame)})
    with serving(own.eager()) as part:
        wait_until(lambda: "upgrade this ingestor" in readiness(part)[1]["faults"].get("partition 0", ""))
        assert metric(part, "lectr_ingestor_dead_letters_total") == 0
    assert own.figures() == (10, 10)
    assert own.pusher.waiting() == 1


def test_the_limit_is_a_share_of_what_comes() -> None:
    """A few refusals are always allowed; beyond these only one entry in ten, of the last thousand."""
    limit = DeadLimit()
    for _ in range(MOST_AT_ONCE):
        assert not limit.reached
        limit.buried()
    assert limit.reached
    limit.stored(MOST_AT_ONCE * 8)
    assert limit.reached
    limit.stored(MOST_AT_ONCE * 2)
    assert not limit.reached
    limit.stored(5_000)
    for _ in range(100):
        assert not limit.reached
        limit.buried()
    assert limit.reached
