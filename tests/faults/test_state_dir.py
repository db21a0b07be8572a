"""What people do to a state directory while its gateway runs: they copy it, delete it, or its disk spoils a byte."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import count, reckon, wait_arrived
from tests.faults.site import Installation, installation
from tests.parts import wait_until

NAME = b"damaged-0000011"
"""Of a request in the middle of the load."""


def wait_boots(site: Installation, more: int = 1) -> None:
    """Until so many runs of gateways count as ended."""
    wait_until(lambda: len(site.select("SELECT 1 FROM lectr.gateway_boots FINAL")) >= more)


@pytest.mark.full_timeout(120)
def test_a_copy_of_a_living_gateway_s_state(tmp_path: Path, full: bool) -> None:
    """A second gateway adopts a copy of a living one's journal: the first says so, and none of its answers is lost."""
    with installation(tmp_path) as site:
        first = site.gateways[0]
        with loading("copied", [first.url], site.key) as load:
            load.wait_answered(50)
            second = site.add_gateway("copy")
            shutil.copytree(first.state_dir, second.state_dir)
            second.start()
            wait_boots(site)
            wait_until(lambda: first.details()[0]["problems"])
            (said,) = first.details()
            assert said["ready"], "requests are served all the same"
            assert "LECTR_STATE_DIR was copied" in said["problems"][0]
            assert first.metric("lectr_gateway_boot_ended_elsewhere") == 1
            load.wait_answered(300 if full else 50)
            site.redis.kill()
            load.wait_answered(67)
            first.kill()
            site.restart_redis()
            first.start()
            load.wait_answered(20)
        found = reckon("state copied", site, load)
        assert found.killed == 1
        (boot,) = site.select("SELECT events, killed FROM lectr.gateway_boots FINAL")
        assert boot["events"] >= 167


def test_a_state_directory_is_deleted(tmp_path: Path) -> None:
    """Deleted under a running gateway: it says so and makes a new one, and a kill after that loses nothing."""
    with installation(tmp_path, ingestors=0) as site:
        place = site.gateways[0]
        with loading("deleted", [place.url], site.key) as load:
            load.wait_answered(50)
            shutil.rmtree(place.state_dir)
            wait_until(lambda: place.details()[0]["problems"] and place.folders())
            (said,) = place.details()
            assert "LECTR_STATE_DIR was deleted" in said["problems"][0]
            # The new one, and that of what was in the deleted one: without an ingestor nothing is confirmed.
            wait_until(lambda: len(list(place.state_dir.glob("journal/*/*.segment"))) == 2)
            site.redis.kill()
            load.wait_answered(50)
            place.kill()
            site.restart_redis()
            place.start()
            site.add_ingestor()
            site.start()
            load.wait_answered(20)
        reckon("state deleted", site, load)


def test_a_damaged_byte_is_a_gap(tmp_path: Path) -> None:
    """A byte spoiled in the last file of a killed gateway costs one event, which event_gaps lists; the file is kept."""
    with installation(tmp_path) as site:
        place = site.gateways[0]
        place.kill()
        place.settings["LECTR_FLUSH_INTERVAL_MS"] = "10000"
        place.start()
        with loading("damaged", [place.url], site.key) as load:
            load.wait_answered(60)
            place.kill()
        journals = (place.state_dir / "journal").glob("*/*.segment")
        (path,) = (found for found in journals if NAME in found.read_bytes())
        path.write_bytes(path.read_bytes().replace(NAME, NAME.upper()))
        place.settings["LECTR_FLUSH_INTERVAL_MS"] = "20"
        place.start()
        wait_until(lambda: site.figures()[0])
        wait_arrived_but(site, path.parent.name)
        found = count(site, sent=load.sent, answered=len(load.answered))
        print(f"journal damaged: {found} {json.dumps(site.select('SELECT * FROM lectr.event_gaps'))}")
        assert found.stored == found.distinct
        assert found.gaps == 1
        assert len(load.answered) - 1 <= found.stored
        assert found.unfinished <= len(load.broken)
        assert place.metric("lectr_gateway_journal_damaged_total") == 1


def wait_arrived_but(site: Installation, damaged: str) -> None:
    """Until everything has arrived, and the damaged folder lies aside."""
    aside = site.gateways[0].state_dir / "journal" / f"damaged-{damaged}"
    wait_until(lambda: any(path.suffix == ".damaged" for path in aside.glob("*")))
    shutil.move(aside, site.directory / "aside")
    wait_arrived(site)
