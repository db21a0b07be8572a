"""Redis killed by SIGKILL under load, and back with its append-only file."""

import random
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import installation, pause


@pytest.mark.full_timeout(600)
def test_killed_and_started_again(tmp_path: Path, full: bool) -> None:
    """Redis dies at random moments and comes back from its file: answers go on, and each is one row."""
    dice, kills = random.Random(3), 10 if full else 1
    with installation(tmp_path, gateways=2, ingestors=2) as site:
        with loading("redis", [place.url for place in site.gateways], site.key) as load:
            for _ in range(kills):
                load.wait_answered(dice.randrange(50, 200))
                site.redis.kill()
                load.wait_answered(dice.randrange(1, 100))
                site.restart_redis()
                pause(dice.uniform(0.2, 1.5))
        found = reckon("Redis killed", site, load)
        assert found.answered == found.sent == found.stored
