"""Files of a dead boot that somebody copied, renamed or spoiled: each event comes once, and shipping has an end."""

import errno
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.journal import Orphan, adopt_orphans
from gateway.journal.backlog import Backlog
from gateway.journal.boot import Boot
from gateway.journal.segment import HEADER_BYTES, SUFFIX, Segment
from gateway.shipper import Shipper
from shared import counters
from tests.journal_site import SMALL_BYTES, damage, leave_killed, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, ends, entries, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

EVENTS = 500
LAST_SOURCE = 2**63 - 1


@pytest.fixture
def folder(state: Path) -> Path:
    """Of a killed process with several files."""
    made = leave_killed(state, EVENTS).folder
    assert made is not None
    assert len(files_in(made)) >= 4
    return made


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def kept_aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.damaged"))


def numbers(state: Path) -> list[int]:
    """What an heir would ship; it gives the folder up."""
    orphan = adopted(state)
    found = [seq for seq, _ in read_all(orphan.backlog)]
    bounds = [(segment.first_seq, segment.next_seq) for segment in orphan.backlog.segments]
    assert bounds == sorted(bounds)
    assert all(first <= following for first, following in bounds)
    assert orphan.backlog.next_seq == EVENTS
    orphan.backlog.close()
    orphan.boot.close()
    return found


def adopted(state: Path) -> Orphan:
    with capture_logs():
        (orphan,) = adopt_orphans(str(state))
    return orphan


def copy(path: Path, name: str) -> Path:
    return Path(shutil.copy(path, path.with_name(f"{name}{SUFFIX}")))


def test_copies_of_a_file_are_kept_aside(state: Path, folder: Path) -> None:
    """Whole copies, whatever their names, are counted, said and kept; of their events none is lost and none doubled."""
    third = files_in(folder)[2]
    for name in (f"{third.stem} (copy 1)", f"{third.stem} (copy 2)", f"{EVENTS:020d}"):
        copy(third, name)
    damaged = count(counters.journal_damaged)
    with capture_logs() as logs:
        (orphan,) = adopt_orphans(str(state))
    assert [seq for seq, _ in read_all(orphan.backlog)] == list(range(EVENTS))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["segment_twice"] * 3
    assert count(counters.journal_damaged) - damaged == 3
    assert len(kept_aside(folder)) == 3
    orphan.backlog.close()
    orphan.boot.close()
    assert numbers(state) == list(range(EVENTS))


@pytest.mark.parametrize("spoiled", ["the copy", "the file"])
def test_of_two_copies_the_one_that_has_more_is_shipped(state: Path, folder: Path, spoiled: str) -> None:
    """A copy from an earlier moment, or a damaged one, costs nothing as long as another has its events."""
    second = files_in(folder)[1]
    other = copy(second, "other")
    path = other if spoiled == "the copy" else second
    content = path.read_bytes()
    path.write_bytes(content[: SMALL_BYTES // 3] + bytes(SMALL_BYTES - SMALL_BYTES // 3))
    assert numbers(state) == list(range(EVENTS))
    assert len(kept_aside(folder)) == 1


def test_copies_that_complete_each_other_are_joined(state: Path, folder: Path) -> None:
    """Two copies damaged at different places give all their events; both are kept, and a second heir finds the same."""
    second = files_in(folder)[1]
    other = copy(second, "other")
    damage(second, HEADER_BYTES + SMALL_BYTES // 3)
    damage(other, HEADER_BYTES + SMALL_BYTES // 2)
    for _ in range(2):
        assert numbers(state) == list(range(EVENTS))
        assert len(kept_aside(folder)) == 2
    third = copy(files_in(folder)[-1], "interrupted")
    kept_aside(folder)[0].rename(third)
    assert numbers(state) == list(range(EVENTS)), "as a kill before both were aside leaves it"


@pytest.mark.parametrize("place", [0, 1, -1], ids=["first", "second", "last"])
@pytest.mark.parametrize("name", [3, 150, 10_000])
def test_a_renamed_file_with_a_damaged_header(state: Path, folder: Path, place: int, name: int) -> None:
    """What its records say counts, not its name: every event comes, in order."""
    path = files_in(folder)[place]
    damage(path, 9)
    path.rename(path.with_name(f"{name:020d}{SUFFIX}"))
    assert numbers(state) == list(range(EVENTS))


def test_a_damaged_copy_overlaps_its_original_in_part(state: Path, folder: Path) -> None:
    """A copy without a header and without its first events gives no event twice."""
    second = files_in(folder)[1]
    other = copy(second, f"{int(second.stem) + 7:020d}")
    content = other.read_bytes()
    other.write_bytes(bytes(range(200, 232)) + bytes(2_000) + content[HEADER_BYTES + 2_000 :])
    assert numbers(state) == list(range(EVENTS))


@pytest.mark.parametrize("seed", range(40))
def test_shipping_ends_whatever_was_done_to_the_files(state: Path, folder: Path, seed: int) -> None:
    """Files copied, renamed and their headers spoiled at random: every event comes once, in order."""
    dice = random.Random(seed)
    for _ in range(dice.randrange(1, 4)):
        path = dice.choice(files_in(folder))
        match dice.randrange(3):
            case 0:
                copy(path, f"{path.stem} (copy {dice.random()})")
            case 1:
                copy(path, f"{dice.choice([3, 120, 260, 999]):020d}-{dice.random()}")
            case _:
                name = next(number for number in iter(lambda: dice.randrange(1_000), None) if not taken(path, number))
                damage(path.rename(path.with_name(f"{name:020d}{SUFFIX}")), dice.randrange(28))
    assert numbers(state) == list(range(EVENTS))


def records_in(path: Path) -> dict[int, tuple[int, int]]:
    """Of each record of an intact file, where its body begins and how long it is."""
    segment = Segment.open(path, int(path.parent.name, 16))
    segment.find_end()
    found = {record.seq: (record.end - len(record.body), len(record.body)) for record in segment.records(HEADER_BYTES)}
    segment.let_go()
    return found


def copy_and_spoil(folder: Path, dice: random.Random) -> set[int]:
    """Copies of two files, records and headers of copies and originals spoiled; the numbers of what one still has."""
    intact: set[int] = set()
    files = files_in(folder)
    spoiled = dice.sample(files, 2)
    for path in files:
        where = records_in(path)
        copies = [copy(path, f"{path.stem}-{dice.random()}") for _ in range(dice.randrange(1, 4) * (path in spoiled))]
        for one in [path, *copies]:
            bad = {dice.choice([min(where), *where]) for _ in range(dice.randrange(5) * (path in spoiled))}
            damage(one, *(where[seq][0] + dice.randrange(where[seq][1]) for seq in bad))
            intact |= where.keys() - bad
        if path in spoiled and dice.random() < 0.3:
            damage(path, dice.randrange(28))
    return intact


class Kill(BaseException):
    """The heir is killed."""


def killed_at(state: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> bool:
    """An heir is killed instead of doing one more rename; whether it came so far."""
    real, left = Path.rename, renames

    def rename(path: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise Kill
        left -= 1
        return real(path, target)

    boots: list[Boot] = []
    adopt = Boot.adopt

    def adopted_boot(folder: Path, partitions: int | None) -> Boot | None:
        boots.extend(filter(None, [adopt(folder, partitions)]))
        return boots[-1]

    try:
        with monkeypatch.context() as patched, capture_logs():
            patched.setattr(Path, "rename", rename)
            patched.setattr(Boot, "adopt", adopted_boot)
            list(adopt_orphans(str(state)))
    except Kill:
        return True
    finally:
        for boot in boots:
            boot.close()
    return False


@pytest.mark.parametrize("seed", range(60))
def test_what_is_intact_in_one_file_is_shipped(
    state: Path, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies with damaged records, and heirs killed between any two steps: each intact event comes once, in order."""
    dice = random.Random(seed)
    intact = copy_and_spoil(folder, dice)
    for _ in range(3):
        if not killed_at(state, monkeypatch, dice.randrange(4)):
            break
    for _ in range(2):
        orphan = adopted(state)
        assert [seq for seq, _ in read_all(orphan.backlog)] == sorted(intact)
        orphan.backlog.close()
        orphan.boot.close()


@pytest.mark.parametrize("renames", range(4))
def test_an_heir_killed_at_any_step_loses_nothing(
    state: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Two copies that complete each other, the first record of both lost: killed before each step, the next has all."""
    second = files_in(folder)[1]
    other = copy(second, f"{second.stem}-b")
    where = records_in(second)
    first = min(where)
    for path, seq in ((second, first + 20), (other, first + 30)):
        damage(path, where[first][0], where[seq][0])
    assert killed_at(state, monkeypatch, renames) is (renames < 3), "one new file, and two that are kept aside"
    assert numbers(state) == sorted(set(range(EVENTS)) - {first})


def taken(path: Path, number: int) -> bool:
    return path.with_name(f"{number:020d}{SUFFIX}").exists()


def test_segments_that_begin_alike_are_read_once(folder: Path) -> None:
    """Who reads on goes to the next file by its place: even copies that nobody kept aside end, and double nothing."""
    segments = []
    for path in [*files_in(folder)[:2], files_in(folder)[1], files_in(folder)[1], *files_in(folder)[2:]]:
        segment = Segment.open(path, int(folder.name, 16))
        segment.find_end()
        segments.append(segment)
    backlog = Backlog(1, "gw", 1, segments)
    assert [seq for seq, _ in read_all(backlog)] == list(range(EVENTS))
    backlog.close()


async def test_copies_keep_no_other_boot_waiting(store: Store, state: Path, folder: Path) -> None:
    """A boot with copies of a file is shipped and ended as any other, and so is the one behind it."""
    third = files_in(folder)[2]
    for name in ("copy 1", "copy 2"):
        copy(third, name)
    behind = leave_killed(state, 20, source=LAST_SOURCE)
    source = int(folder.name, 16)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, source) and ends(store.url, behind.source))
    arrived = entries(store.url, source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(EVENTS))
    assert_chain(arrived)
    store.confirm_end(source)
    await until(lambda: not folder.exists())
    await sender.close()
    assert len(kept_aside(folder.with_name(f"damaged-{folder.name}"))) == 2


async def test_every_dead_boot_gets_its_turn(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work without an end in one dead boot, be it for a defect, keeps no other one from being shipped and ended."""
    endless, other = leave_killed(state, 30, source=1), leave_killed(state, 30, source=2)
    real: Any = Backlog.shipped

    def shipped(backlog: Backlog, run: object) -> None:
        if backlog.source != endless.source:
            real(backlog, run)

    monkeypatch.setattr(Backlog, "shipped", shipped)
    monkeypatch.setattr("gateway.shipper._TURN_S", 0.02)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, other.source))
    sender.add(5)
    await until(lambda: seqs(store.url, sender.source) == list(range(5)))
    await sender.die()


async def test_a_disk_that_refuses_a_file_keeps_one_boot_waiting(
    store: Store, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead boot whose file cannot be opened is tried again and again; meanwhile others are shipped and ended."""
    refused, other = leave_killed(state, 30, source=1), leave_killed(state, 30, source=2)
    real = Segment.load

    def load(segment: Segment) -> None:
        if segment.path is not None and segment.path.parent == refused.folder and segment.sealed and began:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        real(segment)

    began: list[bool] = []
    monkeypatch.setattr(Segment, "load", load)
    monkeypatch.setattr("gateway.shipper._TURN_S", 0.02)
    sender = Sender(store.url, state)
    for orphan in adopt_orphans(str(state)):
        sender.ship._adopted[orphan.backlog.source] = orphan
    began.append(True)
    sender.start()
    await until(lambda: ends(store.url, other.source))
    assert seqs(store.url, refused.source) == []
    began.clear()
    await until(lambda: ends(store.url, refused.source))
    assert seqs(store.url, refused.source) == list(range(30))
    await sender.die()


async def test_a_defect_in_one_dead_boot_is_its_own(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be read or finished for a reason that nobody foresaw is said; all others are shipped."""
    unreadable, unfinished, other = (leave_killed(state, 30, source=source) for source in (1, 2, 3))
    real_open, real_finish = Segment.open, Shipper._finish

    def segment_open(path: Path, source: int) -> Segment:
        if source == unreadable.source:
            raise ValueError("nobody foresaw this")
        return real_open(path, source)

    async def finish(ship: Shipper, orphan: Orphan) -> bool:
        if orphan.backlog.source == unfinished.source:
            raise ValueError("nor this")
        return await real_finish(ship, orphan)

    monkeypatch.setattr(Segment, "open", segment_open)
    monkeypatch.setattr(Shipper, "_finish", finish)
    sender = Sender(store.url, state)
    with capture_logs() as logs:
        sender.start()
        await until(lambda: ends(store.url, other.source))
    assert {"orphan_unreadable", "defect"} <= {line["event"] for line in logs}
    monkeypatch.setattr(Segment, "open", real_open)
    monkeypatch.setattr(Shipper, "_finish", real_finish)
    await until(lambda: ends(store.url, unreadable.source) and ends(store.url, unfinished.source))
    await sender.die()
