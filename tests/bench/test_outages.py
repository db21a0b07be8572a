"""What the section about Redis concludes from its parts, and that its relay makes the outage it is named after."""

import socket
from typing import Any

import pytest
import redis

from tests.bench.goals import goals
from tests.bench.outages import HEALTHY, SILENT, UNREACHABLE, summary
from tests.redis_relay import redis_relay


def runs(*p99_ms: float) -> list[dict[str, float]]:
    return [{"p99_ms": value, "longest_ms": 2 * value} for value in p99_ms]


def rows_by_state(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["redis"]: row for row in found["rows"]}


def test_an_outage_is_judged_by_the_noise_of_healthy_parts() -> None:
    """A p99 above every healthy part's is said to be no noise; the goals take the ratio of the medians."""
    found = summary({HEALTHY: runs(2.0, 2.2, 1.8, 2.4), SILENT: runs(2.0, 2.2), UNREACHABLE: runs(3.0, 3.3)})
    rows = rows_by_state(found)
    assert found["healthy_spread"] == pytest.approx([1.8 / 2.1, 2.4 / 2.1])
    assert found["healthy_times_healthy"] == pytest.approx(2.3 / 1.9)
    assert (rows[SILENT]["p99_ms"], rows[SILENT]["longest_ms"]) == pytest.approx((2.1, 4.4))
    assert [rows[state]["within_noise"] for state in (SILENT, UNREACHABLE)] == [True, False]
    silent, unreachable = (goal for goal in goals({"redis": found}) if "Redis" in goal.text)
    assert (silent.figure, unreachable.figure) == pytest.approx((1.0, 1.5))
    assert (silent.verdict, unreachable.verdict) == ("met", "MISSED")


def test_the_relay_drops_syns_and_comes_back(redis_url: str) -> None:
    """Open connections are cut, a new one is neither accepted nor refused, and later everything is as before."""
    with redis_relay(redis_url) as relay, redis.Redis.from_url(relay.url) as client:
        address = ("127.0.0.1", int(relay.url.rpartition(":")[2].partition("/")[0]))
        assert client.ping()
        with socket.create_connection(address) as kept:
            kept.settimeout(20)
            # Answered, so it has been accepted: what only waits in the queue is not cut.
            kept.sendall(b"PING\r\n")
            assert kept.recv(7) == b"+PONG\r\n"
            relay.drop_syns()
            assert kept.recv(1) == b""
        answered_bytes = relay.answered_bytes
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.2)
        assert relay.answered_bytes == answered_bytes
        relay.take_syns()
        client.connection_pool.disconnect()
        assert client.ping()
        assert relay.answered_bytes > answered_bytes
