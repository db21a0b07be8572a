"""Frames that come again a month later, when Redis knows nothing of them any more."""

from pathlib import Path
from typing import Any

from shared.clock import unix_ms
from shared.stream import FIELD_FRAME, decode_frame
from tests.faults.feed import feeding
from tests.faults.reckoning import check_sources, wait_arrived
from tests.faults.site import Installation, installation
from tests.ingestor_process import DAY_MS, event
from tests.parts import wait_until

SOURCE = 7
EVENTS = 3_000


def again(site: Installation, entries: list[Any]) -> None:
    """The entries, appended once more as they were."""
    for _, fields in entries:
        site.pusher.client.xadd(site.pusher.partition.stream, fields)
    wait_arrived(site)


def test_old_frames_come_again(tmp_path: Path) -> None:
    """Month-old frames whose marks are gone are found in ClickHouse and left out, however they come back."""
    keys, old_ms = f"{SOURCE}", unix_ms() - 30 * DAY_MS
    with installation(tmp_path, gateways=0, ingestors=0) as site:
        client, partition = site.pusher.client, site.pusher.partition
        site.pusher.push(SOURCE, [event(seq, ts_ms=old_ms + seq) for seq in range(EVENTS)])
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as ended:
            ended.add(EVENTS)
            wait_until(lambda: ended.events == EVENTS and ended.waiting == 0)
        # Without an ingestor all of it is still there, the record of the feed's end included.
        entries: Any = client.xrange(partition.stream)
        site.add_ingestor()
        site.start()
        wait_arrived(site)
        sources = {SOURCE: EVENTS, ended.source: EVENTS}
        check_sources("stored", site, sources)

        again(site, entries)
        check_sources("again, marks known", site, sources)
        client.hdel(partition.done, keys)
        again(site, entries)
        check_sources("again, marks deleted", site, sources)
        client.hdel(partition.done, keys)
        client.hdel(partition.accepted, keys)
        for _, fields in entries:
            if int(fields[b"s"]) == SOURCE:
                first, count = int(fields[b"a"]), int(fields[b"n"])
                assert len(decode_frame(fields[FIELD_FRAME]).events) == count
                following = site.pusher.push_frame(SOURCE, fields[FIELD_FRAME], first, count, expected_seq=first)
                assert following == first + count, "the script took it"
        wait_arrived(site)
        check_sources("pushed again, nothing known", site, sources)
        client.delete(partition.done, partition.accepted, partition.ended)
        again(site, entries)
        check_sources("again, Redis knows nobody", site, sources)
