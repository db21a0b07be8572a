"""Gateways that Redis forgot, or remembers although they ended: who holds up `data_freshness`, and for how long."""

from typing import Any

from shared.clock import unix_ms
from shared.event import Event
from shared.stream import BootEnd, Partition, encode_boot_end
from tests.ingestor_process import Stores, event, metric, serving
from tests.parts import wait_until
from tests.test_gateways_command import order

LOST, LIVING, ENDED, GIVEN_UP = 7, 8, 9, 10
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DEADLINE_S = 60.0
REPORT = "SELECT toUnixTimestamp64Milli(complete_up_to) AS ms FROM lectr.ingestion_progress FINAL WHERE partition = 0"


def requests(count: int, ts_ms: int) -> list[Event]:
    return [event(seq, ts_ms=ts_ms) for seq in range(count)]


def see(own: Stores, source: int, at_ms: int, next_seq: int, started_ms: int, partition: int = 0) -> None:
    """What a gateway says of itself each second."""
    own.pusher.client.hset(Partition(partition).seen, str(source), f"{at_ms}:{next_seq}:{started_ms}")


def end(own: Stores, source: int, events: int) -> None:
    """What a gateway says at its end."""
    record = encode_boot_end(BootEnd("gw-test", unix_ms() - HOUR_MS, unix_ms(), events, 0, killed=False))
    fields: dict[Any, Any] = {"s": source, "o": 0, "p": events, "a": events, "n": 0, "e": record}
    own.pusher.client.xadd(own.pusher.partition.stream, fields)


def complete_ms(own: Stores) -> int:
    rows = own.select(REPORT)
    return int(rows[0]["ms"]) if rows else 0


def listed(own: Stores) -> list[str]:
    return [line.split()[0].partition("=")[2] for line in order(own, "gateways")[1].splitlines() if "boot=" in line]


def test_who_redis_forgot_is_waited_for(own: Stores) -> None:
    """Redis is emptied: a silent gateway holds up the report from its last stored request on, and is listed.

    It is waited for where the setting says; when it announces itself in another partition it holds up that one.
    """
    hour_ago_ms = unix_ms() - HOUR_MS
    with serving(own.eager()) as part:
        for source in (LOST, ENDED, GIVEN_UP):
            own.pusher.push(source, requests(50, hour_ago_ms))
        end(own, ENDED, 50)
        see(own, LOST, hour_ago_ms, 50, hour_ago_ms)
        see(own, GIVEN_UP, hour_ago_ms, 60, hour_ago_ms)
        own.wait_drained()
        recoveries = metric(part, "lectr_ingestor_recoveries_total")
        wait_until(lambda: complete_ms(own) != 0, deadline_s=DEADLINE_S)
        own.pusher.client.flushall()
        wait_until(lambda: metric(part, "lectr_ingestor_recoveries_total") > recoveries)
        # Of this one nothing is stored, so that only what it says of itself can tell.
        begun_ms = hour_ago_ms - HOUR_MS
        see(own, LIVING, unix_ms(), 5, begun_ms)
        held = wait_until(lambda: complete_ms(own) < hour_ago_ms and complete_ms(own), deadline_s=DEADLINE_S)
        assert held == begun_ms
        assert set(listed(own)) == {str(LOST), str(LIVING), str(GIVEN_UP)}
        own.pusher.client.hdel(own.pusher.partition.seen, str(LIVING))
        wait_until(lambda: complete_ms(own) == hour_ago_ms, deadline_s=DEADLINE_S)
        assert order(own, "give-up", str(GIVEN_UP))[0] == 0
        wait_until(lambda: metric(part, "lectr_ingestor_complete_up_to_unix_seconds") == hour_ago_ms / 1_000)
        see(own, LOST, unix_ms() - 2 * MINUTE_MS, 50, hour_ago_ms, partition=3)
        wait_until(lambda: complete_ms(own) > hour_ago_ms, deadline_s=DEADLINE_S)
        assert listed(own) == [str(LOST)]


def test_who_was_given_up_stays_so_while_redis_remembers(own: Stores) -> None:
    """Redis has another run and its files: it knows who was given up, and nobody waits for that one again."""
    hour_ago_ms = unix_ms() - HOUR_MS
    with serving(own.eager()) as part:
        own.pusher.push(GIVEN_UP, requests(50, hour_ago_ms))
        see(own, GIVEN_UP, hour_ago_ms, 60, hour_ago_ms)
        own.wait_drained()
        assert order(own, "give-up", str(GIVEN_UP))[0] == 0
        recoveries = metric(part, "lectr_ingestor_recoveries_total")
        own.pusher.client.hset(own.pusher.partition.done, "run", "another")
        wait_until(lambda: metric(part, "lectr_ingestor_recoveries_total") > recoveries)
    assert listed(own) == []


def test_who_ended_is_forgotten_when_redis_goes_back(own: Stores) -> None:
    """A state of Redis from before its end: ClickHouse has the end, so it holds up nothing and is not listed."""
    hour_ago_ms = unix_ms() - HOUR_MS
    redis = own.pusher.client
    with serving(own.eager()) as part:
        for source in (ENDED, LOST):
            own.pusher.push(source, requests(50, hour_ago_ms))
            see(own, source, hour_ago_ms, 50, hour_ago_ms)
        own.wait_drained()
        keys: list[bytes] = redis.keys("lectr:{0}:*")  # type: ignore[assignment] # the driver's types are of both kinds
        before = {key: redis.dump(key) for key in keys if not key.endswith((b"lease", b"settling"))}
        own.pusher.push(ENDED, [event(seq, ts_ms=hour_ago_ms) for seq in range(50, 60)])
        end(own, ENDED, 60)
        own.wait_drained()
        assert own.select("SELECT gateway_boot FROM lectr.gateway_boots") == [{"gateway_boot": ENDED}]
        recoveries = metric(part, "lectr_ingestor_recoveries_total")
        for key, data in before.items():
            redis.restore(key, 0, data, replace=True)  # type: ignore[arg-type] # as above
        redis.hset(own.pusher.partition.done, "run", "another")
        wait_until(lambda: metric(part, "lectr_ingestor_recoveries_total") > recoveries)
        assert redis.hexists(own.pusher.partition.seen, str(ENDED))
        wait_until(lambda: not redis.hexists(own.pusher.partition.seen, str(ENDED)), deadline_s=DEADLINE_S)
        assert listed(own) == [str(LOST)]
        assert own.figures() == (110, 110)


def test_a_partition_without_a_report_holds_up_what_is_complete(own: Stores) -> None:
    """A gateway begins in a partition that nobody serves yet: nothing is called complete that it may have answered."""
    begun_ms, redis = unix_ms(), own.pusher.client
    overall = (
        "SELECT toUnixTimestamp64Milli(min(complete_up_to)) AS ms FROM lectr.ingestion_progress FINAL WHERE NOT retired"
    )

    def complete() -> int:
        return int(own.select(overall)[0]["ms"])

    redis.set(Partition(3).lease, "another, which has said nothing", px=1_000_000)
    with serving(own.ingestor()):
        wait_until(lambda: complete() > begun_ms, deadline_s=DEADLINE_S)
        first_ms = complete()
        see(own, LIVING, unix_ms(), 5, unix_ms() - 1, partition=3)
        see_again_ms = unix_ms()
        wait_until(lambda: complete_ms(own) > see_again_ms, deadline_s=DEADLINE_S)
        held_ms = complete()
        assert first_ms <= held_ms <= see_again_ms
        wait_until(lambda: complete_ms(own) > unix_ms() - 5_000, deadline_s=DEADLINE_S)
        assert complete() == held_ms


def test_what_vanished_of_an_idle_gateway_is_expected_again_under_load(own: Stores) -> None:
    """Frames and an end are gone from a stream that is never silent: they are expected again, and none is doubled."""
    redis, keys = own.pusher.client, own.pusher.partition
    own.pusher.push(LOST, requests(300, unix_ms()))
    entries: Any = redis.xrange(keys.stream)
    redis.xdel(keys.stream, *(entry_id for entry_id, _ in entries[1:]))
    redis.hset(keys.ended, str(LIVING), 0)
    sent = 0

    def keep_busy() -> None:
        nonlocal sent
        own.pusher.push(ENDED, [event(seq, ts_ms=unix_ms()) for seq in range(sent, sent + 5)])
        sent += 5

    def asked() -> bool:
        keep_busy()
        return redis.hget(keys.accepted, str(LOST)) == b"100" and not redis.hexists(keys.ended, str(LIVING))

    with serving(own.eager()) as part:
        wait_until(asked, deadline_s=DEADLINE_S / 2, every_s=0.05)
        assert metric(part, "lectr_ingestor_events_vanished_total") == 200
        again = requests(300, unix_ms())[100:]
        own.pusher.push(LOST, again)

        def stored() -> bool:
            keep_busy()
            return own.pusher.marks().get(LOST) == "300"

        wait_until(stored, deadline_s=DEADLINE_S / 2, every_s=0.05)
        assert metric(part, "lectr_ingestor_events_vanished_total") == 200
        own.wait_drained()
    assert own.figures() == (300 + sent, 300 + sent)
