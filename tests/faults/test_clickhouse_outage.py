"""ClickHouse away while events pile up in Redis, and the way back."""

import time
from pathlib import Path

import pytest

from tests.faults.feed import feeding
from tests.faults.reckoning import check_sources, wait_arrived
from tests.faults.site import installation
from tests.parts import wait_until


@pytest.mark.full_timeout(1_200)
def test_catch_up(tmp_path: Path, full: bool) -> None:
    """What piled up without ClickHouse is stored once when it is back; the print says how fast."""
    pile = 2_000_000 if full else 50_000
    with installation(tmp_path, gateways=0) as site, feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
        site.clickhouse.kill()
        feed.add(pile)
        wait_until(lambda: feed.events == pile and feed.waiting == 0, deadline_s=600, every_s=0.2)
        assert site.entries() >= pile / 2_000
        site.restart_clickhouse()
        started_s = time.monotonic()
        wait_until(lambda: site.entries() == 0, deadline_s=600, every_s=0.1)
        took_s = time.monotonic() - started_s
        wait_until(lambda: feed.unconfirmed == 0)
        wait_arrived(site)
        check_sources("ClickHouse away", site, {feed.source: pile})
        print(f"catch-up: {pile} events in {took_s:.1f} s, {pile / took_s:,.0f} a second")
