"""Entries that no batch can hold, among the frames of gateways at work."""

from pathlib import Path

import pytest

from shared.stream import encode_event, encode_frame
from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import installation
from tests.ingestor_process import event
from tests.parts import fetch

SOURCE, STRANGER = 7, 8
REFUSING = b"ALTER TABLE lectr.requests ADD CONSTRAINT no_such CHECK model_requested != 'refuse me'"
FRAME = 20


@pytest.mark.full_timeout(300)
def test_poison_among_good_frames(tmp_path: Path, full: bool) -> None:
    """What cannot be read or is refused becomes a dead letter with its reason; everything around it is stored."""
    rounds = 20 if full else 3
    with installation(tmp_path) as site:
        client, stream = site.pusher.client, site.pusher.partition.stream
        assert fetch(f"{site.clickhouse_url}/", data=REFUSING, method="POST")[0] == 200
        with loading("poison", [site.gateways[0].url], site.key) as load:
            for number in range(rounds):
                # Above a tenth of poison nothing is buried any more.
                load.wait_answered(300 if full else 30)
                client.xadd(stream, {"s": STRANGER, "a": 3 * number, "n": 3, "f": b"\xff\xfe"})
                client.xadd(stream, {"unknown": "entry"})
                wrong = encode_frame(SOURCE, 9_000_000, "gw", [encode_event(event(0))])
                client.xadd(stream, {"s": SOURCE, "a": 9_000_000, "n": 1, "f": wrong})
                first = number * 3 * FRAME
                events = [
                    event(seq, model_requested="refuse me" if first + FRAME <= seq < first + 2 * FRAME else "fine")
                    for seq in range(first, first + 3 * FRAME)
                ]
                site.pusher.push(SOURCE, events, frame_events=FRAME)
        found = reckon("poison", site, load, gaps=rounds * FRAME)
        assert found.stored == len(load.answered) + 2 * FRAME * rounds
        reasons = sorted(fields[b"reason"].decode() for fields in site.pusher.dead())
        assert reasons == sorted(["undecodable", "missing", "inconsistent", "refused"] * rounds)
        refused = [fields for fields in site.pusher.dead() if fields[b"reason"] == b"refused"]
        assert [int(fields[b"a"]) for fields in refused] == [FRAME + 3 * FRAME * number for number in range(rounds)]
        assert site.pusher.marks()[SOURCE] == str(3 * FRAME * rounds), "kept aside, it need not come again"
