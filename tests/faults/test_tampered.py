"""Frames that somebody changed on their way: what is missing is named, and sent again where its gateway lives."""

from pathlib import Path
from typing import Any

import pytest

from shared.stream import (
    FIELD_COUNT,
    FIELD_END,
    FIELD_FRAME,
    FIELD_SOURCE,
    Frame,
    decode_frame,
    encode_event,
    encode_frame,
)
from tests.faults.load import loading
from tests.faults.reckoning import check_sources, reckon, wait_arrived
from tests.faults.site import Installation, installation
from tests.ingestor_process import some_events
from tests.parts import wait_until

SOURCE = 7


def without(frame: Frame, place: int) -> bytes:
    """The frame as it would be without one of its events."""
    events = [encode_event(event) for event in frame.events]
    del events[place]
    return encode_frame(frame.source, frame.first_seq, frame.gateway, events)


def rewrite(site: Installation, place: int) -> int:
    """Take an event out of every frame in the stream that has one there; how many were taken."""
    client, stream = site.pusher.client, site.pusher.partition.stream
    entries: Any = client.xrange(stream)
    taken = 0
    with client.pipeline(transaction=True) as pipe:
        pipe.delete(stream)
        for entry_id, fields in entries:
            if int(fields[FIELD_COUNT]) > place:
                fields[FIELD_FRAME] = without(decode_frame(fields[FIELD_FRAME]), place)
                taken += 1
            pipe.xadd(stream, fields, id=entry_id)
        pipe.execute()
    return taken


def gaps(site: Installation) -> list[tuple[int, int]]:
    found = site.select(
        f"SELECT first_seq, end_seq FROM lectr.event_gaps WHERE gateway_boot = {SOURCE} ORDER BY first_seq"
    )
    return [(row["first_seq"], row["end_seq"]) for row in found]


def test_without_a_gateway_the_gap_is_listed(tmp_path: Path) -> None:
    """An event taken out of a frame by hand: the others are stored, and event_gaps names that one within a minute."""
    with installation(tmp_path, gateways=0, ingestors=0) as site:
        site.pusher.push(SOURCE, some_events(300))
        frames: Any = site.pusher.client.xrange(site.pusher.partition.stream)
        site.pusher.client.delete(site.pusher.partition.stream)
        for number, (entry_id, fields) in enumerate(frames):
            if number == 1:
                fields[FIELD_FRAME] = without(decode_frame(fields[FIELD_FRAME]), 42)
            site.pusher.client.xadd(site.pusher.partition.stream, fields, id=entry_id)
        site.add_ingestor()
        site.start()
        wait_until(lambda: gaps(site), deadline_s=60)
        wait_arrived(site)
        assert gaps(site) == [(142, 143)]
        check_sources("event removed", site, {SOURCE: 300}, gaps=1)
        assert site.pusher.marks() == {SOURCE: "142,143-300"}


@pytest.mark.full_timeout(240)
def test_with_its_gateway_it_comes_again(tmp_path: Path, full: bool) -> None:
    """Events taken out while their gateway lives: it sends them again from its journal, and no gap is left."""
    with installation(tmp_path, ingestors=0) as site:
        place = site.gateways[0]
        with loading("tampered", [place.url], site.key) as load:
            load.wait_answered(1_000 if full else 100)
        wait_until(lambda: place.details()[0]["waiting_events"] == 0)
        taken = rewrite(site, 0)
        assert taken
        site.add_ingestor()
        site.start()
        found = reckon("event removed, gateway lives", site, load)
        assert found.answered == found.stored
        assert place.metric("lectr_gateway_events_reshipped_total") >= taken


@pytest.mark.full_timeout(240)
def test_a_vanished_frame_comes_again_under_load(tmp_path: Path) -> None:
    """A frame that vanished from the stream is sent again although requests keep coming, not only in a quiet hour."""
    with installation(tmp_path, ingestors=0) as site:
        place = site.gateways[0]
        with loading("vanished", [place.url], site.key) as load:
            load.wait_answered(50)
            entries: Any = site.pusher.client.xrange(site.pusher.partition.stream, count=3)
            site.pusher.client.xdel(site.pusher.partition.stream, entries[1][0])
            load.wait_answered(50)
            site.add_ingestor()
            site.start()
            missing = int(entries[1][1][FIELD_COUNT])
            wait_until(lambda: site.figures()[0] > 100)
            wait_until(lambda: total_gaps(site) in {0, missing})
            wait_until(lambda: total_gaps(site) == 0, deadline_s=60, every_s=0.2)
        reckon("frame vanished", site, load)


def total_gaps(site: Installation) -> int:
    return int(site.select("SELECT sum(events) AS n FROM lectr.event_gaps")[0]["n"])


@pytest.mark.full_timeout(240)
def test_what_vanished_comes_again_under_the_load_of_others(tmp_path: Path) -> None:
    """All frames of one gateway are gone, and the end of another one: both come while a third one keeps sending."""
    with installation(tmp_path, gateways=3, ingestors=0) as site:
        idle, ending, busy = site.gateways
        with loading("vanished", [idle.url, ending.url], site.key) as load:
            load.wait_answered(50)
        wait_until(lambda: not any(place.details()[0]["waiting_events"] for place in (idle, ending)))
        source, client, stream = int(idle.folders()[0], 16), site.pusher.client, site.pusher.partition.stream
        ending.running.terminate()
        entries: Any = client.xrange(stream)
        gone = [entry_id for entry_id, fields in entries if int(fields[FIELD_SOURCE]) == source or FIELD_END in fields]
        client.xdel(stream, *gone)
        ending.start()
        with loading("busy", [busy.url], site.key, 20.0) as others:
            site.add_ingestor()
            site.start()
            names = "SELECT count() AS n FROM lectr.requests WHERE startsWith(task, 'vanished-')"
            ends = "SELECT count() AS n FROM lectr.gateway_boots"
            wait_until(
                lambda: site.select(names)[0]["n"] == len(load.answered) and site.select(ends)[0]["n"] == 1,
                deadline_s=60,
                every_s=0.2,
            )
            others.wait_answered(1)
        wait_arrived(site)
        assert site.figures() == (len(load.answered) + len(others.answered),) * 2
