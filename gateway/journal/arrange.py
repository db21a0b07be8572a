"""The files of a dead boot in order: each number in one of them, and each file behind the one before.

A gateway writes every number into one file. Somebody may have copied or renamed files, and a damaged header leaves
only the name to go by. In: the segments of a folder. Out: those to ship, whose numbers rise from file to file. What
another file has as well is kept aside, and where several have what the others lack, a new file has all of it. Blocks.

Only files in doubt are read: those whose header is damaged, those that begin alike, and the neighbours of such.
Killed at any step, what it leaves is arranged again to the same: a new file is there, under a name that says so, before
any that it is made of is moved, and it has all of them.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.journal.boot import Boot, set_aside, sync_folder
from gateway.journal.records import RECORD_OVERHEAD_BYTES, Record
from gateway.journal.segment import HEADER_BYTES, SUFFIX, Segment, allocate
from shared import counters
from shared.logs import get_log

_UNBORN: Final = ".new"
_MERGED: Final = "-merged"
"""What the name of a new file ends with: others may lie beside it that it was made of."""


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
        return (self.in_doubt or following.in_doubt) and following.first_seq < self.next_seq

    @property
    def in_doubt(self) -> bool:
        """Whether other files may hold what it holds, wherever they begin."""
        path = self.segment.path
        return not self.segment.headed or (path is not None and path.stem.endswith(_MERGED))


def arrange(boot: Boot, segments: Iterable[Segment]) -> list[Segment]:
    """The segments of a boot to be shipped, in order. Raises OSError."""
    groups: list[list[_File]] = []
    for file in sorted(map(_File, segments), key=lambda file: file.first_seq):
        if groups and any(before.overlaps(file) for before in groups[-1]):
            groups[-1].append(file)
        else:
            groups.append([file])
    kept = [_joined(boot, group) for group in groups]
    for place, file in enumerate(kept):
        # Below the first one everything was confirmed: what its damaged beginning held was not.
        file.segment.first_seq = min(file.first_seq, file.segment.first_seq) if place == 0 else file.first_seq
    return [file.segment for file in kept]


def _joined(boot: Boot, files: list[_File]) -> _File:
    """One file with all that several hold; what is not needed any more is kept aside."""
    if len(files) == 1:
        return files[0]
    best = max(files, key=lambda file: (len(file.numbers), file.segment.headed))
    if not set().union(*(file.numbers for file in files)) <= best.numbers:
        best = _File(_merged(boot, files))
    for file in files:
        # It may have taken the place of one that was made before.
        if file.segment.path != best.segment.path:
            _leave(boot, file.segment)
    return best


def _leave(boot: Boot, segment: Segment) -> None:
    if segment.path is None:
        return
    if not segment.damaged:
        counters.journal_damaged.inc()
    get_log("orphans").error("segment_twice", folder=boot.folder.name, file=segment.path.name)
    segment.let_go()
    set_aside(segment.path)


def _merged(boot: Boot, files: list[_File]) -> Segment:
    """A file with the records of all, on disk before any is touched."""
    found: dict[int, Record] = {}
    for file in files:
        found |= {record.seq: record for record in file.segment.records(HEADER_BYTES)}
        file.segment.let_go()
    # Where the first of them begins, though its first record may be lost: so they are found to belong together again.
    first_seq = min(file.first_seq for file in files)
    path = _merged_name(boot, first_seq, {file.segment.path for file in files})
    unborn = path.with_suffix(_UNBORN)
    unborn.unlink(missing_ok=True)
    size_bytes = HEADER_BYTES + sum(RECORD_OVERHEAD_BYTES + len(record.body) for record in found.values())
    allocate(unborn, size_bytes)
    segment = Segment.begin(unborn, boot.record.source, first_seq, size_bytes, boot.record.partitions)
    for seq, record in sorted(found.items()):
        segment.append(seq, record.body)
    segment.sync()
    segment.let_go()
    unborn.rename(path)
    sync_folder(boot.folder)
    return Segment.open(path, boot.record.source)


def _merged_name(boot: Boot, first_seq: int, replaced: set[Path | None]) -> Path:
    """A name that is free, or that of one of those that the new file has all of."""
    mores = itertools.chain([""], (f"-{number}" for number in itertools.count(1)))
    paths = (boot.folder / f"{first_seq:020d}{more}{_MERGED}{SUFFIX}" for more in mores)
    return next(path for path in paths if path in replaced or not path.exists())
