"""A dead gateway whose file `boot` says nothing any more: its events are shipped, under its own name as a source."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import Journal, Orphan, adopt_orphans
from gateway.journal.boot_file import BootRecord
from gateway.journal.rebuilt import UNKNOWN
from gateway.journal.segment import HEADER_BYTES
from shared import counters
from shared.stream import FRAME_VERSION
from tests.ingestor_process import TS_MS
from tests.journal_site import add, damage, leave_killed, open_journal, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EVENTS = 300
STREAM_AT = 28
"""Where the header of a segment says in how many partitions the stream is cut."""


def zeros(boot: Path) -> None:
    boot.write_bytes(bytes(4096))


def short(boot: Path) -> None:
    os.truncate(boot, 100)


def empty(boot: Path) -> None:
    os.truncate(boot, 0)


def both_records(boot: Path) -> None:
    damage(boot, 12, 2060)


def another_number(boot: Path) -> None:
    boot.write_bytes(boot.read_bytes().replace(b'"partitions":1', b'"partitions":2'))


def folder_of(journal: Journal) -> Path:
    assert journal.folder is not None
    return journal.folder


def adopted(state: Path, partitions: int | None = None) -> Orphan:
    with capture_logs():
        (orphan,) = adopt_orphans(str(state), None, partitions)
    return orphan


def give_up(orphan: Orphan) -> None:
    orphan.backlog.close()
    orphan.boot.close()


@pytest.mark.parametrize("spoil", [zeros, short, empty, both_records, another_number])
async def test_every_event_is_shipped(store: Store, state: Path, spoil: Callable[[Path], None]) -> None:
    """Whatever became of the file, every event comes, with an end that says killed; what still has a check counts."""
    left = leave_killed(state, EVENTS, begun=EVENTS + 2)
    boot = folder_of(left) / "boot"
    spoil(boot)
    counts = spoil in {both_records, another_number}
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
        await until(lambda: sender.ship._adopted[left.source].said_end)
    await sender.die()
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(EVENTS))
    assert_chain(arrived)
    end = arrived[-1].end
    assert end is not None
    assert (end.gateway, end.started_ms, end.events, end.killed) == (UNKNOWN, TS_MS, EVENTS, True)
    assert end.unfinished == (2 if counts else 0)
    said = [(line["event"], line["unfinished_known"]) for line in logs if line["log_level"] == "error"]
    assert said == [("boot_damaged", counts)]
    assert count(counters.journal_damaged) - damaged == 1


async def test_an_orderly_end_is_still_one(store: Store, state: Path) -> None:
    """A process whose end can be read ended in order, although nothing says its name any more."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(5)
    await sender.all_shipped()
    both_records(folder_of(sender.journal) / "boot")
    await sender.close()
    heir = Sender(store.url, state)
    heir.start()
    store.confirm_end(sender.source)
    await until(lambda: not folder_of(sender.journal).exists())
    await heir.close()
    assert [entry.end.killed for entry in ends(store.url, sender.source) if entry.end] == []
    assert seqs(store.url, sender.source) == list(range(5))


def test_it_stays_in_its_partition(state: Path) -> None:
    """Its files say in how many partitions the stream was cut when it began, whatever the setting is now."""
    left = open_journal(state, partitions=7)
    add(left, EVENTS)
    left.release()
    zeros(folder_of(left) / "boot")
    give_up(orphan := adopted(state, 3))
    assert orphan.boot.record == BootRecord(left.source, UNKNOWN, 7, TS_MS)


@pytest.mark.parametrize("place", range(4))
def test_files_that_do_not_say_their_partitions(state: Path, place: int) -> None:
    """Files of a release before, or damaged there, leave the present setting, for good: an heir's heir keeps to it."""
    left = leave_killed(state, 5)
    zeros(folder_of(left) / "boot")
    (path,) = folder_of(left).glob("*.segment")
    damage(path, STREAM_AT + place, value=0x10)
    for partitions in (3, 8):
        give_up(orphan := adopted(state, partitions))
        assert orphan.boot.record == BootRecord(left.source, UNKNOWN, 3, TS_MS)


def test_a_renamed_folder(state: Path) -> None:
    """What its files say counts, when their folder has the name of no source."""
    left = leave_killed(state, EVENTS)
    zeros(folder_of(left) / "boot")
    folder_of(left).rename(state / "journal" / "brought-back")
    orphan = adopted(state)
    assert orphan.backlog.source == left.source
    assert len(read_all(orphan.backlog)) == EVENTS
    give_up(orphan)


def test_damaged_headers_leave_the_folder_s_name(state: Path) -> None:
    """Without a header to be read the name of the folder says the source."""
    left = leave_killed(state, EVENTS)
    zeros(folder_of(left) / "boot")
    for path in folder_of(left).glob("*.segment"):
        path.write_bytes(bytes(HEADER_BYTES) + path.read_bytes()[HEADER_BYTES:])
    orphan = adopted(state, 1)
    assert orphan.backlog.source == left.source
    assert len(read_all(orphan.backlog)) == EVENTS
    give_up(orphan)


def test_events_of_a_newer_release_wait_for_it(state: Path) -> None:
    """A lost file `boot` does not make a newer release's events ours: their files say what they are."""
    left = leave_killed(state, 5)
    zeros(folder_of(left) / "boot")
    (path,) = folder_of(left).glob("*.segment")
    # The version, and the check of it.
    damage(path, STREAM_AT + 2, STREAM_AT + 3, value=FRAME_VERSION ^ (FRAME_VERSION + 1))
    with capture_logs() as logs:
        assert list(adopt_orphans(str(state), None, 1)) == []
    assert [line["event"] for line in logs] == ["boot_of_newer_release"]
    assert folder_of(left).exists()


class Synced:
    """What the disk was asked to write, by the names that it had then, and from which thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.threads: set[threading.Thread] = set()
        for call in ("fsync", "fdatasync"):
            self._watch(monkeypatch, call)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
        real: Callable[[int], None] = getattr(os, call)

        def sync(descriptor: int) -> None:
            real(descriptor)
            self.names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            self.threads.add(threading.current_thread())

        monkeypatch.setattr(os, call, sync)


def test_a_power_cut_leaves_the_folder_of_a_new_boot(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a gateway counts on its folder, the disk has the file, its name, and the names of the folders above."""
    synced = Synced(monkeypatch)
    journal = open_journal(state)
    assert synced.names == ["boot", f"{journal.source:016x}.new", "journal", state.name]
    journal.release()


async def test_a_disk_that_refuses_names_is_no_reason_to_stop(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems on which a folder cannot be synced hold a journal all the same."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal = open_journal(state)
    add(journal, 5)
    journal.release()
    orphan = adopted(state)
    assert len(read_all(orphan.backlog)) == 5
    give_up(orphan)


async def test_events_are_synced_across_files(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last events of a file that is full are synced as well, and the names of new files, and the file `boot`.

    No request waits for that: it is done in threads.
    """
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.001)
    journal = open_journal(state, sync_interval_ms=1)
    synced = Synced(monkeypatch)
    journal.start()
    await until(lambda: journal._spare)
    add(journal, EVENTS)
    names = {path.name for path in folder_of(journal).glob("*.segment")}
    assert len(names) >= 3
    await until(lambda: names <= set(synced.names))
    await until(lambda: {"boot", folder_of(journal).name} <= set(synced.names))
    assert threading.main_thread() not in synced.threads
    assert journal.condition == "disk"
    await journal.close()
    journal.backlog.close()
    journal.release()


def test_a_copy_of_a_folder_with_an_older_name(state: Path) -> None:
    """A folder whose files say another source than its name is that other source's."""
    left = leave_killed(state, 5)
    copied = state / "journal" / f"{left.source ^ 1:016x}"
    shutil.copytree(folder_of(left), copied)
    shutil.rmtree(folder_of(left))
    zeros(copied / "boot")
    orphan = adopted(state)
    assert orphan.backlog.source == left.source
    assert len(read_all(orphan.backlog)) == 5
    give_up(orphan)
