"""Ingestors that stand still for longer than their lease, as on a host that is suspended, and then go on."""

import json
import random
from pathlib import Path

import pytest

from tests.faults.door_relay import door_relay
from tests.faults.feed import Feed, feeding
from tests.faults.reckoning import check_sources, check_sums, count, wait_arrived
from tests.faults.site import Installation, installation, pause
from tests.parts import wait_until

BURST = 20_000
LEASE_S = 1.0


@pytest.mark.full_timeout(600)
def test_stopped_past_its_lease(tmp_path: Path, full: bool) -> None:
    """The owner stands still, now and then within an insert, and another takes over: no event is lost or doubled."""
    dice, stops, within = random.Random(10), 10 if full else 2, 0
    with installation(tmp_path, gateways=0, ingestors=2) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=500) as feed:
            for number in range(stops):
                owner = site.owner()
                if number % 2:
                    pause(dice.uniform(0.0, 0.5))
                else:
                    feed.add(BURST)
                    wait_until(lambda: site.entries() > 2)
                    site.wait_batch()
                    pause(dice.uniform(0.0, 0.15))
                owner.freeze()
                within += int(site.pusher.client.exists(site.pusher.partition.pending))
                assert site.owner() is not owner
                pause(dice.uniform(0.0, 0.7))
                owner.thaw()
                wait_until(lambda place=owner: place.partitions() == {"0": "standby"})  # type: ignore[misc]
        wait_arrived(site)
        check_sources("ingestor stopped", site, {feed.source: feed.events})
        print(f"ingestor stopped: {within} of {stops} times with a batch on record")
        assert within or not full, "no stop came at the right moment"


def test_a_broken_insert_is_not_repeated_behind_the_lease(tmp_path: Path) -> None:
    """Who stood still within an insert that ClickHouse never got does not send it when Redis has a new memory."""
    # The driver would repeat it by itself, if its body could be had again.
    with installation(tmp_path, gateways=0, ingestors=0) as site, door_relay(site.clickhouse_url) as relay:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=200) as feed:
            sleeper = site.add_ingestor(clickhouse_url=relay.url)
            sleeper.start()
            wait_until(lambda: feed.events > 100 and feed.unconfirmed < 50)
            relay.swallow = 1
            feed.add(500)
            wait_until(lambda: relay.swallowed)
            sleeper.freeze()
            relay.cut()
            another_takes_over_from_nothing(site, feed)
            sleeper.thaw()
            pause(1.5)
        wait_arrived(site)
        check_sources("stopped in an insert, hung up", site, {feed.source: feed.events})


def test_an_insert_that_comes_too_late_is_listed(tmp_path: Path) -> None:
    """A limit: an insert that reaches ClickHouse after Redis forgot everything doubles its events, each listed."""
    with installation(tmp_path, gateways=0, ingestors=0) as site, door_relay(site.clickhouse_url) as relay:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=200) as feed:
            sleeper = site.add_ingestor(clickhouse_url=relay.url)
            sleeper.start()
            wait_until(lambda: feed.events > 100 and feed.unconfirmed < 50)
            relay.hold = 1
            wait_until(lambda: relay.held)
            sleeper.freeze()
            late = json.loads(site.pusher.client.get(site.pusher.partition.pending) or b"{}")["rows"]
            another_takes_over_from_nothing(site, feed)
            relay.go_on()
            sleeper.thaw()
            wait_until(lambda: site.figures()[0] > site.figures()[1])
        wait_arrived(site)
        found = count(site, sent=feed.events, answered=feed.events)
        print(f"stopped in an insert, slow network: {found}")
        assert found.distinct == feed.events
        assert found.gaps == 0
        assert found.stored - found.distinct == late > 0
        assert site.select("SELECT count() AS n, any(rows) AS each FROM lectr.event_doubles") == [
            {"n": late, "each": 2}
        ]
        check_sums(site)


def test_the_very_first_insert_is_waited_for(tmp_path: Path) -> None:
    """Redis is emptied while the first batch ever is on its way to ClickHouse: whoever takes over waits for it."""
    lease = {"LECTR_LEASE_MS": "4000"}
    with installation(tmp_path, gateways=0, ingestors=0) as site, door_relay(site.clickhouse_url) as relay:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
            site.add_ingestor(clickhouse_url=relay.url, **lease).start()
            site.owner()
            relay.hold = 1
            feed.add(500)
            wait_until(lambda: relay.held)
            second = site.add_ingestor(**lease)
            second.start()
            assert site.figures() == (0, 0)
            site.pusher.client.flushall()
            wait_until(lambda: "marks compared with ClickHouse" in second.running.output or site.figures()[0])
            relay.go_on()
        wait_arrived(site)
        check_sources("emptied in the first insert", site, {feed.source: feed.events})


def another_takes_over_from_nothing(site: Installation, feed: Feed) -> None:
    """Redis is emptied, and a second ingestor stores what the journals send again."""
    site.pusher.client.flushall()
    site.add_ingestor()
    site.start()
    events = feed.events
    wait_until(lambda: site.figures()[0] > events, deadline_s=30)
