"""The events of one boot that are not known to be in ClickHouse, in order, and how far they were shipped.

In: segments, and what Redis says it accepted and ClickHouse has. Out: runs of events to ship. Marks are numbers:
`floor` (everything below was confirmed, or never was), `shipped_seq` (Redis accepted everything below). Whatever Redis
forgets, `seek` goes back for it; what is confirmed, `confirm` gives up.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from gateway.journal.boot import set_aside
from gateway.journal.segment import HEADER_BYTES, Segment
from shared import counters

MAX_RUN_BYTES: Final = 1 << 20
"""Of events in one frame; one event alone may be larger."""


class Run(msgspec.Struct, frozen=True):
    """Events of consecutive numbers. Those from `expected_seq` to `first_seq` belong to no event that will ever come.

    They were left out, or nobody can read them any more. Redis is told so: who waits for them would wait for ever.
    """

    expected_seq: int
    first_seq: int
    events: list[bytes]

    @property
    def next_seq(self) -> int:
        """The number behind the last event."""
        return self.first_seq + len(self.events)


class Backlog:
    """Segments in order, the last of which may still grow."""

    def __init__(self, source: int, instance: str, partitions: int, segments: list[Segment]) -> None:
        self.source = source
        self.instance = instance
        self.partitions = partitions
        self.segments = deque(segments)
        self.size_bytes = sum(segment.size_bytes for segment in segments)
        """Of all segments, on disk and in memory."""
        self._floor = segments[0].first_seq if segments else 0
        self.shipped_seq = self._floor
        self._reading: Segment | None = None
        self._position = HEADER_BYTES
        self._read_to = HEADER_BYTES
        """Behind the last run, which may have to be read again."""

    @property
    def floor(self) -> int:
        """Every number below is in ClickHouse, or of no event."""
        return self.segments[0].first_seq if self.segments else self._floor

    @property
    def next_seq(self) -> int:
        """The number behind the last event here."""
        return max(self.segments[-1].next_seq, self._floor) if self.segments else self._floor

    @property
    def waiting(self) -> int:
        """Events that are still to be shipped."""
        return self._unshipped(self.segments)

    def to_load(self) -> Segment | None:
        """The segment that is to be read next, if `Segment.load` has to be called for it before it can be."""
        if self.shipped_seq >= self.next_seq:
            return None
        segment = self._segment()
        return None if segment is None or segment.loaded else segment

    def next_run(self, most: int) -> Run | None:
        """The next events to ship, at most so many; None if there are none, or `to_load` has something."""
        segment = self._segment()
        while segment is not None and segment.loaded:
            run = self._run_in(segment, most)
            if run is not None:
                return run
            if segment.sealed and not segment.ends_at(self._position):
                # To be loaded once more: a thread searches for what follows.
                break
            following = self._following(segment)
            if following is None:
                break
            self._read_from(following)
            segment = following
        return None

    def _run_in(self, segment: Segment, most: int) -> Run | None:
        """The next run of one segment: a frame ends with its segment."""
        events: list[bytes] = []
        first_seq = size_bytes = 0
        for record in segment.records(self._position):
            if record.seq < self.shipped_seq:
                self._position = record.end
                continue
            if not events:
                first_seq = record.seq
            elif record.seq != first_seq + len(events) or size_bytes + len(record.body) > MAX_RUN_BYTES:
                break
            events.append(record.body)
            size_bytes += len(record.body)
            self._read_to = record.end
            if len(events) >= most:
                break
        return Run(self.shipped_seq, first_seq, events) if events else None

    def shipped(self, run: Run) -> None:
        """Redis has accepted this run, the last that `next_run` gave."""
        self.shipped_seq = run.next_seq
        self._position = self._read_to

    def seek(self, seq: int) -> None:
        """Go on from this number, forward or back; below `floor` there is nothing to go back to."""
        reading = self._reading
        if seq < self.shipped_seq or (reading is not None and reading.sealed and seq >= reading.next_seq):
            self._let_go()
        self.shipped_seq = max(seq, self.floor)

    def confirm(self, stored_seq: int) -> list[Segment]:
        """Everything below is in ClickHouse: the segments that hold nothing else, to be removed by the caller."""
        stored = []
        while self.segments and self.segments[0].sealed and self.segments[0].next_seq <= stored_seq:
            segment = self.segments.popleft()
            if segment is self._reading:
                self._reading = None
            self._floor = segment.next_seq
            self.size_bytes -= segment.size_bytes
            stored.append(segment)
        self.shipped_seq = max(self.shipped_seq, self.floor)
        return stored

    def extend(self, segment: Segment) -> None:
        """Append to a new segment from now on; the one before is complete."""
        if self.segments:
            before = self.segments[-1]
            before.sealed = True
            if before is not self._reading:
                before.let_go()
        self.segments.append(segment)
        self.size_bytes += segment.size_bytes

    def give_up(self, segment: Segment) -> None:
        """Leave out a segment whose file is gone: its numbers are shipped as those of no event."""
        counters.journal_damaged.inc()
        if segment is self._reading:
            self._reading = None
        self.segments.remove(segment)
        self.size_bytes -= segment.size_bytes

    def unshipped_in_memory(self) -> int:
        """Events that Redis does not have and that no disk has."""
        return self._unshipped(segment for segment in self.segments if segment.path is None)

    def _unshipped(self, segments: Iterable[Segment]) -> int:
        return sum(max(segment.next_seq - max(segment.first_seq, self.shipped_seq), 0) for segment in segments)

    def rest(self) -> None:
        """Give memory back until there is another turn; the place where reading goes on is kept."""
        if self._reading is not None and self._reading.sealed:
            self._reading.let_go()

    def close(self) -> None:
        """Give all memory back."""
        self._let_go()
        for segment in self.segments:
            segment.let_go()

    def _segment(self) -> Segment | None:
        """Where the cursor stands."""
        if self._reading is None and self.segments:
            start = self.segments[0]
            for segment in self.segments:
                if segment.first_seq > self.shipped_seq:
                    break
                start = segment
            self._read_from(start)
        return self._reading

    def _following(self, segment: Segment) -> Segment | None:
        if not segment.sealed:
            return None
        # By its place, whatever the numbers say: who goes on never comes back.
        return next(islice(self.segments, self.segments.index(segment) + 1, None), None)

    def _read_from(self, segment: Segment) -> None:
        self._let_go()
        self._reading = segment
        self._position = self._read_to = HEADER_BYTES

    def _let_go(self) -> None:
        if self._reading is not None and self._reading.sealed:
            self._reading.let_go()
        self._reading = None


def remove_segments(segments: list[Segment]) -> None:
    """Delete what is stored; a damaged file is kept aside. Blocks."""
    for segment in segments:
        try:
            if segment.damaged and segment.path is not None:
                segment.let_go()
                set_aside(segment.path)
            else:
                segment.remove()
        except OSError as error:
            # Its events are stored: whoever adopts the folder finds that out again.
            counters.journal_disk_faults.labels(type(error).__name__).inc()
