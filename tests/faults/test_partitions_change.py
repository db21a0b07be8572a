"""The number of partitions is changed while events wait in journals, and other processes still have another number."""

from pathlib import Path

import pytest

from ingestor import partitions
from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import GatewayPlace, Installation, installation
from tests.parts import wait_until

_SETTING = "LECTR_STREAM_PARTITIONS"


def partition_of(place: GatewayPlace) -> int:
    """Of four: where the events of the process there go."""
    (folder,) = place.folders()
    return int(folder, 16) % 4


def start_beyond(place: GatewayPlace) -> None:
    """Start it until its boot drew another partition than number 0."""
    place.settings[_SETTING] = "4"
    place.start()
    while partition_of(place) == 0:
        assert place.running.terminate() == 0
        wait_until(lambda: not place.alive)
        place.start()
        wait_until(lambda: len(place.folders()) == 1)


def fresh(site: Installation) -> bool:
    """Whether what is complete reaches to the last minute, and was reported then."""
    (row,) = site.select(
        "SELECT min(complete_up_to) > now() - 30 AND min(reported_at) > now() - 30 AS fresh FROM lectr.data_freshness"
    )
    return bool(row["fresh"])


@pytest.mark.full_timeout(300)
def test_fewer_partitions_while_a_journal_waits(tmp_path: Path) -> None:
    """What a gateway journaled for a partition that is no more is stored, and its partition holds up no report."""
    with installation(tmp_path, gateways=0, ingestors=0) as site:
        place, worker = site.add_gateway(), site.add_ingestor(**{_SETTING: "4"})
        site.partitions = 4
        worker.start()
        start_beyond(place)
        with loading("partitions", [place.url], site.key) as load:
            load.wait_answered(50)
            site.redis.kill()
            load.wait_answered(50)
            place.kill()
            place.settings[_SETTING] = worker.settings[_SETTING] = "1"
            worker.kill()
            site.restart_redis()
            worker.start()
            place.start()
            load.wait_answered(50)
        reckon("fewer partitions", site, load)
        worker.kill()
        worker.start()
        seconds = partitions.SILENT_S + 60
        retired = "SELECT count() AS n FROM lectr.ingestion_progress FINAL WHERE NOT retired AND partition > 0"
        wait_until(lambda: site.select(retired)[0]["n"] == 0, deadline_s=seconds, every_s=1)
        wait_until(lambda: fresh(site), deadline_s=30)


def test_a_gateway_has_more_partitions_than_the_ingestors(tmp_path: Path) -> None:
    """Partitions beyond the number of the ingestors are shared by them like any other."""
    with installation(tmp_path, gateways=0, ingestors=2) as site:
        place = site.add_gateway()
        site.partitions = 4
        start_beyond(place)
        with loading("more", [place.url], site.key) as load:
            load.wait_answered(50)
        reckon("more partitions", site, load)
