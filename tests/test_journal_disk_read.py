"""Disks that are slow, or have lost a part of a dead gateway's journal: what can be read is shipped, nobody waits."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.journal import adopt_orphans
from gateway.journal.segment import HEADER_BYTES
from shared import counters
from tests.journal_site import SMALL_BYTES, leave_killed, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EVENTS = 640
PAGE_BYTES = 4096


class BadDisk:
    """Reads fail that meet one of these places of a file, as where a sector is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, *bad: int, error: int = errno.EIO) -> None:
        self.asked = 0
        self._path, self._bad, self._error = path, bad, error
        self._preadv, self._pread = os.preadv, os.pread
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(os, "pread", self.pread)

    def preadv(self, descriptor: int, buffers: list[Any], offset: int) -> int:
        self._check(descriptor, offset, sum(map(len, buffers)))
        return self._preadv(descriptor, buffers, offset)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        self._check(descriptor, offset, size)
        return self._pread(descriptor, size, offset)

    def _check(self, descriptor: int, offset: int, size: int) -> None:
        self.asked += 1
        if Path(f"/proc/self/fd/{descriptor}").readlink() != self._path:
            return
        # The disk fails in whole pages.
        if any(place - place % PAGE_BYTES < offset + size and place >= offset for place in self._bad):
            raise OSError(self._error, os.strerror(self._error))


def files_in(folder: Path | None) -> list[Path]:
    assert folder is not None
    return sorted(folder.glob("*.segment"))


def first_of(path: Path) -> int:
    return int(path.stem)


async def test_nobody_waits_for_a_slow_disk(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes its time over a dead gateway's file, the living one serves, journals and ships."""
    asked, answers = threading.Event(), threading.Event()
    real = os.preadv

    def preadv(*arguments: Any) -> int:
        asked.set()
        assert answers.wait(30)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    left = leave_killed(state, EVENTS)
    sender = Sender(store.url, state)
    sender.start()
    try:
        await until(asked.is_set)
        sender.add(20)
        await until(lambda: seqs(store.url, sender.source) == list(range(20)))
        assert seqs(store.url, left.source) == []
    finally:
        answers.set()
    await until(lambda: ends(store.url, left.source))
    assert seqs(store.url, left.source) == list(range(EVENTS))
    await sender.die()


@pytest.mark.parametrize("place", [0, 1, -1], ids=["first", "second", "last"])
async def test_a_lost_page_costs_what_is_in_it(
    store: Store, state: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """A page that the disk has lost is counted and said; all behind it and all other dead gateways are shipped."""
    left, other = leave_killed(state, EVENTS), leave_killed(state, 50)
    path = files_in(left.folder)[place]
    BadDisk(monkeypatch, path, PAGE_BYTES + 100)
    damaged, faults = count(counters.journal_damaged), count(counters.journal_disk_faults, "OSError")
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source) and ends(store.url, other.source))
    arrived = entries(store.url, left.source)
    found = [item.seq for entry in arrived for item in entry.events]
    missing = set(range(EVENTS)) - set(found)
    assert found == sorted(found)
    assert_chain(arrived)
    assert 10 < len(missing) < 40
    assert max(missing) - min(missing) + 1 == len(missing)
    assert first_of(path) < min(missing)
    said = [line for line in logs if line["event"] == "segment_unreadable_in_part"]
    assert [(line["file"], line["position"], line["unreadable_bytes"]) for line in said] == [
        (path.name, PAGE_BYTES, PAGE_BYTES)
    ]
    assert count(counters.journal_damaged) - damaged == 1
    assert count(counters.journal_disk_faults, "OSError") > faults
    end = arrived[-1].end
    assert end is not None
    assert end.events == EVENTS
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.die()
    aside = state / "journal" / f"damaged-{left.source:016x}"
    assert (aside / f"{path.stem}.damaged").exists()


@pytest.mark.parametrize("bad", [[0], range(0, SMALL_BYTES, PAGE_BYTES)], ids=["header", "all"])
@pytest.mark.parametrize("place", [0, 1, -1], ids=["first", "second", "last"])
def test_a_file_that_is_lost(state: Path, monkeypatch: pytest.MonkeyPatch, bad: range, place: int) -> None:
    """A file without its header, or of which nothing can be read, is counted; the events of all others are there."""
    left = leave_killed(state, EVENTS)
    files = files_in(left.folder)
    path = files[place]
    following = [first_of(file) for file in files if file > path]
    BadDisk(monkeypatch, path, *bad)
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        (orphan,) = adopt_orphans(str(state))
        found = {seq for seq, _ in read_all(orphan.backlog)}
    missing = set(range(EVENTS)) - found
    assert missing <= set(range(first_of(path), min(following, default=EVENTS)))
    assert 0 < len(missing) < (EVENTS if len(bad) > 1 else 40)
    assert count(counters.journal_damaged) - damaged == 1
    assert "segment_unreadable_in_part" in {line["event"] for line in logs}
    orphan.backlog.close()
    orphan.boot.close()


def test_a_lost_disk_is_not_asked_for_every_page(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal may take seconds: of a large file that is lost as a whole, few pages are asked for one by one."""
    left = leave_killed(state, 5)
    (path,) = files_in(left.folder)
    os.truncate(path, 64 << 20)
    disk = BadDisk(monkeypatch, path, *range(PAGE_BYTES, 64 << 20, PAGE_BYTES))
    with capture_logs():
        (orphan,) = adopt_orphans(str(state))
    assert len(read_all(orphan.backlog)) == 5
    assert disk.asked < 1_000
    orphan.backlog.close()
    orphan.boot.close()


def test_other_refusals_are_no_damage(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that may answer later, as one over a network, has lost nothing: it is asked again."""
    left = leave_killed(state, EVENTS)
    damaged = count(counters.journal_damaged)
    with monkeypatch.context() as refused, capture_logs() as logs:
        BadDisk(refused, files_in(left.folder)[-1], HEADER_BYTES, error=errno.ETIMEDOUT)
        assert list(adopt_orphans(str(state))) == []
    assert [line["event"] for line in logs] == ["orphan_unreadable"]
    (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(EVENTS))
    assert count(counters.journal_damaged) == damaged
    orphan.backlog.close()
    orphan.boot.close()


async def test_memory_is_held_for_one_dead_gateway_at_a_time(store: Store, state: Path) -> None:
    """However many dead gateways there are, the file of one is in memory: between turns it is given back."""
    left = [leave_killed(state, EVENTS) for _ in range(5)]
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: all(ends(store.url, journal.source) for journal in left))
    await until(lambda: all(orphan.said_end for orphan in sender.ship._adopted.values()))
    held = [
        segment for orphan in sender.ship._adopted.values() for segment in orphan.backlog.segments if segment.loaded
    ]
    assert len(held) <= 1
    await sender.die()
