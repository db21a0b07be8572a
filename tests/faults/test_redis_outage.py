"""Redis away for long at full load, with gateways restarted meanwhile; and Redis full."""

from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import installation, pause
from tests.parts import wait_until

OUT_OF_MEMORY = 'lectr_gateway_push_retries_total{reason="OutOfMemoryError"}'


@pytest.mark.full_timeout(900)
def test_gateways_restarted_while_redis_is_away(tmp_path: Path, full: bool) -> None:
    """Redis is away, the gateway is killed, started, stopped in order and started: all that it answered is stored."""
    away_s, rate_per_s = (100.0, 200.0) if full else (0.7, 150.0)
    # In the short form the ingestor comes with Redis: one that was there would pause for up to ten seconds.
    with installation(tmp_path, ingestors=1 if full else 0) as site:
        place = site.gateways[0]
        with loading("outage", [place.url], site.key, rate_per_s) as load:
            load.wait_answered(100)
            site.redis.kill()
            pause(away_s)
            place.kill()
            place.start()
            pause(away_s)
            # Ten seconds of trying to send what it has: the rest stays in its journal.
            assert place.running.terminate() == 0
            place.start()
            pause(away_s)
            assert place.details()[0]["waiting_events"] > 0
            site.restart_redis()
            if not full:
                site.add_ingestor()
                site.start()
            load.wait_answered(50)
        found = reckon("Redis away", site, load, deadline_s=120)
        assert found.killed == 1


@pytest.mark.full_timeout(300)
def test_redis_is_full(tmp_path: Path, full: bool) -> None:
    """Redis takes nothing more: requests go on, events wait in the journal, and are stored when there is room."""
    with installation(tmp_path) as site:
        place = site.gateways[0]
        with loading("full", [place.url], site.key) as load:
            load.wait_answered(50)
            site.pusher.client.config_set("maxmemory", "1mb")
            load.wait_answered(5_000 if full else 150)
            wait_until(lambda: place.metric(OUT_OF_MEMORY) >= 1)
            assert place.details()[0]["waiting_events"] > 0
            site.pusher.client.config_set("maxmemory", "0")
            load.wait_answered(50)
        found = reckon("Redis full", site, load)
        assert found.answered == found.sent == found.stored
