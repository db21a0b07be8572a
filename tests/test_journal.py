"""The side of a journal that writes: what was taken is in its files, or counted as lost; it never waits or raises."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import Journal, remove_segments
from gateway.journal.records import RECORD_OVERHEAD_BYTES
from gateway.journal.segment import HEADER_BYTES, Segment, allocate
from shared import counters
from tests.journal_site import SMALL_BYTES, Disk, add, open_journal, read_all
from tests.shipper_site import count, until

PAGE_BYTES = 4096


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def numbers(journal: Journal) -> list[int]:
    return [seq for seq, _ in read_all(journal.backlog)]


def end(journal: Journal) -> None:
    """Unmap and unlock what a test leaves."""
    journal.backlog.close()
    remove_segments(list(journal.backlog.segments))
    journal.release()


def kinds(journal: Journal) -> list[str]:
    return ["memory" if segment.path is None else "disk" for segment in journal.backlog.segments]


def test_a_journal_grows_over_many_files(tmp_path: Path) -> None:
    """Events of many files are read back in order and unchanged; each file is named after its first event."""
    journal = open_journal(tmp_path)
    bodies = [b"%d " % seq * (1 + seq % 50) for seq in range(3_000)]
    for body in bodies:
        journal.append(body)
    assert read_all(journal.backlog) == list(enumerate(bodies))
    assert journal.folder is not None
    starts = sorted(int(path.stem) for path in journal.folder.glob("*.segment"))
    assert starts == [segment.first_seq for segment in journal.backlog.segments]
    assert len(starts) > 20
    assert journal.kept == "disk"
    end(journal)


async def test_files_are_made_ahead_of_time(tmp_path: Path) -> None:
    """A running journal has the next file ready before it is needed: nothing waits for the disk."""
    journal = open_journal(tmp_path)
    journal.start()
    waited = count(counters.journal_waits)
    for _ in range(8):
        await until(lambda: journal._spare)
        add(journal, 60)
    assert len(journal.backlog.segments) >= 4
    assert count(counters.journal_waits) == waited
    await journal.close()
    assert journal.folder is not None
    assert {path.name for path in journal.folder.iterdir() if path.suffix != ".segment"} == {"boot"}
    end(journal)


async def test_a_disk_that_refuses_is_replaced_by_memory(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full events go to memory, which is said once and counted; once it has room, to disk again."""
    monkeypatch.setattr("gateway.journal.journal._RETRY_S", 0.0)
    refused = count(counters.journal_disk_faults, "OSError")
    with capture_logs() as logs:
        journal = open_journal(tmp_path)
        disk.full = True
        add(journal, 300)
        assert journal.disk_failing
        assert journal.kept == "memory"
        journal.start()
        await until(lambda: count(counters.journal_disk_faults, "OSError") >= refused + 3)
        disk.full = False
        await until(lambda: not journal.disk_failing)
        add(journal, 300)
        assert journal.kept == "disk"
    assert numbers(journal) == list(range(600))
    found = kinds(journal)
    assert found == ["disk"] + ["memory"] * found.count("memory") + ["disk"] * (found.count("disk") - 1)
    assert [line["event"] for line in logs] == ["journal_disk_refused", "journal_disk_available"]
    await journal.close()
    end(journal)


def test_memory_in_place_of_the_disk_is_bounded(tmp_path: Path, disk: Disk) -> None:
    """A disk that stays full costs no more than 16 segments of memory; then the newest events are dropped, counted."""
    journal = open_journal(tmp_path)
    disk.full = True
    dropped = count(counters.events_dropped, "journal_full")
    for _ in range(400):
        journal.append(bytes(1_000))
    kept = 17 * ((SMALL_BYTES - HEADER_BYTES) // (1_000 + RECORD_OVERHEAD_BYTES))
    assert kinds(journal) == ["disk"] + ["memory"] * 16
    assert count(counters.events_dropped, "journal_full") - dropped == 400 - kept
    assert numbers(journal) == list(range(kept))
    end(journal)


def test_append_never_raises(tmp_path: Path) -> None:
    """Whatever happens to the disk, an event that finds no place costs itself alone, and is counted."""
    journal = open_journal(tmp_path, segment_bytes=PAGE_BYTES)
    dropped = count(counters.events_dropped, "journal_full")
    journal.append(bytes(2 * PAGE_BYTES))
    assert count(counters.events_dropped, "journal_full") - dropped == 1, "larger than a file"
    journal.append(b"a")
    assert journal.folder is not None
    shutil.rmtree(journal.folder)
    for _ in range(20):
        journal.append(bytes(1_000))
    assert journal.disk_failing
    assert count(counters.events_dropped, "journal_full") - dropped == 1
    assert journal.next_seq == 22
    assert journal.kept == "memory"
    journal.backlog.close()
    journal.release()


def test_a_file_that_cannot_be_mapped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a new file cannot be mapped its events go to memory, and no file without a header is left behind."""

    def refuse(_: Path) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    journal = open_journal(tmp_path)
    with monkeypatch.context() as without_descriptors:
        without_descriptors.setattr("gateway.journal.segment._map", refuse)
        add(journal, 120)
    assert numbers(journal) == list(range(120))
    assert journal.folder is not None
    files = sorted(path.name for path in journal.folder.glob("*.segment"))
    end(journal)
    assert files == [f"{0:020d}.segment"]


async def test_the_disk_is_asked_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an interval the current file is synced when something was appended, and else left alone; with 0 never."""
    synced: list[tuple[str, int]] = []
    real = Segment.sync

    def sync(segment: Segment) -> None:
        real(segment)
        assert threading.current_thread() is not threading.main_thread()
        synced.append((str(segment.path), segment.next_seq))

    monkeypatch.setattr(Segment, "sync", sync)
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.001)
    never = open_journal(tmp_path / "never", sync_interval_ms=0)
    often = open_journal(tmp_path / "often", sync_interval_ms=1)
    for journal in (never, often):
        journal.start()
    add(never, 1)
    add(often, 1)
    await until(lambda: len(synced) == 1)
    add(often, 1)
    await until(lambda: len(synced) == 2)
    assert synced == [(str(often._current.path), 1), (str(often._current.path), 2)]
    for journal in (never, often):
        await journal.close()
        end(journal)


async def test_a_sync_that_failed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refused to sync once and then did is not said to fail: events were on it all the time."""
    synced: list[int] = []

    def sync(segment: Segment) -> None:
        synced.append(segment.next_seq)
        if len(synced) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Segment, "sync", sync)
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.001)
    monkeypatch.setattr("gateway.journal.journal._RETRY_S", 0.001)
    journal = open_journal(tmp_path, sync_interval_ms=1)
    journal.start()
    add(journal, 1)
    await until(lambda: synced == [1])
    add(journal, 1)
    await until(lambda: synced == [1, 2])
    kept, failing = journal.kept, journal.disk_failing
    await journal.close()
    end(journal)
    assert (kept, failing) == ("disk", False)


async def test_a_defect_does_not_end_the_tending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw while files are made ahead of time is counted and said, and tried again."""
    real, calls = Journal._get_ready, 0

    def get_ready(journal: Journal, root: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("nobody foresaw this")
        real(journal, root)

    monkeypatch.setattr(Journal, "_get_ready", get_ready)
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.001)
    monkeypatch.setattr("gateway.journal.journal._RETRY_S", 0.001)
    journal = open_journal(tmp_path)
    before = count(counters.handler_faults)
    with capture_logs() as logs:
        journal.start()
        await until(lambda: journal._spare is not None)
    await journal.close()
    end(journal)
    assert count(counters.handler_faults) - before == 1
    assert [line["error"] for line in logs if line["event"] == "defect"] == ["ValueError"]


class Slow:
    """A disk on which the file that is made ahead of time takes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr("gateway.journal.journal.allocate", self.allocate)

    def allocate(self, path: Path, size_bytes: int) -> None:
        if threading.current_thread() is threading.main_thread():
            allocate(path, size_bytes)
            return
        with path.open("xb", buffering=0) as made:
            made.write(bytes(size_bytes // 2))
            self.begun.set()
            assert self.go_on.wait(10)
            made.write(bytes(size_bytes - size_bytes // 2))


async def test_a_slow_disk_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that needs a file while the next one is still being made gets a whole one, and so do those after it."""
    slow = Slow(monkeypatch)
    journal = open_journal(tmp_path)
    refused = count(counters.journal_disk_faults, "FileNotFoundError")
    try:
        journal.start()
        await until(slow.begun.is_set)
        add(journal, 120)
        slow.go_on.set()
        await until(lambda: journal._spare)
        for _ in range(3):
            add(journal, 120)
        assert (journal.disk_failing, journal.kept) == (False, "disk")
        assert count(counters.journal_disk_faults, "FileNotFoundError") == refused
        assert numbers(journal) == list(range(480))
    finally:
        slow.go_on.set()
        await journal.close()
        end(journal)
