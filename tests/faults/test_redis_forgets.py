"""Redis loses everything, or the end of what it knew, under load: the journals send again what ClickHouse lacks."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import Installation, installation, pause

_KB = 1024


def flushed(site: Installation, dice: random.Random) -> None:
    """FLUSHALL, which leaves the server running."""
    site.pusher.client.flushall()


def emptied(site: Installation, dice: random.Random) -> None:
    """Killed, and started again without its data."""
    site.redis.kill()
    shutil.rmtree(site.directory / "redis" / "appendonlydir")
    site.restart_redis()


def cut(site: Installation, dice: random.Random) -> None:
    """Killed, and started again without the last of what it had written."""
    site.redis.kill()
    files = sorted((site.directory / "redis" / "appendonlydir").glob("*.incr.aof"))
    size = files[-1].stat().st_size
    with files[-1].open("r+b") as file:
        file.truncate(max(size - dice.randrange(_KB, 200 * _KB), 0))
    site.restart_redis()


def brought_back(site: Installation, dice: random.Random) -> None:
    """All it holds is replaced by what it held a moment ago, while it runs on: a snapshot of its memory."""
    redis = site.pusher.client
    before = {name: redis.dump(name) for name in redis.scan_iter("lectr:{*")}
    pause(dice.uniform(0.3, 1.5))
    pipeline = redis.pipeline()
    for name in redis.scan_iter("lectr:{*"):
        pipeline.delete(name)
    for name, value in before.items():
        if value is not None:
            pipeline.restore(name, 0, value)
    pipeline.execute()


@pytest.mark.full_timeout(600)
@pytest.mark.parametrize("lose", [flushed, emptied, cut, brought_back])
def test_redis_forgets(tmp_path: Path, full: bool, lose: Callable[[Installation, random.Random], None]) -> None:
    """What Redis loses comes again from the gateways, and only what is not stored yet is stored."""
    dice, losses = random.Random(4), 5 if full else 1
    with installation(tmp_path, gateways=2) as site:
        with loading("forgets", [place.url for place in site.gateways], site.key) as load:
            for _ in range(losses):
                load.wait_answered(dice.randrange(100, 400))
                lose(site, dice)
                pause(dice.uniform(0.0, 1.5))
            load.wait_answered(50)
        found = reckon(f"Redis {lose.__name__}", site, load)
        assert found.answered == found.sent == found.stored
