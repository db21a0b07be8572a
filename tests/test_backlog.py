"""A boot's events that are not stored yet: nothing is skipped, repeated or given up, whatever Redis says it has."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from gateway.journal import Run, adopt_orphans, remove_segments
from gateway.journal.records import RECORD_OVERHEAD_BYTES
from gateway.journal.segment import HEADER_BYTES, Segment
from shared import counters
from shared.stream import Partition, encode_event
from tests.ingestor_process import event
from tests.journal_site import SMALL_BYTES, Disk, open_journal, read_all
from tests.shipper_site import Sender, Store, assert_chain, count, entries, frames, seqs, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

P0 = Partition(0)
PAGE_BYTES = 4096


class Machine(RuleBasedStateMachine):
    """A journal's backlog beside a plain list of its events."""

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        state = Path(self.directory.name) if on_disk else None
        self.journal = open_journal(state, segment_bytes=PAGE_BYTES)
        self.backlog = self.journal.backlog
        self.events: list[tuple[int, bytes]] = []
        """Every event that was not given up."""
        self.shipped_seq = 0
        self.run: Run | None = None

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.backlog.close()
            if self.journal.folder is not None:
                self.compare_with_what_an_heir_finds()
            remove_segments(list(self.backlog.segments))
            self.directory.cleanup()

    def compare_with_what_an_heir_finds(self) -> None:
        self.journal.release()
        with capture_logs():
            (orphan,) = adopt_orphans(self.directory.name)
        assert read_all(orphan.backlog) == self.events
        orphan.backlog.close()
        orphan.boot.close()

    @rule(sizes=st.lists(st.sampled_from([1, 40, 900, 3_000]), min_size=1, max_size=8))
    def append(self, sizes: list[int]) -> None:
        for size in sizes:
            seq = self.journal.next_seq
            body = (b"%d." % seq).ljust(size, b"x")
            self.journal.append(body)
            self.events.append((seq, body))

    @rule(numbers=st.integers(1, 3))
    def skip(self, numbers: int) -> None:
        for _ in range(numbers):
            self.journal.skip()

    @rule(most=st.integers(1, 6))
    def look(self, most: int) -> None:
        """The next run is the next events, and ends for a reason."""
        while True:
            if (segment := self.backlog.to_load()) is not None:
                assert not segment.loaded
                segment.load()
            self.run = self.backlog.next_run(most)
            if self.run is not None or self.backlog.to_load() is None:
                break
        waiting = [(seq, body) for seq, body in self.events if seq >= self.shipped_seq]
        if self.run is None:
            assert waiting == []
            return
        run = self.run
        assert run.expected_seq == self.shipped_seq
        assert run.events == [body for _, body in waiting[: len(run.events)]]
        assert [seq for seq, _ in waiting[: len(run.events)]] == list(range(run.first_seq, run.next_seq))
        if len(run.events) < most and len(waiting) > len(run.events):
            following = waiting[len(run.events)][0]
            starts = {segment.first_seq for segment in self.backlog.segments}
            assert following != run.next_seq or following in starts, "it could have been longer"

    @precondition(lambda self: self.run is not None)
    @rule()
    def ship(self) -> None:
        assert self.run is not None
        self.backlog.shipped(self.run)
        self.shipped_seq, self.run = self.run.next_seq, None

    @rule(share=st.floats(0, 1))
    def seek(self, share: float) -> None:
        """Redis expects another number: an older one, or, after a lost answer, a later one."""
        seq = round(share * self.journal.next_seq)
        self.backlog.seek(seq)
        self.shipped_seq, self.run = max(seq, self.backlog.floor), None

    @rule(share=st.floats(0, 1))
    def confirm(self, share: float) -> None:
        """ClickHouse has everything below a number."""
        stored_seq = round(share * self.journal.next_seq)
        given_up = self.backlog.confirm(stored_seq)
        assert all(segment.sealed for segment in given_up)
        remove_segments(given_up)
        floor = self.backlog.floor
        gone = [seq for seq, _ in self.events if seq < floor]
        assert all(seq < stored_seq for seq in gone), "an event that is not confirmed was given up"
        self.events = self.events[len(gone) :]
        first = self.backlog.segments[0]
        assert not first.sealed or any(seq >= stored_seq for seq, _ in self.events[: _events_in(first, self.events)])
        self.shipped_seq, self.run = max(self.shipped_seq, floor), None

    @invariant()
    def keeps_count(self) -> None:
        """Its figures are those of what is there."""
        if not hasattr(self, "directory"):
            return
        assert self.backlog.shipped_seq == self.shipped_seq
        assert self.backlog.size_bytes == PAGE_BYTES * len(self.backlog.segments)
        assert self.backlog.next_seq == max(
            (seq + 1 for seq, _ in self.events), default=max(self.backlog.floor, self.backlog.segments[-1].first_seq)
        )


def _events_in(segment: Segment, events: list[tuple[int, bytes]]) -> int:
    return sum(segment.first_seq <= seq < segment.next_seq for seq, _ in events)


TestBacklogAgainstAList = Machine.TestCase
TestBacklogAgainstAList.settings = settings(max_examples=100, stateful_step_count=40)


def segment_starts(sender: Sender) -> list[int]:
    """The first numbers of the files of a journal."""
    assert sender.journal.folder is not None
    return sorted(int(path.stem) for path in sender.journal.folder.glob("*.segment"))


async def confirmed(store: Store, sender: Sender, marks: object, stored_seq: int) -> None:
    """Say what is stored, and wait until the gateway has seen that, and done what follows."""
    store.confirm(sender.source, marks)
    await until(lambda: sender.ship._stored_seq == stored_seq)
    assert sender.ship.unconfirmed_events == sender.journal.next_seq - stored_seq


async def test_what_is_confirmed_leaves_the_disk(store: Store, state: Path) -> None:
    """A segment's file goes once all of it is in ClickHouse, and not before: the current one stays."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    sender.add(1_000)
    await sender.all_shipped()
    starts = segment_starts(sender)
    assert len(starts) > 5
    second, third = starts[1], starts[2]
    for stored_seq, left in (
        (0, starts),
        (second - 1, starts),
        (second, starts[1:]),
        (third - 1, starts[1:]),
        (third + 1, starts[2:]),
        (starts[-1] - 1, starts[-2:]),
        (1_000, starts[-1:]),
    ):
        await confirmed(store, sender, stored_seq, stored_seq)
        assert segment_starts(sender) == left
        assert sender.journal.backlog.size_bytes == SMALL_BYTES * len(left)
    await sender.close()
    assert seqs(store.url, sender.source) == list(range(1_000)), "nothing was shipped again"


async def test_marks_behind_a_hole_confirm_nothing(store: Store, state: Path) -> None:
    """Of marks with a hole only what lies before it counts."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    sender.add(500)
    await sender.all_shipped()
    starts = segment_starts(sender)
    await confirmed(store, sender, f"{starts[1]},{starts[1] + 1}-500", starts[1])
    assert segment_starts(sender) == starts[1:]
    await sender.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_an_emptied_redis_gets_everything_again(store: Store, state: Path, busy: bool) -> None:
    """After FLUSHALL all that is not confirmed comes again, in order and gapless, from the first kept segment on."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    sender.add(1_000)
    await sender.all_shipped()
    starts = segment_starts(sender)
    await confirmed(store, sender, starts[3] + 5, starts[3] + 5)
    again = count(counters.events_reshipped)
    store.client.flushall()
    if busy:
        sender.add(100)
    total = sender.journal.next_seq
    await until(lambda: seqs(store.url, sender.source)[-1:] == [total - 1])
    arrived = frames(store.url, sender.source)
    assert [item.seq for frame in arrived for item in frame.events] == list(range(starts[3], total))
    assert arrived[0].expected_seq == arrived[0].floor == starts[3], "below the floor nothing is missing"
    assert_chain(arrived)
    assert count(counters.events_reshipped) - again == 1_000 - starts[3]
    await sender.close()
    assert_chain(entries(store.url, sender.source))


async def test_a_redis_from_an_older_copy_gets_the_rest_again(store: Store, state: Path) -> None:
    """A Redis that comes back with what it had earlier gets what it forgot, in order and each once."""
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    sender.start()
    sender.add(300)
    await sender.all_shipped()
    await asyncio.to_thread(store.save)
    sender.add(400)
    await sender.all_shipped()
    assert seqs(store.url, sender.source) == list(range(700))
    again = count(counters.events_reshipped)
    await asyncio.to_thread(store.restore)
    await until(lambda: seqs(store.url, sender.source) == list(range(700)))
    assert count(counters.events_reshipped) - again == 400
    sender.add(1)
    await sender.close()
    arrived = entries(store.url, sender.source)
    assert [item.seq for entry in arrived for item in entry.events] == list(range(701))
    assert_chain(arrived)


async def test_an_answer_in_the_middle_of_a_frame(store: Store, state: Path) -> None:
    """Whatever number Redis expects, be it within a frame, the next frame begins there."""
    sender = Sender(store.url, state)
    sender.start()
    sender.add(100)
    await sender.all_shipped()
    bounds = [frame.bounds for frame in frames(store.url, sender.source)]
    assert bounds == [(0, 0, 100)]
    for expected_seq in (37, 99, 1):
        store.client.hset(P0.accepted, str(sender.source), expected_seq)
        bounds.append((expected_seq, expected_seq, 100))
        await until(lambda: len(frames(store.url, sender.source)) >= len(bounds))
        assert [frame.bounds for frame in frames(store.url, sender.source)] == bounds
    await sender.close()


async def test_redis_may_know_more(store: Store, state: Path) -> None:
    """What Redis accepted although its answer never came is not sent again."""
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: store.client.hexists(P0.seen, str(sender.source)))
    store.client.hset(P0.accepted, str(sender.source), 30)
    sender.add(50)
    await sender.all_shipped()
    await sender.close()
    assert [entry.bounds for entry in entries(store.url, sender.source)] == [(30, 30, 50), (50, 50, 50)]


async def test_a_full_journal_drops_the_newest_and_says_so(store: Store, state: Path) -> None:
    """Without room new events are dropped, counted, and use up numbers; once ClickHouse has the rest, there is room."""
    store.part.kill()
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES, capacity_bytes=2 * SMALL_BYTES)
    dropped = count(counters.events_dropped, "journal_full")
    sender.start()
    with capture_logs() as logs:
        sender.add(500)
    lost = round(count(counters.events_dropped, "journal_full") - dropped)
    kept = 500 - lost
    assert kept * (len(encode_event(event(500))) + 16) > 2 * SMALL_BYTES - 600, "the room was used"
    assert lost > 100
    assert (sender.journal.full, sender.journal.next_seq) == (True, 500)
    assert [line["policy"] for line in logs if line["event"] == "journal_full"] == ["drop_newest"]
    await asyncio.to_thread(store.restart)
    await until(lambda: seqs(store.url, sender.source) == list(range(kept)))
    sender.add(10)
    assert count(counters.events_dropped, "journal_full") - dropped == lost + 10, "Redis has it, ClickHouse has not"
    store.confirm(sender.source, kept)
    await until(lambda: sender.journal.backlog.size_bytes == SMALL_BYTES)
    sender.add(20)
    assert not sender.journal.full
    await sender.close()
    *_, last, end = entries(store.url, sender.source)
    assert (last.bounds, end.bounds) == ((kept, 510, 530), (530, 530, 530))


@pytest.mark.parametrize("on_disk", [True, False], ids=["disk", "memory"])
def test_the_journal_is_bounded(state: Path, on_disk: bool) -> None:
    """A journal takes no more than its capacity; what comes after is dropped and counted, and uses up its number."""
    journal = open_journal(state if on_disk else None, capacity_bytes=3 * SMALL_BYTES + SMALL_BYTES // 2)
    dropped = count(counters.events_dropped, "journal_full")
    for _ in range(100):
        journal.append(bytes(1_000))
    kept = 3 * ((SMALL_BYTES - HEADER_BYTES) // (1_000 + RECORD_OVERHEAD_BYTES))
    assert count(counters.events_dropped, "journal_full") - dropped == 100 - kept
    assert (journal.full, journal.next_seq, journal.backlog.size_bytes) == (True, 100, 3 * SMALL_BYTES)
    assert [seq for seq, _ in read_all(journal.backlog)] == list(range(kept))
    assert {segment.path is not None for segment in journal.backlog.segments} == {on_disk}
    remove_segments(journal.backlog.confirm(kept))
    journal.append(bytes(1_000))
    assert not journal.full
    assert [seq for seq, _ in read_all(journal.backlog)] == [100]
    journal.backlog.close()
    journal.release()


async def test_what_only_memory_held_is_counted_at_exit(
    store: Store, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that went to memory while the disk was full, and were not shipped by the end, are counted as lost."""
    disk = Disk(monkeypatch)
    store.part.kill()
    lost = count(counters.events_dropped, "exit")
    sender = Sender(store.url, state, segment_bytes=SMALL_BYTES)
    disk.full = True
    sender.add(250)
    disk.full = False
    assert sender.journal.folder is not None
    # What `tend` does every few seconds.
    sender.journal._spare = sender.journal._make_spare(sender.journal.folder)
    sender.add(250)
    assert sender.journal.kept == "disk"
    sender.start()
    await sender.close(0.2)
    (orphan,) = adopt_orphans(str(state))
    kept = len(read_all(orphan.backlog))
    orphan.boot.close()
    assert 0 < kept < 500
    assert count(counters.events_dropped, "exit") - lost == 500 - kept


def test_a_full_disk_is_not_asked_for_every_event(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With disk and memory full an event is dropped without asking the disk once more: requests do not wait for it."""
    disk = Disk(monkeypatch)
    journal = open_journal(state, segment_bytes=PAGE_BYTES)
    disk.full = True
    while not journal.full:
        journal.append(bytes(1_000))
    asked = disk.asked
    for _ in range(100):
        journal.append(bytes(1_000))
    journal.backlog.close()
    journal.release()
    assert disk.asked - asked < 10
