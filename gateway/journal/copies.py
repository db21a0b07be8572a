"""Two folders of one dead boot, as a person leaves them who brings a copy back: made one, before its end is said.

In: the segments of both, whose locks this process holds. Out: those of one folder, to be arranged; the other one holds
nothing any more that the first does not have. Killed at any step it leaves two folders, of which the same is made
again. Blocks.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

from gateway.journal.segment import SUFFIX, Segment


def gather(folder: Path, own: Iterable[Segment], others: Iterable[Segment]) -> list[Segment]:
    """The segments of a folder, and those of another one that have something more, moved there. Raises OSError."""
    found = list(own)
    same_name = {segment.path.name: segment for segment in found if segment.path is not None}
    for segment in others:
        if segment.path is None or _adds_nothing(segment, same_name.get(segment.path.name)):
            continue
        segment.let_go()
        segment.path = segment.path.rename(_free_name(folder, segment.first_seq))
        found.append(segment)
    return found


def _adds_nothing(segment: Segment, other: Segment | None) -> bool:
    """Whether another one has all of it. One that is damaged is kept, for a person to look at."""
    if other is None:
        return False
    numbers = [set(one.numbers()) for one in (segment, other)]
    for one in (segment, other):
        one.let_go()
    return numbers[0] <= numbers[1] and not segment.damaged


def _free_name(folder: Path, first_seq: int) -> Path:
    """A name that says nothing but a number: where a header is lost, files with other names are not read."""
    names = (folder / f"{number:020d}{SUFFIX}" for number in itertools.count(first_seq))
    return next(path for path in names if not path.exists())
