"""Damaged journal files: what can be read is shipped, what cannot is counted, and the file is kept for a person."""

import contextlib
import os
import socket
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import adopt_orphans
from gateway.journal.records import RECORD, RECORD_OVERHEAD_BYTES, record_behind
from gateway.journal.segment import HEADER_BYTES, Segment, allocate
from shared import counters
from tests.journal_site import SMALL_BYTES, damage, leave_killed, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

SOURCE = 2**63 - 5
BODIES = [b"first", b"\x00" * 30, b"third " * 9, b"the last of them"]


def write(path: Path, bodies: list[bytes], size_bytes: int = 4096) -> bytearray:
    """A segment with these records; the file's content."""
    allocate(path, size_bytes)
    segment = Segment.begin(path, SOURCE, 0, size_bytes)
    for seq, body in enumerate(bodies):
        assert segment.append(seq, body)
    segment.let_go()
    return bytearray(path.read_bytes())


def starts(bodies: list[bytes]) -> list[int]:
    """Where each record begins, and where the last one ends."""
    found = [HEADER_BYTES]
    for body in bodies:
        found.append(found[-1] + RECORD_OVERHEAD_BYTES + len(body))
    return found


def found_in(path: Path, content: bytes) -> tuple[list[bytes], bool]:
    """What an heir reads of the last file of a boot: the records' bodies, and whether it takes the end for torn."""
    path.write_bytes(content)
    segment = Segment.open(path, SOURCE)
    with capture_logs():
        torn = segment.find_end()
    found = [record.body for record in segment.records(HEADER_BYTES)]
    segment.let_go()
    return found, torn


def test_a_changed_byte_costs_the_record_it_is_in(tmp_path: Path) -> None:
    """Any byte of any record but the last changed, its length included: all others are read, nothing looks torn."""
    path = tmp_path / "1.segment"
    content = write(path, BODIES)
    bounds = starts(BODIES)
    damaged = count(counters.journal_damaged)
    for place in range(bounds[0], bounds[-2]):
        hit = max(number for number, start in enumerate(bounds) if start <= place)
        for value in (0x01, 0x80, 0xFF):
            content[place] ^= value
            expected = [body for number, body in enumerate(BODIES) if number != hit]
            assert found_in(path, bytes(content)) == (expected, False), (place, value)
            content[place] ^= value
    assert count(counters.journal_damaged) - damaged == 3 * (bounds[-2] - bounds[0])


def test_a_zeroed_page_costs_what_is_in_it(tmp_path: Path) -> None:
    """A page of zeros in the middle, as a power cut leaves it, is no end: the records behind it are read."""
    path = tmp_path / "1.segment"
    bodies = [b"%03d " % number * 25 for number in range(120)]
    content = write(path, bodies, 16 << 10)
    content[4096:8192] = bytes(4096)
    bounds = starts(bodies)
    kept = [body for body, start, end in zip(bodies, bounds, bounds[1:], strict=False) if end <= 4096 or start >= 8192]
    assert found_in(path, bytes(content)) == (kept, False)
    assert 0 < len(bodies) - len(kept) < 40


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    """What a killed process leaves of its last record ends the file, and is not counted as damage."""
    path = tmp_path / "1.segment"
    content = write(path, BODIES)
    bounds = starts(BODIES)
    damaged = count(counters.journal_damaged)
    for cut in range(bounds[-2] + 1, bounds[-1]):
        torn = bytes(content[:cut]).ljust(len(content), b"\0")
        assert found_in(path, torn) == (BODIES[:-1], True), cut
    assert count(counters.journal_damaged) == damaged


def test_a_record_of_old_within_a_body_is_no_record(tmp_path: Path) -> None:
    """A whole record whose number was used before, within the body of one whose length is damaged, is not taken."""
    path = tmp_path / "1.segment"
    first = bytes(write(tmp_path / "other.segment", [b"an older one"])[HEADER_BYTES : starts([b"an older one"])[-1]])
    bodies = [b"zero", b"around " + first + b" it", b"two"]
    content = write(path, bodies)
    content[starts(bodies)[1] + 1] ^= 0x01
    assert found_in(path, bytes(content)) == ([b"zero", b"two"], False)


def test_the_search_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that look like heads of large records everywhere cost a bounded number of checksums."""
    size = 1 << 20
    head = RECORD.pack(size // 2, 7, 1)
    data = head * (size // len(head))
    checked = 0
    real = zlib.crc32

    def crc32(part: bytes, start: int = 0) -> int:
        nonlocal checked
        checked += len(part)
        return real(part, start)

    monkeypatch.setattr(zlib, "crc32", crc32)
    assert record_behind(data, 0, size, 0) is None
    assert size < checked <= 20 * size


@pytest.mark.parametrize("field", [pytest.param(0, id="length"), pytest.param(40, id="body")])
async def test_damage_in_the_last_file(store: Store, state: Path, field: int) -> None:
    """One bad byte in the last file of a killed process: the rest is shipped, the end counts all, the file is kept."""
    left = leave_killed(state, 60, begun=61)
    assert left.folder is not None
    (path,) = left.folder.glob("*.segment")
    with capture_logs():
        (orphan,) = adopt_orphans(str(state))
    sizes = [len(body) + RECORD_OVERHEAD_BYTES for _, body in read_all(orphan.backlog)]
    orphan.boot.close()
    damage(path, HEADER_BYTES + sum(sizes[:11]) + field)
    damaged, torn = count(counters.journal_damaged), count(counters.journal_torn)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
    said = [line for line in logs if line["log_level"] == "error"]
    assert [(line["event"], line["folder"], line["file"], line["numbers_skipped"]) for line in said] == [
        ("segment_damaged", left.folder.name, path.name, 1)
    ]
    assert (count(counters.journal_damaged) - damaged, count(counters.journal_torn) - torn) == (1, 0)
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == [*range(11), *range(12, 60)]
    assert_chain(arrived)
    end = arrived[-1].end
    assert end is not None
    assert (end.events, end.unfinished) == (60, 1)
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.close()
    aside = left.folder.with_name(f"damaged-{left.folder.name}")
    assert path.with_suffix(".damaged").name in {kept.name for kept in aside.iterdir()}


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("/nowhere/file")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
        bound.bind(path.name)


@pytest.mark.parametrize("name", ["00000000000000009999.segment", "of-a-person"])
@pytest.mark.parametrize("make", [a_folder, a_link_to_nothing, a_link_to_itself, os.mkfifo, a_socket])
async def test_what_is_no_file_stops_nothing(
    store: Store, state: Path, make: Callable[[Path], None], name: str
) -> None:
    """Whatever lies among a dead gateway's files: these are shipped, it is counted and kept, nobody waits."""
    left = leave_killed(state, 300)
    assert left.folder is not None
    make(left.folder / name)
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
    assert [item.seq for entry in entries(store.url, left.source) for item in entry.events] == list(range(300))
    said = [(line["event"], line["file"]) for line in logs if line["log_level"] == "error"]
    assert said == [("segment_unreadable" if name.endswith(".segment") else "no_journal_file", name)]
    assert count(counters.journal_damaged) - damaged == 1
    await until(lambda: sender.ship._adopted[left.source].said_end)
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.close()
    aside = left.folder.with_name(f"damaged-{left.folder.name}")
    assert [path for path in aside.iterdir() if not path.is_file()]


async def test_damage_is_counted_once(store: Store, state: Path) -> None:
    """A damaged file that is read again, as Redis forgot, is still one damaged file; its other records come again."""
    left = leave_killed(state, 300)
    assert left.folder is not None
    files = sorted(left.folder.glob("*.segment"))
    damage(files[1], HEADER_BYTES + SMALL_BYTES // 2)
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    store.client.flushall()
    await until(lambda: ends(store.url, left.source))
    await sender.close()
    assert sum(len(entry.events) for entry in entries(store.url, left.source)) == 299
    assert count(counters.journal_damaged) - damaged == 1


async def test_a_damaged_file_is_kept_when_its_events_are_stored(store: Store, state: Path) -> None:
    """Once all its events are stored, a damaged file goes aside, not away; the others go."""
    left = leave_killed(state, 300)
    assert left.folder is not None
    files = sorted(left.folder.glob("*.segment"))
    damage(files[0], HEADER_BYTES + SMALL_BYTES // 2)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    store.confirm(left.source, int(files[2].stem))
    await until(lambda: left.folder and not files[1].exists())
    assert files[0].with_suffix(".damaged").exists()
    assert not files[0].exists()
    await sender.close()
