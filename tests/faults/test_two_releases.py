"""Two releases at once, forward and back: what one wrote the other stores, or leaves alone for the one that can."""

import random
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.releases import release_with_a_field, release_with_other_frames
from tests.faults.site import GatewayPlace, IngestorPlace, installation
from tests.parts import ROOT, migrate, wait_until

_UPGRADE = "upgrade this ingestor"


def replace(place: GatewayPlace | IngestorPlace, release: Path, *, kill: bool) -> None:
    """The place goes on under another release."""
    if kill:
        place.kill()
    else:
        assert place.running.terminate() == 0
    place.release = release
    place.start()


@pytest.mark.full_timeout(900)
def test_rolled_forward_and_back(tmp_path: Path, full: bool) -> None:
    """Ingestors and gateways are replaced one by one under load, some by SIGKILL, in any order: each is one row."""
    dice, rounds = random.Random(8), 8 if full else 1
    following = release_with_a_field(tmp_path / "following")
    with installation(tmp_path, gateways=2, ingestors=2, partitions=4) as site:
        with loading("rolled", [place.url for place in site.gateways], site.key) as load:
            for _ in range(rounds):
                for release in (following, ROOT):
                    migrate(site.clickhouse_url, release)
                    # Ingestors first is what the manual says; the guarantee must not hang on it.
                    places: list[GatewayPlace | IngestorPlace] = [*site.ingestors, *site.gateways]
                    dice.shuffle(places)
                    for place in places:
                        load.wait_answered(dice.randrange(20, 80))
                        replace(place, release, kill=dice.random() < 0.5)
                    load.wait_answered(30)
        found = reckon("two releases", site, load, deadline_s=90)
        rows = site.select("SELECT region, count() AS n FROM lectr.requests GROUP BY region")
        regions = {row["region"]: row["n"] for row in rows}
        assert set(regions) == {"", "eu"}, regions
        assert sum(regions.values()) == found.stored


def partition_of(place: GatewayPlace) -> int:
    """Of two: where the events of its process go."""
    (folder,) = place.folders()
    return int(folder, 16) % 2


@pytest.mark.full_timeout(600)
def test_frames_of_a_newer_release_wait_for_it(tmp_path: Path) -> None:
    """An ingestor that cannot read a frame lets one that can have the partition; nothing is put aside or given up."""
    newer = release_with_other_frames(tmp_path / "newer")
    with installation(tmp_path, gateways=1, ingestors=1, partitions=2) as site:
        old, new = site.ingestors[0], site.add_ingestor()
        one, other = site.add_gateway(), site.add_gateway()
        new.release = one.release = other.release = newer
        one.start()
        other.start()
        while partition_of(one) == partition_of(other):
            other.kill()
            shutil.rmtree(other.state_dir)
            other.start()

        def given_up() -> bool:
            return [_UPGRADE in fault for fault in old.details()["faults"].values()] == [True, True]

        with loading("frames", [place.url for place in site.gateways], site.key) as load:
            wait_until(given_up)
            assert site.entries() > 0
            new.start()
            # Both count as living at first, and the one that can read all must get more than half.
            wait_until(lambda: list(new.partitions().values()) == ["owner", "owner"], deadline_s=60)
            load.wait_answered(50)
            # The newer one dies within an insert, and the older one finds the record of its batch.
            site.clickhouse.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: all(site.pusher.client.exists(keys.pending) for keys in site.all_keys()))
            new.kill()
            site.clickhouse.process.send_signal(signal.SIGCONT)
            wait_until(given_up)
            assert all(site.pusher.client.exists(keys.pending) for keys in site.all_keys())
            new.start()
            load.wait_answered(50)
        reckon("newer frames", site, load, deadline_s=90)
        assert not any(site.pusher.client.exists(keys.dead) for keys in site.all_keys())


def test_a_journal_of_a_newer_release_waits_for_it(tmp_path: Path) -> None:
    """A gateway that was rolled back leaves what the newer one had journaled where it is; the newer one ships it."""
    newer = release_with_other_frames(tmp_path / "newer")
    with installation(tmp_path) as site:
        place = site.gateways[0]
        replace(site.ingestors[0], newer, kill=False)
        replace(place, newer, kill=False)
        with loading("journal", [place.url], site.key) as load:
            load.wait_answered(30)
            site.redis.process.send_signal(signal.SIGSTOP)
            load.wait_answered(30)
            place.kill()
            site.redis.process.send_signal(signal.SIGCONT)
            place.release = ROOT
            place.start()
            wait_until(lambda: place.metric("lectr_gateway_journal_newer") == 1)
            stored = site.figures()[0]
            wait_until(lambda: site.figures()[0] > stored + 30)
            assert len(place.folders()) == 2
            assert place.running.output.count("boot_of_newer_release") == 1
            replace(place, newer, kill=True)
        reckon("newer journal", site, load)
