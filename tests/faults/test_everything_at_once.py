"""Any part may die at any moment, whatever state the others are in."""

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import both_sums, reckon
from tests.faults.site import Installation, installation, pause
from tests.faults.test_redis_forgets import cut, emptied, flushed

Blow = Callable[[Installation, random.Random], None]


def gateway_killed(site: Installation, dice: random.Random) -> None:
    place = dice.choice(site.gateways)
    place.kill()
    pause(dice.uniform(0.0, 0.5))
    place.start()


def ingestor_killed(site: Installation, dice: random.Random) -> None:
    place = dice.choice(site.ingestors)
    place.kill()
    pause(dice.uniform(0.0, 0.5))
    place.spawn()


def ingestor_stopped(site: Installation, dice: random.Random) -> None:
    place = dice.choice(site.ingestors)
    place.freeze()
    pause(dice.uniform(0.0, 2.0))
    place.thaw()


def redis_killed(site: Installation, dice: random.Random) -> None:
    site.redis.kill()
    pause(dice.uniform(0.0, 1.0))
    site.restart_redis()


def clickhouse_killed(site: Installation, dice: random.Random) -> None:
    site.clickhouse.kill()
    pause(dice.uniform(0.0, 1.0))
    site.restart_clickhouse()


BLOWS: list[Blow] = [
    gateway_killed,
    ingestor_killed,
    ingestor_stopped,
    redis_killed,
    clickhouse_killed,
    flushed,
    emptied,
    cut,
]


@pytest.mark.full_timeout(1_200)
@pytest.mark.parametrize("seed", [16, *(pytest.param(seed, marks=pytest.mark.only_in_full) for seed in (17, 18))])
def test_everything_at_once(tmp_path: Path, full: bool, seed: int) -> None:
    """Blow after blow against random parts under load: every whole answer is one row, and no event is missing."""
    dice, blows = random.Random(seed), 60 if full else 3
    with installation(tmp_path, gateways=2, ingestors=2, partitions=2) as site:
        with loading("chaos", [place.url for place in site.gateways], site.key, 100) as load:
            for _ in range(blows):
                blow = dice.choice(BLOWS)
                blow(site, dice)
                pause(dice.uniform(0.0, 1.5))
            load.wait_answered(20)
        reckon("everything at once", site, load, deadline_s=120, sums=False)
        rollup, table = both_sums(site)
        if rollup != table:
            # The limit of test_rollup_half_done: short, never too much.
            print(f"everything at once: rollup {rollup}, table {table}")
            assert all(Decimal(rollup[name]) <= Decimal(table[name]) for name in table)
