"""What the file `boot` of a dead gateway says: a number that was used is a row or a gap, and damage is no number."""

import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.journal import Orphan, SaidEnd, adopt_orphans
from gateway.journal.boot_file import BootRecord
from gateway.journal.segment import HEADER_BYTES
from shared import counters
from shared.stream import BootEnd
from tests.journal_site import INSTANCE, SMALL_BYTES, Disk, add, damage, leave_killed, open_journal
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EVENTS = 60
COUNTS_AT = 1024
USED_BYTES = 3072
"""Behind that the file is empty."""


async def end_of(store: Store, state: Path, source: int) -> BootEnd:
    """What the next gateway says of a dead one's end."""
    heir = Sender(store.url, state)
    heir.start()
    # It has noted that it said so: one that is cut off before says it again, and waits for an ingestor once more.
    await until(lambda: any(orphan.said_end for orphan in heir.ship._adopted.values()))
    await heir.close()
    end = ends(store.url, source)[-1].end
    assert end is not None
    return end


def adopted(state: Path) -> Orphan:
    (orphan,) = adopt_orphans(str(state))
    return orphan


def file_of(state: Path) -> Path:
    (path,) = (state / "journal").glob("*/boot")
    return path


def test_a_changed_byte_is_noticed_or_means_nothing(state: Path) -> None:
    """Any byte of the file changed: every event is found, and each number is what it was, or not there."""
    left = leave_killed(state, EVENTS, begun=EVENTS + 2)
    path = file_of(state)
    whole = path.read_bytes()
    for place in [*range(200), *range(COUNTS_AT, COUNTS_AT + 128), *range(2048, 2248)]:
        for value in (0x01, 0x80):
            content = bytearray(whole)
            content[place] ^= value
            path.write_bytes(content)
            with capture_logs():
                orphan = adopted(state)
            file = orphan.boot.file
            assert orphan.boot.record == BootRecord(left.source, INSTANCE, 1, left.started_ms), place
            assert orphan.backlog.next_seq == EVENTS
            assert file.begun in {EVENTS + 2, None}, place
            assert file.used in {EVENTS, None}, place
            assert file.ended_at_seq is None, place
            assert orphan.killed
            orphan.backlog.close()
            orphan.boot.close()
    path.write_bytes(whole)


def test_a_changed_byte_of_an_orderly_end(state: Path) -> None:
    """The end that a process noted is what it was, or the process counts as killed, which is said."""
    journal = leave_killed(state, EVENTS)
    path = file_of(state)
    orphan = adopted(state)
    orphan.boot.file.note_end(EVENTS, 12_345)
    orphan.backlog.close()
    orphan.boot.close()
    whole = path.read_bytes()
    for place in range(COUNTS_AT, COUNTS_AT + 128):
        content = bytearray(whole)
        content[place] ^= 0x40
        path.write_bytes(content)
        with capture_logs():
            orphan = adopted(state)
        file = orphan.boot.file
        assert (file.ended_at_seq, file.ended_ms) in {(EVENTS, 12_345), (None, 0)}
        assert file.ended_at_seq is not None or file.damaged, place
        orphan.backlog.close()
        orphan.boot.close()
    assert journal.next_seq == EVENTS


def test_a_changed_byte_of_an_end_that_was_said(state: Path) -> None:
    """An end record that somebody noted is what it was, or is said again; one that was noted without a check counts."""
    leave_killed(state, EVENTS)
    path = file_of(state)
    said = SaidEnd(EVENTS, "1795000000000-7")
    orphan = adopted(state)
    orphan.boot.file.said_end = said
    orphan.backlog.close()
    orphan.boot.close()
    whole = path.read_bytes()
    for place in range(COUNTS_AT + 24, COUNTS_AT + 48):
        content = bytearray(whole)
        content[place] ^= 0x40
        path.write_bytes(content)
        assert said_end_in(state) is None, place
    content = bytearray(whole)
    content[COUNTS_AT + 84 : COUNTS_AT + 88] = bytes(4)
    path.write_bytes(content)
    assert said_end_in(state) == said


def said_end_in(state: Path) -> SaidEnd | None:
    orphan = adopted(state)
    said = orphan.boot.file.said_end
    orphan.backlog.close()
    orphan.boot.close()
    return said


@pytest.mark.parametrize("sector", range(8))
async def test_a_zeroed_sector_is_damage(store: Store, state: Path, sector: int) -> None:
    """A sector of zeros is no file of an older release: what can be read counts, and what cannot is said."""
    left = leave_killed(state, EVENTS, begun=EVENTS + 2)
    path = file_of(state)
    content = bytearray(path.read_bytes())
    held = content[512 * sector : 512 * (sector + 1)]
    content[512 * sector : 512 * (sector + 1)] = bytes(512)
    path.write_bytes(content)
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        end = await end_of(store, state, left.source)
    counts = sector == COUNTS_AT // 512
    assert (end.gateway, end.events, end.killed) == (INSTANCE, EVENTS, True)
    assert end.unfinished == (0 if counts else 2)
    said = [(line["event"], line["unfinished_known"]) for line in logs if line["log_level"] == "error"]
    assert said == ([("boot_damaged", not counts)] if any(held) else [])
    assert count(counters.journal_damaged) - damaged == any(held)


async def test_a_damaged_record_is_read_from_its_copy(store: Store, state: Path) -> None:
    """The place where a boot says who it is damaged: its events are shipped, and the damage is counted and said."""
    left = leave_killed(state, EVENTS, begun=EVENTS + 1)
    path = file_of(state)
    content = bytearray(path.read_bytes())
    content[:COUNTS_AT] = bytes(COUNTS_AT)
    path.write_bytes(content)
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        end = await end_of(store, state, left.source)
    assert (end.gateway, end.events, end.unfinished, end.killed) == (INSTANCE, EVENTS, 1, True)
    assert sum(len(entry.events) for entry in entries(store.url, left.source)) == EVENTS
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["boot_damaged"]
    assert count(counters.journal_damaged) - damaged == 1


@pytest.mark.parametrize("killed", [False, True])
async def test_a_folder_of_before_there_were_checks(store: Store, state: Path, killed: bool) -> None:
    """What a release left that wrote its record once and bare counts is read as it was meant."""
    left = leave_killed(state, EVENTS)
    path = file_of(state)
    record = BootRecord(left.source, INSTANCE, 1, left.started_ms)
    content = bytearray(4096)
    whole = path.read_bytes()
    content[:COUNTS_AT] = whole[:COUNTS_AT]
    struct.pack_into("<Q", content, COUNTS_AT, EVENTS + 3)
    if not killed:
        struct.pack_into("<QQ", content, COUNTS_AT + 8, EVENTS + 1, 12_345)
    path.write_bytes(content)
    with capture_logs() as logs:
        end = await end_of(store, state, left.source)
    assert (end.gateway, end.started_ms, end.events) == (INSTANCE, left.started_ms, EVENTS)
    assert (end.unfinished, end.killed) == ((3, True) if killed else (0, False))
    assert killed or end.ended_ms == 12_345
    assert msgspec.json.decode(whole[8 : 8 + struct.unpack_from("<I", whole)[0]], type=BootRecord) == record
    assert [line for line in logs if line["log_level"] == "error"] == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + SMALL_BYTES // 4])


def zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + SMALL_BYTES // 4 :] = bytes(len(content) - HEADER_BYTES - SMALL_BYTES // 4)
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [truncated, zeroed])
async def test_a_tail_that_is_gone_is_a_gap(store: Store, state: Path, spoil: Callable[[Path], None]) -> None:
    """The end of the last file of a killed gateway gone: its numbers are lost ones, not requests that never ended."""
    left = leave_killed(state, EVENTS, begun=EVENTS + 1)
    assert left.folder is not None
    (path,) = left.folder.glob("*.segment")
    spoil(path)
    end = await end_of(store, state, left.source)
    found = [item.seq for entry in entries(store.url, left.source) for item in entry.events]
    assert found == list(range(len(found)))
    assert 0 < len(found) < EVENTS
    assert (end.events, end.unfinished, end.killed) == (EVENTS, 1, True)


async def test_a_damaged_header_costs_nothing(store: Store, state: Path) -> None:
    """What the header of a file said, its name says too: every event is shipped, the damage said, the file kept."""
    left = leave_killed(state, 4 * EVENTS)
    assert left.folder is not None
    path = sorted(left.folder.glob("*.segment"))[1]
    damage(path, 9, value=0x10)
    damaged = count(counters.journal_damaged)
    end = await end_of(store, state, left.source)
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(4 * EVENTS))
    assert_chain(arrived)
    assert end.events == 4 * EVENTS
    assert count(counters.journal_damaged) - damaged == 1
    heir = Sender(store.url, state)
    heir.start()
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await heir.close()


async def test_dropped_events_of_a_killed_gateway(store: Store, state: Path) -> None:
    """What found no room in the journal is a gap of a gateway that was killed, too."""
    journal = open_journal(state, capacity_bytes=2 * SMALL_BYTES)
    with capture_logs():
        for _ in range(EVENTS * 10):
            journal.begin()
            add(journal, 1)
    journal.skip()
    kept = journal.backlog.next_seq
    journal.release()
    end = await end_of(store, state, journal.source)
    assert kept < EVENTS * 10
    assert (end.events, end.unfinished, end.killed) == (EVENTS * 10 + 1, 0, True)


async def test_events_in_memory_of_a_killed_gateway(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that a full disk did not take are a gap when their gateway is killed."""
    disk = Disk(monkeypatch)
    journal = open_journal(state)
    disk.full = True
    with capture_logs():
        add(journal, EVENTS * 10)
    assert journal.kept == "memory"
    on_disk = sum(segment.next_seq - segment.first_seq for segment in journal.backlog.segments if segment.path)
    journal.release()
    end = await end_of(store, state, journal.source)
    assert sum(len(entry.events) for entry in entries(store.url, journal.source)) == on_disk < EVENTS * 10
    assert (end.events, end.killed) == (EVENTS * 10, True)
