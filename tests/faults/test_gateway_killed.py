"""Gateways killed by SIGKILL under load, with streams under way, and started again or survived by a sibling."""

import os
import random
import signal
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import installation, pause
from tests.parts import wait_until


@pytest.mark.full_timeout(600)
def test_killed_and_started_again(tmp_path: Path, full: bool) -> None:
    """Whatever a killed gateway answered in full is one row; end records count what was unfinished."""
    dice, kills = random.Random(1), 20 if full else 2
    with installation(tmp_path) as site:
        place = site.gateways[0]
        with loading("killed", [place.url], site.key) as load:
            for _ in range(kills):
                load.wait_answered(dice.randrange(20, 150))
                pause(dice.uniform(0.0, 0.3))
                place.kill()
                pause(dice.uniform(0.0, 0.3))
                place.start()
            load.wait_answered(50)
        found = reckon("gateway killed", site, load)
        assert found.killed == kills
        assert found.unfinished > 0
        assert load.broken, "nobody was interrupted"


@pytest.mark.full_timeout(900)
def test_a_worker_is_killed_and_its_sibling_adopts(tmp_path: Path, full: bool) -> None:
    """Of two workers one is killed: whoever is there sends on what it had answered, nothing is lost or doubled."""
    dice, kills = random.Random(2), 10 if full else 2
    with installation(tmp_path, gateways=0) as site:
        place = site.add_gateway(LECTR_WORKERS="2")
        site.start()
        with loading("worker", [place.url], site.key) as load:
            for number in range(kills):
                wait_until(lambda: len(place.children()) == place.workers == len(place.details()), deadline_s=60)
                load.wait_answered(dice.randrange(20, 100))
                os.kill(place.children()[number % 2], signal.SIGKILL)
            load.wait_answered(50)
        found = reckon("worker killed", site, load, deadline_s=90)
        assert found.killed == kills
        assert "adopted" in place.running.output
