"""A state directory that somebody copies or deletes while its gateway runs: noticed, said, and no event is given up."""

import asyncio
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import adopt_orphans
from shared import counters
from shared.stream import Partition
from tests.journal_site import SMALL_BYTES, add, leave_killed, open_journal, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

P0 = Partition(0)
GONE = ("gone",)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, quick_shipper: None) -> None:
    """Look often at everything."""
    monkeypatch.setattr("gateway.journal.journal._IN_PLACE_S", 0.01)
    monkeypatch.setattr("gateway.journal.journal._TEND_S", 0.005)


async def test_who_lives_says_that_it_was_declared_dead(store: Store, state: Path) -> None:
    """A living boot that counts as ended says so once, and goes on shipping, confirming and freeing its files."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    with capture_logs() as logs:
        sender.start()
        sender.add(10)
        await sender.all_shipped()
        assert not sender.ship.ended_elsewhere
        store.confirm_end(sender.source)
        await until(lambda: sender.ship.ended_elsewhere)
        sender.add(500)
        await until(lambda: set(seqs(store.url, sender.source)) == set(range(510)))
        store.confirm(sender.source, 510)
        await until(lambda: len(sender.journal.backlog.segments) == 1)
        await until(lambda: sender.ship.unconfirmed_events == 0)
    said = [line for line in logs if line["log_level"] == "error"]
    assert [line["event"] for line in said] == ["boot_ended_elsewhere"]
    assert "LECTR_STATE_DIR" in said[0]["fix"]
    assert counters.boot_ended_elsewhere._value.get() == 1
    await sender.close()
    end = ends(store.url, sender.source)[-1].end
    assert end is not None
    assert (end.events, end.killed) == (510, False)


async def test_an_ended_boot_with_events_is_shipped(store: Store, state: Path) -> None:
    """A journal whose boot counts as ended, by the word of somebody else, is shipped before it goes, with an end."""
    left = leave_killed(state, 67)
    store.confirm_end(left.source)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    assert seqs(store.url, left.source) == list(range(67))
    assert left.folder is not None
    assert left.folder.exists()
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.close()


async def test_a_copy_ends_before_its_original(store: Store, tmp_path: Path, state: Path) -> None:
    """A copied journal is finished by its adopter; what the original gets afterwards is shipped by its own heir."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(40)
    await sender.all_shipped()
    copied = tmp_path / "copied"
    shutil.copytree(state, copied)
    adopter = Sender(store.url, copied)
    adopter.start()
    await until(lambda: ends(store.url, sender.source))
    sender.add(30)
    await sender.all_shipped()
    store.confirm_end(sender.source)
    await until(lambda: adopter.adopted == 0)
    await until(lambda: sender.ship.ended_elsewhere)
    await sender.die()
    heir = Sender(store.url, state)
    heir.start()
    await until(lambda: heir.adopted == 1 and ends(store.url, sender.source))
    store.confirm_end(sender.source)
    await until(lambda: heir.adopted == 0)
    for left in (heir, adopter):
        await left.close()
    assert set(seqs(store.url, sender.source)) == set(range(70))


async def test_an_early_end_is_not_the_last_word(store: Store, tmp_path: Path, state: Path) -> None:
    """While a copy's end record waits to be stored and the original goes on, another one follows its last frame."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(40)
    await sender.all_shipped()
    copied = tmp_path / "copied"
    shutil.copytree(state, copied)
    adopter = Sender(store.url, copied)
    adopter.start()
    await until(lambda: ends(store.url, sender.source))
    sender.add(30)
    await sender.all_shipped()
    await sender.close()
    said = [entry.end.events for entry in ends(store.url, sender.source) if entry.end]
    await adopter.close()
    assert said == [40, 70]
    assert_chain(entries(store.url, sender.source))


async def test_an_end_that_redis_forgot_is_not_a_copy_s_end(store: Store, tmp_path: Path, state: Path) -> None:
    """A Redis put back to when a copy's end had just been stored has not heard of the original's: its events come."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(40)
    await sender.all_shipped()
    shutil.copytree(state, tmp_path / "copied")
    adopter = Sender(store.url, tmp_path / "copied")
    adopter.start()
    await until(lambda: ends(store.url, sender.source))
    store.confirm_end(sender.source)
    await until(lambda: adopter.adopted == 0)
    await adopter.die()
    await asyncio.to_thread(store.save)
    sender.add(30)
    await sender.all_shipped()
    await sender.close()
    assert len(ends(store.url, sender.source)) == 1
    await asyncio.to_thread(store.restore)
    heir = Sender(store.url, state)
    heir.start()
    await until(lambda: ends(store.url, sender.source))
    assert set(range(40, 70)) <= set(seqs(store.url, sender.source))
    assert sender.journal.folder is not None
    assert sender.journal.folder.exists()
    store.confirm_end(sender.source)
    await until(lambda: heir.adopted == 0)
    assert not sender.journal.folder.exists()
    await heir.close()


async def test_an_end_that_an_older_release_said(store: Store, state: Path) -> None:
    """Where Redis does not say which end it had, as a release before left it, all comes once more, and then it goes."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(20)
    await sender.close()
    store.confirm_end(sender.source)
    store.client.delete(P0.said(sender.source))
    heir = Sender(store.url, state)
    heir.start()
    await until(lambda: ends(store.url, sender.source))
    store.confirm_end(sender.source)
    await until(lambda: heir.adopted == 0)
    assert sender.journal.folder is not None
    assert not sender.journal.folder.exists()
    await heir.close()


async def test_an_end_that_is_stored_is_not_said_again(store: Store, state: Path) -> None:
    """A boot that ended in order and whose end is stored is removed by the next process, which ships nothing of it."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(20)
    await sender.close()
    store.confirm_end(sender.source)
    before = store.client.xlen(P0.stream)
    folder = sender.journal.folder
    assert folder is not None
    assert list(folder.glob("*.segment"))
    heir = Sender(store.url, state)
    heir.start()
    await until(lambda: not folder.exists() and heir.adopted == 0)
    assert store.client.xlen(P0.stream) == before
    await heir.close()


async def test_an_end_on_the_stream_keeps_the_journal(store: Store, state: Path) -> None:
    """As long as its own end record waits on the stream a journal stays, although another record of it is stored."""
    left = leave_killed(state, 20)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    store.client.hset(P0.ended, str(left.source), "1")
    for _ in range(5):
        store.client.hdel(P0.seen, str(sender.source))
        await until(lambda: store.client.hexists(P0.seen, str(sender.source)))
    assert left.folder is not None
    assert left.folder.exists()
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.close()


def delete(state: Path, *, made_again: bool) -> None:
    shutil.rmtree(state)
    if made_again:
        state.mkdir()


@pytest.mark.parametrize("made_again", [False, True], ids=["deleted", "made again"])
async def test_a_deleted_folder_is_noticed(state: Path, made_again: bool) -> None:
    """A deleted state directory is counted and said once; what is known is on disk again, where an heir finds it."""
    journal = open_journal(state)
    gone = count(counters.journal_disk_faults, *GONE)
    with capture_logs() as logs:
        journal.start()
        journal.begin()
        add(journal, 50)
        # Else the first to find out may be who makes the next file.
        await until(lambda: journal._spare)
        delete(state, made_again=made_again)
        await until(lambda: journal.uprooted and journal.kept == "disk")
        await until(lambda: journal.backlog.segments[0].path)
        assert [seq for seq, _ in read_all(journal.backlog)] == list(range(50))
        add(journal, 200)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["journal_folder_gone"]
    assert count(counters.journal_disk_faults, *GONE) - gone == 1
    assert [seq for seq, _ in read_all(journal.backlog)] == list(range(50, 250))
    journal._tending.cancel()  # type: ignore[union-attr] # it was started
    journal.release()
    (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(250))
    assert (orphan.backlog.source, orphan.boot.file.begun) == (journal.source, 1)
    orphan.backlog.close()
    orphan.boot.close()
    journal.backlog.close()


async def test_a_folder_is_deleted_before_the_first_event(state: Path) -> None:
    """The empty file of a deleted folder does not take the place of the one that events go to now."""
    journal = open_journal(state)
    journal.start()
    await until(lambda: journal._spare)
    shutil.rmtree(state)
    await until(lambda: journal.uprooted and journal.kept == "disk" and not journal._homeless)
    add(journal, 50)
    journal._tending.cancel()  # type: ignore[union-attr] # it was started
    journal.release()
    (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(50))
    orphan.backlog.close()
    orphan.boot.close()
    journal.backlog.close()


async def test_a_deleted_folder_costs_nobody_who_lives(store: Store, state: Path) -> None:
    """A gateway whose folder is deleted while Redis is away ships all that it had mapped, in order, once it is back."""
    store.part.kill()
    sender = Sender(store.url, state)
    sender.start()
    sender.add(50)
    shutil.rmtree(state)
    await until(lambda: sender.journal.uprooted and sender.journal.kept == "disk")
    sender.add(50)
    store.restart()
    await sender.all_shipped()
    await sender.close()
    assert seqs(store.url, sender.source) == list(range(100))
    assert_chain(entries(store.url, sender.source))


async def test_dropped_events_do_not_wait(store: Store, state: Path) -> None:
    """Events that a full journal dropped are not among those that wait for Redis."""
    store.part.kill()
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES, capacity_bytes=2 * SMALL_BYTES)
    dropped = count(counters.events_dropped, "journal_full")
    sender.add(500)
    lost = round(count(counters.events_dropped, "journal_full") - dropped)
    assert lost > 100
    assert sender.waiting == 500 - lost == len(read_all(sender.journal.backlog))
    sender.journal.backlog.close()
    sender.journal.release()
