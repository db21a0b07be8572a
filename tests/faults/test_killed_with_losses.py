"""Gateways that are killed while Redis is away, and with them what was nowhere else: each lost event is a gap."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import Reckoning, check_sums, count, wait_arrived
from tests.faults.site import GatewayPlace, Installation, installation
from tests.faults.test_journal_disk import PADDING, SEGMENT_BYTES, fill, small_disk
from tests.journal_site import damage
from tests.parts import wait_until

ANSWERS = 150


def segments(place: GatewayPlace) -> list[Path]:
    return sorted((place.state_dir / "journal").glob("*/*.segment"))


def go_on(scenario: str, site: Installation, place: GatewayPlace, answered: int) -> Reckoning:
    """Redis and the gateway come back; every answered request is a row or a gap, and nothing else is."""
    site.restart_redis()
    place.start()
    wait_arrived(site)
    found = count(site, sent=answered, answered=answered)
    print(f"{scenario}: {found}")
    assert found.stored == found.distinct
    assert found.stored + found.gaps == answered
    assert (found.unfinished, found.killed) == (0, 1)
    check_sums(site)
    return found


@pytest.mark.only_in_full
def test_dropped_by_a_full_journal(tmp_path: Path) -> None:
    """What LECTR_JOURNAL_BYTES had no room for, and was counted as dropped, is as many gaps after a kill."""
    sizes = {"LECTR_JOURNAL_BYTES": str(4 * SEGMENT_BYTES), "LECTR_JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES)}
    with installation(tmp_path, gateways=0) as site:
        place = site.add_gateway(**sizes)
        place.start()
        with loading("full", [place.url], site.key, 300, padding=PADDING) as load:
            load.wait_answered(20)
            site.redis.kill()
            wait_until(lambda: place.metric("lectr_gateway_events_dropped_total") >= 50, deadline_s=60)
        dropped = place.metric("lectr_gateway_events_dropped_total")
        place.kill()
        found = go_on("killed with a full journal", site, place, load.sent)
        assert found.gaps == dropped


@pytest.mark.only_in_full
def test_kept_in_memory_by_a_full_disk(tmp_path: Path) -> None:
    """What a full disk did not take, and was in memory, is a gap after a kill."""
    with small_disk(tmp_path / "disk") as disk, installation(tmp_path / "site", gateways=0) as site:
        place = site.add_gateway(LECTR_STATE_DIR=str(disk), LECTR_JOURNAL_SEGMENT_BYTES=str(SEGMENT_BYTES))
        place.start()
        with loading("memory", [place.url], site.key, 300, padding=PADDING) as load:
            load.wait_answered(20)
            fill(disk)
            site.redis.kill()
            wait_until(lambda: place.details()[0]["journal"].startswith("memory"), deadline_s=60)
            load.wait_answered(50)
        place.kill()
        (disk / "filler").unlink()
        found = go_on("killed with events in memory", site, place, load.sent)
        assert found.gaps >= 50


def cut(segment: Path) -> None:
    """Half of its records gone, and the file with them."""
    content = segment.read_bytes()
    used = len(content.rstrip(b"\0"))
    segment.write_bytes(content[: used // 2])


def zeroed(segment: Path) -> None:
    """The last of its records zeros, as a power cut leaves pages that were not written."""
    content = segment.read_bytes()
    used = len(content.rstrip(b"\0"))
    segment.write_bytes(content[: used - 4_096].ljust(len(content), b"\0"))


def bad_header(segment: Path) -> None:
    damage(segment, 9, value=0x10)


def bad_boot(segment: Path) -> None:
    damage(segment.with_name("boot"), 12, value=0x10)


def in_full(spoil: Callable[[Path], None], damaged: int) -> Any:
    return pytest.param(spoil, damaged, marks=pytest.mark.only_in_full)


@pytest.mark.parametrize(
    ("spoil", "damaged"), [(cut, 0), in_full(zeroed, 0), in_full(bad_header, 1), in_full(bad_boot, 1)]
)
def test_files_that_the_disk_spoiled(tmp_path: Path, spoil: Callable[[Path], None], damaged: int) -> None:
    """Events that are gone from the end of the journal are gaps; a bad byte in a header, or in `boot`, costs none."""
    with installation(tmp_path) as site:
        (place,) = site.gateways
        site.redis.kill()
        with loading("spoiled", [place.url], site.key, 100) as load:
            load.wait_answered(ANSWERS)
        place.kill()
        spoil(segments(place)[-1])
        found = go_on(f"killed, its journal {spoil.__name__}", site, place, load.sent)
        assert (0 < found.gaps < load.sent) if not damaged else (found.gaps == 0)
        assert place.metric("lectr_gateway_journal_damaged_total") == damaged
