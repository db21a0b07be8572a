"""ClickHouse killed by SIGKILL in the middle of inserts, and inserts that it applied without the answer coming back."""

import random
from pathlib import Path

import pytest

from tests.faults.door_relay import door_relay
from tests.faults.feed import feeding
from tests.faults.reckoning import check_sources, wait_arrived
from tests.faults.site import installation, pause
from tests.ingestor_process import metric
from tests.parts import wait_until

BURST = 20_000
"""Rows of two days and many groups: an insert into two partitions and a rollup takes a while."""


@pytest.mark.full_timeout(900)
def test_killed_in_the_middle_of_inserts(tmp_path: Path, full: bool) -> None:
    """ClickHouse dies while it stores a batch, of which it may have all, some or nothing: each event is one row."""
    dice, kills, within = random.Random(6), 20 if full else 2, 0
    with installation(tmp_path, gateways=0) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=200) as feed:
            for _ in range(kills):
                feed.add(BURST)
                wait_until(lambda: site.entries() > 2)
                site.wait_batch()
                pause(dice.uniform(0.0, 0.15))
                site.clickhouse.kill()
                within += int(site.pusher.client.exists(site.pusher.partition.pending))
                site.restart_clickhouse()
                pause(dice.uniform(0.0, 0.5))
        wait_arrived(site)
        check_sources("ClickHouse killed", site, {feed.source: feed.events})
        print(f"ClickHouse killed: {within} of {kills} times with a batch on record")
        assert within or not full, "no kill came at the right moment"


@pytest.mark.full_timeout(300)
def test_inserts_whose_answers_are_lost(tmp_path: Path, full: bool) -> None:
    """An insert was applied and its answer never came: the repeat stores nothing a second time."""
    losses = 10 if full else 2
    with installation(tmp_path, gateways=0, ingestors=0) as site, door_relay(site.clickhouse_url) as relay:
        place = site.add_ingestor(clickhouse_url=relay.url)
        site.start()
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=300) as feed:
            for number in range(losses):
                relay.lose = 1
                feed.add(BURST // 10)
                wait_until(lambda target=number + 1: len(relay.lost) >= target)  # type: ignore[misc]
                wait_until(lambda: feed.unconfirmed < BURST // 10)
        wait_arrived(site)
        check_sources("answer lost", site, {feed.source: feed.events})
        assert relay.lost == [b"HTTP/1.1 200 OK"] * losses, "these inserts had been applied"
        assert metric(place.running, "lectr_ingestor_insert_retries_total") >= losses
