"""`data_freshness` while Redis forgets: it never says that all is stored which still waits in a journal."""

import shutil
from pathlib import Path

import pytest

from shared.clock import unix_ms
from tests.faults.load import loading
from tests.faults.reckoning import wait_arrived
from tests.faults.site import Installation, installation
from tests.parts import wait_until
from tests.test_gateways_command import order

FRESHNESS = (
    "SELECT toUnixTimestamp64Milli(complete_up_to) AS complete, toUnixTimestamp64Milli(reported_at) AS reported"
    " FROM lectr.data_freshness"
)


def report(site: Installation) -> tuple[int, int]:
    """Up to when all is said to be stored, and when that was said, Unix ms."""
    rows = site.select(FRESHNESS)
    return (int(rows[0]["complete"] or 0), int(rows[0]["reported"] or 0)) if rows else (0, 0)


@pytest.mark.full_timeout(300)
def test_a_journal_that_waits_holds_up_the_freshness(tmp_path: Path) -> None:
    """A gateway is killed with requests that nobody stored, and Redis is emptied: both are known all the same."""
    with installation(tmp_path, gateways=2) as site:
        dead, living = site.gateways
        with loading("stored", [dead.url, living.url], site.key) as load:
            load.wait_answered(60)
        wait_until(lambda: site.figures()[0] == len(load.answered))
        wait_until(lambda: report(site)[0], deadline_s=60)
        site.redis.kill()
        with loading("waiting", [dead.url], site.key) as waiting:
            waiting.wait_answered(50)
        # By now all of them have ended: whoever calls this moment complete is wrong.
        ended_ms, source = unix_ms(), int(dead.folders()[0], 16)
        dead.kill()
        shutil.rmtree(site.directory / "redis" / "appendonlydir")
        site.restart_redis()
        restarted_ms = unix_ms()
        complete_ms, _ = wait_until(lambda: (now := report(site))[1] > restarted_ms and now, deadline_s=60) or (0, 0)
        assert 0 < complete_ms < ended_ms
        assert f"gateway_boot={source} " in order(site, "gateways")[1]
        dead.start()
        wait_until(lambda: report(site)[0] > ended_ms, deadline_s=90)
        wait_arrived(site)
        assert site.figures() == (len(load.answered) + len(waiting.answered),) * 2
        assert f"gateway_boot={source} " not in order(site, "gateways")[1]
