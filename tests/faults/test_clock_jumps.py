"""Clocks that jump: events of many hours, days and months in one frame, and ClickHouse killed while it stores them."""

import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shared.event import Event
from tests.faults.reckoning import check_sources, wait_arrived
from tests.faults.site import installation, pause
from tests.ingestor_process import DAY_MS, some_events

SOURCE = 7
EVENTS = 10_000
HOUR_MS = DAY_MS // 24
TURNS_MS = [
    round(datetime(*day, tzinfo=UTC).timestamp() * 1_000)
    for day in ((2026, 10, 1), (2026, 10, 25), (2026, 11, 25), (2026, 12, 1), (2027, 1, 1), (2028, 2, 29), (2028, 3, 1))
]
"""Ends of days, months and years; the clocks of Europe went back on 25 October 2026."""


def jumping(count: int, first_seq: int, dice: random.Random) -> list[Event]:
    """Events whose clock jumps by up to an hour around those turns, and now and then by days."""
    jumped = []
    for place, event in enumerate(some_events(count, first_seq=first_seq)):
        ts_ms = dice.choice(TURNS_MS) + dice.randrange(-HOUR_MS, HOUR_MS)
        if place % 5 == 0:
            ts_ms += dice.randrange(-20, 20) * DAY_MS
        jumped.append(msgspec.structs.replace(event, ts_ms=ts_ms))
    return jumped


@pytest.mark.full_timeout(600)
def test_clock_jumps(tmp_path: Path, full: bool) -> None:
    """One insert fills many partitions, ClickHouse dies within it: table and rollup hold each event once."""
    dice, kills, sent = random.Random(15), 12 if full else 2, 0
    with installation(tmp_path, gateways=0) as site:
        within = 0
        for _ in range(kills):
            site.pusher.push(SOURCE, jumping(EVENTS, sent, dice), frame_events=2_000)
            sent += EVENTS
            site.wait_batch()
            pause(dice.uniform(0.0, 0.15))
            site.clickhouse.kill()
            within += int(site.pusher.client.exists(site.pusher.partition.pending))
            site.restart_clickhouse()
            pause(dice.uniform(0.0, 1.0))
        wait_arrived(site)
        check_sources("clock jumps", site, {SOURCE: sent})
        days = site.select("SELECT uniqExact(toDate(ts)) AS d, uniqExact(toMonth(ts)) AS m FROM lectr.requests")[0]
        print(f"clock jumps: {days['d']} days, {days['m']} months, {within} of {kills} kills within a batch")
        assert days["d"] > 50
        assert within or not full, "no kill came at the right moment"
