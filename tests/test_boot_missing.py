"""A gateway's folder whose `boot` is gone, or no file: its events are shipped, and no heir takes a living one's."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.journal import Journal, Orphan, adopt_orphans
from shared import counters
from tests.journal_site import SMALL_BYTES, leave_killed, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EVENTS = 300


def folder_of(journal: Journal) -> Path:
    assert journal.folder is not None
    return journal.folder


def age(folder: Path, seconds: int = 90) -> None:
    """Make it look as if nothing was done in a folder for so long."""
    os.utime(folder, (time.time() - seconds,) * 2)


def give_up(orphan: Orphan) -> None:
    orphan.backlog.close()
    orphan.boot.close()


def gone(boot: Path) -> None:
    boot.unlink()


def a_folder(boot: Path) -> None:
    boot.rename(boot.with_suffix(".old"))
    boot.mkdir()
    (boot / "more").write_text("of a person")


def a_dead_link(boot: Path) -> None:
    boot.unlink()
    boot.symlink_to("/nowhere/boot")


def a_pipe(boot: Path) -> None:
    boot.unlink()
    os.mkfifo(boot)


@pytest.mark.parametrize("spoil", [gone, a_folder, a_dead_link, a_pipe])
async def test_every_event_is_shipped(store: Store, state: Path, spoil: Callable[[Path], None]) -> None:
    """A dead gateway without a file `boot` is shipped with an end; that is said and counted, and its folder goes."""
    left = leave_killed(state, EVENTS)
    spoil(folder_of(left) / "boot")
    age(folder_of(left))
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(EVENTS))
    assert_chain(arrived)
    said = [line["event"] for line in logs if line["log_level"] == "error"]
    assert "boot_damaged" in said
    assert count(counters.journal_damaged) - damaged == len(said)
    await until(lambda: sender.ship._adopted[left.source].said_end)
    store.confirm_end(left.source)
    await until(lambda: not folder_of(left).exists())
    await sender.close()


def test_a_young_folder_is_left_alone(state: Path) -> None:
    """A folder without a file `boot` may be one that is being made: within a minute nobody touches it."""
    left = leave_killed(state, 5)
    (folder_of(left) / "boot").unlink()
    age(folder_of(left), 30)
    names = sorted(path.name for path in folder_of(left).iterdir())
    assert list(adopt_orphans(str(state))) == []
    assert sorted(path.name for path in folder_of(left).iterdir()) == names
    age(folder_of(left))
    with capture_logs():
        (orphan,) = adopt_orphans(str(state))
    assert len(read_all(orphan.backlog)) == 5
    give_up(orphan)


def test_one_that_nothing_says_anything_of_is_set_aside(state: Path) -> None:
    """A folder without a file `boot` whose name and files say no source is kept aside, counted and logged."""
    strange = state / "journal" / "brought-by-a-person"
    strange.mkdir(parents=True)
    (strange / "notes").write_text("of a person")
    age(strange)
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        assert list(adopt_orphans(str(state), None, 1)) == []
    assert [(line["event"], line["folder"]) for line in logs] == [("boot_unreadable", strange.name)]
    assert count(counters.journal_damaged) - damaged == 1
    assert (strange.with_name(f"damaged-{strange.name}") / "notes").exists()


def test_one_that_the_disk_has_lost(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file `boot` that cannot be read is kept aside, and the folder goes on as one without it."""
    left = leave_killed(state, EVENTS)
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == folder_of(left) / "boot":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, size, offset)

    faults = count(counters.journal_disk_faults, "OSError")
    with monkeypatch.context() as lost, capture_logs() as logs:
        lost.setattr(os, "pread", pread)
        assert list(adopt_orphans(str(state))) == []
    assert [line["event"] for line in logs] == ["orphan_unreadable"]
    assert count(counters.journal_disk_faults, "OSError") - faults == 1
    age(folder_of(left))
    with capture_logs():
        (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(EVENTS))
    assert (folder_of(left) / "boot.damaged").exists()
    give_up(orphan)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.journal.journal._IN_PLACE_S", 0.01)
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.005)


@pytest.mark.usefixtures("quick_looks")
async def test_the_living_make_it_again(store: Store, state: Path) -> None:
    """A living gateway whose file `boot` is deleted says so and makes it again; its heir finds all that it noted."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.journal.start()
    sender.journal.begin()
    sender.add(50)
    folder = folder_of(sender.journal)
    with capture_logs() as logs:
        (folder / "boot").unlink()
        await until(lambda: (folder / "boot").exists() and any(line["event"] == "journal_boot_gone" for line in logs))
    for _ in range(EVENTS):
        sender.journal.begin()
    sender.add(EVENTS - 50)
    age(folder)
    assert list(adopt_orphans(str(state))) == [], "who lives is not adopted"
    assert sender.journal.condition == "disk"
    assert not sender.journal.uprooted
    await sender.die()
    (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(EVENTS))
    assert (orphan.boot.file.used, orphan.boot.file.begun, orphan.boot.rebuilt) == (EVENTS, EVENTS + 1, False)
    assert {path.name.partition("-")[0] for path in folder.iterdir() if path.suffix != ".segment"} <= {"boot", "spare"}
    give_up(orphan)


@pytest.mark.usefixtures("quick_looks")
async def test_a_disk_that_refuses_it(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be made again the living one goes on elsewhere, and no event that it has is given up."""

    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    sender.add(50)
    await sender.all_shipped()
    monkeypatch.setattr(os, "link", link)
    with capture_logs():
        (folder_of(sender.journal) / "boot").unlink()
        await until(lambda: sender.journal.uprooted)
        sender.add(EVENTS)
        await until(lambda: seqs(store.url, sender.source) == list(range(50 + EVENTS)))
    await sender.close()
