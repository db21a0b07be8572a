"""What dead processes left in the journal: all of it is found, owned by one, shipped once, and then gone."""

import errno
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.journal import Orphan, adopt_orphans, new_source
from gateway.journal.segment import HEADER_BYTES, Segment, allocate
from shared import counters
from shared.event import Event
from shared.stream import BootEnd, Partition
from tests.journal_site import INSTANCE, SMALL_BYTES, Writer, add, damage, leave_killed, open_journal, read_all
from tests.parts import wait_until
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, order, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

P0 = Partition(0)
LAST_SOURCE = 2**63 - 1
"""Folders are looked at in order of their names, and this one's is the last."""


def adopted(state: Path) -> list[Orphan]:
    return list(adopt_orphans(str(state)))


def give_up(orphans: list[Orphan]) -> None:
    for orphan in orphans:
        orphan.backlog.close()
        orphan.boot.close()


def folder_of(state: Path, source: int) -> Path:
    return state / "journal" / f"{source:016x}"


def test_everything_acknowledged_survives_sigkill(tmp_path: Path, state: Path) -> None:
    """Twenty processes are killed at random moments: each one's backlog has all it acknowledged, whole and in order."""
    dice = random.Random(7)
    writers = [Writer(tmp_path, state, source) for source in range(20)]
    waiting = {writer: dice.randrange(1, 3_000) for writer in writers}

    def kill_some() -> bool:
        for writer, events in list(waiting.items()):
            if writer.acknowledged() >= events:
                writer.kill()
                del waiting[writer]
        return not waiting

    try:
        wait_until(kill_some, deadline_s=60, every_s=0.001)
    finally:
        for writer in writers:
            writer.kill()
    orphans = adopted(state)
    assert [orphan.backlog.source for orphan in orphans] == list(range(20))
    decoder = msgspec.msgpack.Decoder(Event)
    for writer, orphan in zip(writers, orphans, strict=True):
        events = read_all(orphan.backlog)
        for number, (seq, body) in enumerate(events):
            event = decoder.decode(body)
            assert (seq, event.seq, event.request_bytes, len(event.task)) == (number, seq, seq * 7, seq % 300)
        acknowledged = writer.acknowledged()
        assert len(events) in {acknowledged, acknowledged + 1}, "at most the event in hand is more"
        assert orphan.killed
        assert (orphan.boot.file.begun or 0) - len(events) in {0, 1}
        assert orphan.backlog.next_seq == len(events)
    give_up(orphans)


async def test_a_killed_process_is_survived_by_another(tmp_path: Path, redis_url: str, state: Path) -> None:
    """What a process left that was killed is shipped by one that was running all along, each event once."""
    sender = Sender(redis_url, state)
    sender.start()
    source = new_source()
    writer = Writer(tmp_path, state, source)
    await until(lambda: writer.acknowledged() >= 2_000)
    assert sender.adopted == 0
    writer.kill()
    acknowledged = writer.acknowledged()
    await until(lambda: ends(redis_url, source), deadline_s=40)
    sender.add(3)
    await sender.all_shipped()
    await sender.die()
    arrived = entries(redis_url, source)
    found = [item.seq for entry in arrived for item in entry.events]
    assert found == list(range(len(found)))
    assert len(found) in {acknowledged, acknowledged + 1}
    assert_chain(arrived)
    first_end = next(number for number, entry in enumerate(arrived) if entry.end)
    assert all(entry.end for entry in arrived[first_end:]), "the end comes behind all frames"
    assert {entry.end.killed for entry in arrived if entry.end} == {True}
    assert seqs(redis_url, sender.source) == [0, 1, 2]


async def test_a_folder_goes_when_its_end_is_stored(store: Store, state: Path) -> None:
    """An orphan's folder stays until its end record is in ClickHouse, even when all its events are, and then goes."""
    left = leave_killed(state, 300)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    assert seqs(store.url, left.source) == list(range(300))
    assert left.folder is not None
    assert list(left.folder.glob("*.segment"))
    store.confirm(left.source, 300)
    await until(lambda: left.folder and not list(left.folder.glob("*.segment")))
    assert (left.folder / "boot").exists()
    assert sender.adopted == 1
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await until(lambda: sender.adopted == 0)
    await sender.close()
    assert seqs(store.url, left.source) == list(range(300))
    assert list((state / "journal").iterdir()) == [sender.journal.folder]


async def test_an_orphan_outlives_a_redis_that_forgets(store: Store, state: Path) -> None:
    """After FLUSHALL an orphan's events and its end come again, from its journal."""
    left = leave_killed(state, 300)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    order(store.url, "flushall")
    await until(lambda: ends(store.url, left.source))
    await sender.close()
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(300))
    assert_chain(arrived)


async def test_an_orphan_is_adopted_again(store: Store, state: Path) -> None:
    """When the process that adopted an orphan dies or ends as well, the next one goes on; nothing comes twice."""
    left = leave_killed(state, 300)

    async def adopt_and_leave(leave: Callable[[Sender], Awaitable[None]]) -> None:
        sender = Sender(store.url, state)
        sender.start()
        await until(lambda: left.source in sender.ship._adopted)
        await until(lambda: ends(store.url, left.source))
        await leave(sender)

    for leave in (Sender.die, Sender.close, Sender.die):
        await adopt_and_leave(leave)
    assert seqs(store.url, left.source) == list(range(300))


async def test_an_end_is_said_once(store: Store, state: Path) -> None:
    """While an ingestor is away, an orphan's end stands in the stream once, however long that takes."""
    left = leave_killed(state, 10)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    for _ in range(5):
        # The process' own sign of life comes as often as it looks after its orphans.
        store.client.hdel(P0.seen, str(sender.source))
        await until(lambda: store.client.hexists(P0.seen, str(sender.source)))
    await sender.die()
    assert len(ends(store.url, left.source)) == 1


async def test_an_orphan_has_one_owner(redis_url: str, state: Path) -> None:
    """Of several processes with one state directory each orphan is shipped by one, and none touches the living."""
    senders = [Sender(redis_url, state) for _ in range(3)]
    for sender in senders:
        sender.start()
        sender.add(50)
    left = [leave_killed(state, 200) for _ in range(8)] + [leave_killed(state, 200, source=LAST_SOURCE - 1)]
    await until(lambda: all(ends(redis_url, journal.source) for journal in left))
    owned = [source for sender in senders for source in sender.ship._adopted]
    assert sorted(owned) == sorted(journal.source for journal in left)
    for sender in senders:
        sender.add(1)
        await sender.close()
    for journal in left:
        assert seqs(redis_url, journal.source) == list(range(200))
    for sender in senders:
        assert seqs(redis_url, sender.source) == list(range(51))
        assert len(ends(redis_url, sender.source)) == 1


def test_the_living_are_not_adopted(state: Path) -> None:
    """A boot whose process lives, the own one included, is never adopted; the moment it dies it is, and once."""
    living = [open_journal(state) for _ in range(3)]
    for journal in living:
        add(journal, 5)
    leave_killed(state, 5, source=LAST_SOURCE)
    orphans = adopted(state)
    assert [orphan.backlog.source for orphan in orphans] == [LAST_SOURCE]
    assert adopted(state) == []
    living[0].release()
    found = adopted(state)
    assert [orphan.backlog.source for orphan in found] == [living[0].source]
    assert adopted(state) == []
    give_up(orphans + found)
    for journal in living[1:]:
        journal.release()


@pytest.mark.parametrize("ends_in_order", [False, True], ids=["killed", "in order"])
async def test_how_a_process_ended(store: Store, state: Path, ends_in_order: bool) -> None:
    """The end of a killed process says so and counts what it had begun; all numbers that it used are in either."""
    left = open_journal(state)
    for _ in range(10):
        left.begin()
    add(left, 7)
    left.skip()
    if ends_in_order:
        await left.close()
    left.release()
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    await sender.close()
    said = ends(store.url, left.source)[0]
    assert said.end is not None
    unfinished = 0 if ends_in_order else 2
    expected = BootEnd(INSTANCE, left.started_ms, said.end.ended_ms, 8, unfinished, killed=not ends_in_order)
    assert said.end == expected
    assert said.bounds == (7, 8, 8)
    assert said.end.ended_ms >= left.started_ms


@pytest.mark.parametrize("how", ["other names", "other events"])
def test_a_damaged_boot_is_set_aside(state: Path, how: str) -> None:
    """A folder that nothing says anything of is kept under another name, counted, logged; others are found."""
    left = [leave_killed(state, 5) for _ in range(3)]
    broken = min(left, key=lambda journal: journal.source).folder
    assert broken is not None
    os.truncate(broken / "boot", 0)
    (path,) = broken.glob("*.segment")
    if how == "other names":
        damage(path, 0)
        broken = broken.rename(broken.with_name("0-a-name-of-a-person"))
    else:
        content = path.read_bytes()
        path.unlink()
        allocate(path, len(content))
        segment = Segment.begin(path, int(broken.name, 16), 0, len(content), 1)
        segment.append(0, b"no event of this release")
        segment.let_go()
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        orphans = adopted(state)
        assert len(orphans) == 2
        assert adopted(state) == []
    assert [len(read_all(orphan.backlog)) for orphan in orphans] == [5, 5]
    assert not broken.exists()
    assert list(broken.with_name(f"damaged-{broken.name}").glob("*.segment")), "its events are kept for a person"
    assert count(counters.journal_damaged) - damaged == 1
    assert [line["folder"] for line in logs if line["log_level"] == "error"] == [broken.name]
    give_up(orphans)


async def test_a_damaged_segment_is_set_aside(store: Store, state: Path) -> None:
    """A file that cannot be read is kept aside, counted and logged; the events of all others are shipped."""
    left = leave_killed(state, 500)
    assert left.folder is not None
    files = sorted(left.folder.glob("*.segment"))
    starts = [int(path.stem) for path in files]
    os.truncate(files[1], 20)
    damaged = count(counters.journal_damaged)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, left.source))
    assert [(line["folder"], line["file"]) for line in logs if line["log_level"] == "error"] == [
        (left.folder.name, files[1].name)
    ]
    assert count(counters.journal_damaged) - damaged == 1
    arrived = entries(store.url, left.source)
    assert [item.seq for entry in arrived for item in entry.events] == [*range(starts[1]), *range(starts[2], 500)]
    assert_chain(arrived)
    store.confirm_end(left.source)
    await until(lambda: left.folder and not left.folder.exists())
    await sender.close()
    aside = left.folder.with_name(f"damaged-{left.folder.name}")
    assert files[1].with_suffix(".damaged").name in {path.name for path in aside.iterdir()}


def test_damage_within_a_segment_costs_a_record(state: Path) -> None:
    """A record that cannot be read costs itself: those behind it are read, in this file and the next, it is counted."""
    left = leave_killed(state, 500)
    assert left.folder is not None
    files = sorted(left.folder.glob("*.segment"))
    damage(files[1], HEADER_BYTES + (SMALL_BYTES // 2))
    damaged = count(counters.journal_damaged)
    (orphan,) = adopted(state)
    found = [seq for seq, _ in read_all(orphan.backlog)]
    second, third = int(files[1].stem), int(files[2].stem)
    (missing,) = set(range(500)) - set(found)
    assert found == sorted(found)
    assert second < missing < third
    assert count(counters.journal_damaged) - damaged == 1
    give_up([orphan])


def test_a_folder_that_is_being_made(state: Path) -> None:
    """A folder without a name yet belongs to a process that is starting; after a minute it is removed."""
    leave_killed(state, 1, source=LAST_SOURCE)
    young, old = folder_of(state, 1).with_suffix(".new"), folder_of(state, 2).with_suffix(".new")
    for folder, age_s in ((young, 30), (old, 90)):
        folder.mkdir()
        (folder / "boot").write_bytes(b"")
        os.utime(folder, (time.time() - age_s,) * 2)
    orphans = adopted(state)
    assert [orphan.backlog.source for orphan in orphans] == [LAST_SOURCE]
    assert (young.exists(), old.exists()) == (True, False)
    give_up(orphans)
    assert adopted(state / "nowhere") == []


def refuse_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """The system refuses the next call, as it does when a process has too many files open."""
    real = getattr(owner, name)

    def refusing(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(owner, name, refusing)


def test_an_orphan_that_cannot_be_opened_is_tried_again(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system refuses an orphan's file once, that is logged, and the next look adopts the orphan."""
    leave_killed(state, 5)
    refuse_once(monkeypatch, Segment, "open")
    with capture_logs() as logs:
        assert adopted(state) == []
    assert [line["event"] for line in logs] == ["orphan_unreadable"]
    (orphan,) = adopted(state)
    assert len(read_all(orphan.backlog)) == 5
    give_up([orphan])


async def test_a_folder_that_cannot_be_removed_stops_nothing(
    store: Store, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an orphan's folder cannot be removed, this is tried again, and later orphans are found."""
    sender = Sender(store.url, state)
    sender.start()
    left = leave_killed(state, 5)
    await until(lambda: sender.ship._adopted and ends(store.url, left.source))
    await until(lambda: sender.ship._adopted[left.source].said_end)
    refuse_once(monkeypatch, shutil, "rmtree")
    store.confirm_end(left.source)
    try:
        later = leave_killed(state, 6)
        await until(lambda: seqs(store.url, later.source) == list(range(6)))
        assert left.folder is not None
        await until(lambda: left.folder and not left.folder.exists())
    finally:
        await sender.die()
