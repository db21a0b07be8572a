"""Ingestors killed by SIGKILL at random moments, two of them, while events keep coming."""

import random
from pathlib import Path

import pytest

from tests.faults.feed import feeding
from tests.faults.reckoning import check_sources, wait_arrived
from tests.faults.site import installation, pause


@pytest.mark.full_timeout(600)
def test_killed_at_random(tmp_path: Path, full: bool) -> None:
    """One of two ingestors is killed again and again, owner or not: every event is one row."""
    dice, kills = random.Random(5), 50 if full else 3
    with installation(tmp_path, gateways=0, ingestors=2) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=1_000) as feed:
            for number in range(kills):
                place = site.owner() if number % 3 else dice.choice(site.ingestors)
                pause(dice.uniform(0.0, 0.6))
                place.kill()
                pause(dice.uniform(0.0, 0.4))
                place.start()
        wait_arrived(site)
        check_sources("ingestor killed", site, {feed.source: feed.events})
