"""The files of a dead boot in order: each number in one of them, and each file behind the one before.

A gateway writes every number into one file. Somebody may have copied or renamed files, and a damaged header leaves
only the name to go by. In: the segments of a folder. Out: those to ship, whose numbers rise from file to file. What
another file has as well is kept aside, and where two have what the other lacks, a new file has all of it. Blocks.

Only files in doubt are read: those whose header is damaged, those that begin alike, and the neighbours of such.
"""

from collections.abc import Iterable
from typing import Final

from gateway.journal.boot import Boot, set_aside
from gateway.journal.records import RECORD_OVERHEAD_BYTES, Record
from gateway.journal.segment import HEADER_BYTES, SUFFIX, Segment, allocate
from shared import counters
from shared.logs import get_log

_UNBORN: Final = ".new"


class _File:
    """A segment, and the numbers in it as far as they are needed."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._numbers: set[int] | None = None

    @property
    def numbers(self) -> set[int]:
        if self._numbers is None:
            self._numbers = set(self.segment.numbers())
            self.segment.let_go()
        return self._numbers

    @property
    def first_seq(self) -> int:
        """Where it begins: as its header says, or else its records, or else its name."""
        return self.segment.first_seq if self.segment.headed else min(self.numbers, default=self.segment.first_seq)

    @property
    def next_seq(self) -> int:
        return max(self.numbers, default=self.first_seq - 1) + 1

    def overlaps(self, following: "_File") -> bool:
        """Whether one that does not begin before this one may hold what this one holds."""
        if self.first_seq == following.first_seq:
            return True
        in_doubt = not (self.segment.headed and following.segment.headed)
        return in_doubt and following.first_seq < self.next_seq


def arrange(boot: Boot, segments: Iterable[Segment]) -> list[Segment]:
    """The segments of a boot to be shipped, in order. Raises OSError."""
    kept: list[_File] = []
    for file in sorted(map(_File, segments), key=lambda file: file.first_seq):
        if kept and kept[-1].overlaps(file):
            kept[-1] = _joined(boot, kept[-1], file)
        else:
            kept.append(file)
    for place, file in enumerate(kept):
        # Below the first one everything was confirmed: what its damaged beginning held was not.
        file.segment.first_seq = min(file.first_seq, file.segment.first_seq) if place == 0 else file.first_seq
    return [file.segment for file in kept]


def _joined(boot: Boot, one: _File, other: _File) -> _File:
    """One file with all that two hold; what is not needed any more is kept aside."""
    best, less = sorted((one, other), key=lambda file: (len(file.numbers), file.segment.headed), reverse=True)
    if less.numbers <= best.numbers:
        _leave(boot, less.segment)
        return best
    whole = _File(_merged(boot, best.segment, less.segment))
    for file in (best, less):
        if file.segment.path != whole.segment.path:
            _leave(boot, file.segment)
    return whole


def _leave(boot: Boot, segment: Segment) -> None:
    if segment.path is None:
        return
    if not segment.damaged:
        counters.journal_damaged.inc()
    get_log("orphans").error("segment_twice", folder=boot.folder.name, file=segment.path.name)
    segment.let_go()
    set_aside(segment.path)


def _merged(boot: Boot, one: Segment, other: Segment) -> Segment:
    """A file with the records of both, on disk before either is touched."""
    found: dict[int, Record] = {}
    for segment in (other, one):
        found |= {record.seq: record for record in segment.records(HEADER_BYTES)}
        segment.let_go()
    path = boot.folder / f"{min(found):020d}-merged{SUFFIX}"
    unborn = path.with_suffix(_UNBORN)
    unborn.unlink(missing_ok=True)
    size_bytes = HEADER_BYTES + sum(RECORD_OVERHEAD_BYTES + len(record.body) for record in found.values())
    allocate(unborn, size_bytes)
    segment = Segment.begin(unborn, boot.record.source, min(found), size_bytes, boot.record.partitions)
    for seq, record in sorted(found.items()):
        segment.append(seq, record.body)
    segment.sync()
    segment.let_go()
    unborn.rename(path)
    return Segment.open(path, boot.record.source)
