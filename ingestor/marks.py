"""Which numbers of a source are taken care of: stored in ClickHouse, kept as dead letters, or of no event at all. Pure.

A mark is a set of numbers, kept as ranges. Almost always it is one range from 0, and its end is all there is to say;
where something is missing there are more, and only what is missing is taken when it comes again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import msgspec

Range = tuple[int, int]
"""First number, and the number behind the last."""


class Marks(msgspec.Struct, frozen=True):
    """Ranges in order, none of which touches the next."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Self:
        """Any ranges, in any order."""
        merged: list[Range] = []
        for first, end in sorted(ranges):
            if first >= end:
                continue
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((first, end))
        return cls(tuple(merged))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The text of `encode`. Raises ValueError."""
        ranges = []
        for piece in text.split(","):
            first, dash, end = piece.partition("-")
            ranges.append((int(first), int(end)) if dash else (0, int(first)))
        return cls.of(ranges)

    def encode(self) -> str:
        """`N` for all numbers below N, then `,first-end` for what is beyond; how Redis keeps it."""
        beyond = "".join(f",{first}-{end}" for first, end in self.ranges if first)
        return f"{self.end_of_first}{beyond}"

    @property
    def end_of_first(self) -> int:
        """Everything below is taken care of."""
        return self.ranges[0][1] if self.ranges and not self.ranges[0][0] else 0

    @property
    def end(self) -> int:
        """The number behind the highest."""
        return self.ranges[-1][1] if self.ranges else 0

    @property
    def missing(self) -> int:
        """How many numbers are missing below the highest that is not."""
        return sum(first - end for end, first in self._holes())

    def with_ranges(self, *ranges: Range) -> Self:
        """These and what is here."""
        if len(ranges) == 1 and len(self.ranges) == 1 and self.ranges[0][0] <= ranges[0][0] <= self.ranges[0][1]:
            return type(self)(((self.ranges[0][0], max(self.ranges[0][1], ranges[0][1])),))
        return self.of((*self.ranges, *ranges))

    def overlaps(self, ranges: Sequence[Range]) -> bool:
        """Whether any number of these ranges is here."""
        return any(first < known_end and known < end for first, end in ranges for known, known_end in self.ranges)

    def fresh(self, seqs: Sequence[int]) -> list[int]:
        """The places in `seqs`, which rise, of the numbers that are not here."""
        found, at = [], 0
        for place, seq in enumerate(seqs):
            while at < len(self.ranges) and self.ranges[at][1] <= seq:
                at += 1
            if at == len(self.ranges) or seq < self.ranges[at][0]:
                found.append(place)
        return found

    def _holes(self) -> Iterator[Range]:
        end = 0
        for first, following in self.ranges:
            if first > end:
                yield end, first
            end = following


def runs_of(seqs: Sequence[int]) -> list[Range]:
    """Rising numbers as ranges."""
    if seqs and seqs[-1] - seqs[0] == len(seqs) - 1:
        return [(seqs[0], seqs[-1] + 1)]
    runs: list[Range] = []
    for seq in seqs:
        if runs and runs[-1][1] == seq:
            runs[-1] = (runs[-1][0], seq + 1)
        else:
            runs.append((seq, seq + 1))
    return runs
