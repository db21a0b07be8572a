"""A dead gateway's folder with an older copy beside it: every event is shipped once, and its end says what it used."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import Journal, Orphan, adopt_orphans, join_orphans
from shared import counters
from shared.stream import Partition
from tests.journal_site import SMALL_BYTES, add, damage, open_journal, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EARLY, EVENTS = 150, 300
P0 = Partition(0)
NAMES = pytest.mark.parametrize("prefix", ["!", "z"], ids=["copy first", "copy last"])


def leave_with_copy(state: Path, prefix: str) -> tuple[Journal, Path]:
    """The folder of a killed process, and beside it as it was at half time; folders are looked at by their names."""
    journal = open_journal(state)
    add(journal, EARLY)
    assert journal.folder is not None
    away = Path(shutil.copytree(journal.folder, state / "away"))
    add(journal, EVENTS - EARLY)
    journal.release()
    return journal, away.rename(journal.folder.with_name(f"{prefix}{journal.folder.name}"))


def both(state: Path) -> tuple[Orphan, Orphan]:
    one, other = adopt_orphans(str(state))
    return one, other


@NAMES
async def test_a_folder_and_an_older_copy(store: Store, state: Path, prefix: str) -> None:
    """All events come once with one end, which counts them all, and both folders go; nothing is said to be damaged."""
    left, copied = leave_with_copy(state, prefix)
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
    assert seqs(store.url, left.source) == list(range(EVENTS))
    assert_chain(entries(store.url, left.source))
    (end,) = ends(store.url, left.source)
    assert end.end is not None
    assert (end.end.events, end.end.killed) == (EVENTS, True)
    assert [line["event"] for line in logs if line["log_level"] in {"warning", "error"}] == ["boot_twice"]
    assert count(counters.journal_damaged) == damaged
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists() and not copied.exists())
    await until(lambda: not sender.adopted)
    await sender.close()
    assert list((state / "journal").iterdir()) == [sender.journal.folder]


@NAMES
async def test_a_copy_that_is_brought_back_later(store: Store, state: Path, prefix: str) -> None:
    """A copy found while its original is on its way joins it; and an original found after the copy as well."""
    left, copied = leave_with_copy(state, prefix)
    assert left.folder is not None
    first, second = (left.folder, copied) if prefix == "z" else (copied, left.folder)
    later = second.rename(state / "later")
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    later.rename(second)
    await until(lambda: sorted(set(seqs(store.url, left.source))) == list(range(EVENTS)) and sender.adopted == 1)
    await until(lambda: [found.end.events for found in ends(store.url, left.source) if found.end][-1] == EVENTS)
    assert seqs(store.url, left.source) == list(range(EVENTS))
    await until(lambda: sender.ship._adopted[left.source].said_end)
    store.confirm_end(left.source)
    await until(lambda: not first.exists() and not second.exists())
    await sender.close()


@NAMES
async def test_it_is_heard_before_either_is_shipped(store: Store, state: Path, prefix: str) -> None:
    """What is said of a dead gateway with two folders is what the later one knows: it is waited for all of it."""
    left, _ = leave_with_copy(state, prefix)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: store.client.hexists(P0.seen, str(left.source)))
    said = store.client.hget(P0.seen, str(left.source))
    assert isinstance(said, bytes)
    assert int(said.split(b":")[1]) == EVENTS
    await sender.die()


def test_each_has_what_the_other_lost(state: Path) -> None:
    """Records that are damaged in the folder come from its copy, and files that only the copy has come, too."""
    left, copied = leave_with_copy(state, "z")
    assert left.folder is not None
    first, second, third, *_ = sorted(left.folder.glob("*.segment"))
    damage(first, SMALL_BYTES // 2)
    damage(copied / first.name, SMALL_BYTES // 3)
    second.unlink()
    with capture_logs():
        orphan = join_orphans(*both(state))
    found = [seq for seq, _ in read_all(orphan.backlog)]
    assert found == [*range(EARLY), *range(int(third.stem), EVENTS)]
    assert not copied.exists()
    orphan.backlog.close()
    orphan.boot.close()


def test_no_lock_is_kept_when_the_disk_refuses(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders that cannot be made one are given up, and found again: then they are."""
    leave_with_copy(state, "z")
    found = both(state)

    def remove(_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as refused:
        refused.setattr("gateway.journal.boot.Boot.remove", remove)
        with capture_logs(), pytest.raises(OSError, match="Read-only"):
            join_orphans(*found)
    with capture_logs():
        orphan = join_orphans(*both(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(EVENTS))
    orphan.backlog.close()
    orphan.boot.close()


@pytest.mark.parametrize("moves", range(4))
def test_killed_while_files_are_moved(state: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """Whatever was moved or renamed before a kill, the next heir finds all events, each once."""
    left, copied = leave_with_copy(state, "z")
    assert left.folder is not None
    first = min(left.folder.glob("*.segment"))
    damage(first, SMALL_BYTES // 2)
    damage(copied / first.name, SMALL_BYTES // 3)
    real, done = Path.rename, 0

    def rename(path: Path, target: Path) -> Path:
        nonlocal done
        if done == moves:
            raise KeyboardInterrupt
        done += 1
        return real(path, target)

    found = both(state)
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", rename)
        with capture_logs(), pytest.raises(KeyboardInterrupt):
            join_orphans(*found)
    for orphan in found:
        orphan.boot.close()
    with capture_logs():
        one, *more = adopt_orphans(str(state))
        heir = join_orphans(one, *more) if more else one
    assert [seq for seq, _ in read_all(heir.backlog)] == list(range(EVENTS))
    heir.backlog.close()
    heir.boot.close()
