"""Gateways that are killed while Redis is away, and with them what was nowhere else: each lost event is a gap."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import Reckoning, check_sums, count, wait_arrived
from tests.faults.site import GatewayPlace, Installation, installation
from tests.faults.test_journal_disk import PADDING, SEGMENT_BYTES, fill, small_disk
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


def test_dropped_by_a_full_journal(tmp_path: Path, full: bool) -> None:
    """What LECTR_JOURNAL_BYTES had no room for, and was counted as dropped, is as many gaps after a kill."""
    sizes = {"LECTR_JOURNAL_BYTES": str(4 * SEGMENT_BYTES), "LECTR_JOURNAL_SEGMENT_BYTES": str(SEGMENT_BYTES)}
    if not full:
        pytest.skip("only in full")
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


def test_kept_in_memory_by_a_full_disk(tmp_path: Path, full: bool) -> None:
    """What a full disk did not take, and was in memory, is a gap after a kill."""
    if not full:
        pytest.skip("only in full")
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


def cut(path: Path) -> None:
    """Half of its records gone, and the file with them."""
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))
    path.write_bytes(content[: used // 2])


def zeroed(path: Path) -> None:
    """The last of its records zeros, as a power cut leaves pages that were not written."""
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))
    path.write_bytes(content[: used - 4_096].ljust(len(content), b"\0"))


@pytest.mark.parametrize("spoil", [cut, zeroed])
def test_a_tail_that_the_disk_lost(tmp_path: Path, full: bool, spoil: Callable[[Path], None]) -> None:
    """Events at the end of the journal that are gone from the disk when the gateway starts again are gaps."""
    if spoil is zeroed and not full:
        pytest.skip("only in full")
    with installation(tmp_path) as site:
        (place,) = site.gateways
        site.redis.kill()
        with loading("tail", [place.url], site.key, 100) as load:
            load.wait_answered(ANSWERS)
        place.kill()
        spoil(segments(place)[-1])
        found = go_on(f"killed, the tail of its journal {spoil.__name__}", site, place, load.sent)
        assert 0 < found.gaps < load.sent


@pytest.mark.parametrize(("name", "at"), [("boot", 12), ("segment", 9)])
def test_damage_that_costs_nothing(tmp_path: Path, full: bool, name: str, at: int) -> None:
    """A bad byte in the file `boot`, or in the header of a journal file: every event is stored."""
    if not full:
        pytest.skip("only in full")
    with installation(tmp_path) as site:
        (place,) = site.gateways
        site.redis.kill()
        with loading("header", [place.url], site.key, 100) as load:
            load.wait_answered(ANSWERS)
        path = segments(place)[-1] if name == "segment" else segments(place)[-1].with_name("boot")
        place.kill()
        content = bytearray(path.read_bytes())
        content[at] ^= 0x10
        path.write_bytes(content)
        found = go_on(f"killed, a bad byte in {name}", site, place, load.sent)
        assert found.gaps == 0
        assert place.metric("lectr_gateway_journal_damaged_total") == 1
