"""How far a partition is: what is missing, and up to when everything is stored. Pure.

In: what Redis holds about the partition's sources at one moment. Out: numbers for metrics and for ClickHouse.
"""

from typing import Self

import msgspec

from ingestor.marks import Marks


class Seen(msgspec.Struct, frozen=True):
    """What a living gateway said of itself: at `at_ms` its next event had the number `next_seq`."""

    at_ms: int
    next_seq: int
    started_ms: int

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """`at:next:started`. Raises ValueError."""
        return cls(*map(int, text.split(b":")))

    @property
    def text(self) -> str:
        """As `parse` takes it."""
        return f"{self.at_ms}:{self.next_seq}:{self.started_ms}"


class Census(msgspec.Struct, frozen=True):
    """Everything about the sources of a partition. Times are Unix ms."""

    marks: dict[int, Marks]
    accepted: dict[int, int]
    seen: dict[int, Seen]
    fresh: dict[int, int]
    """When the last stored request ended, as long as none before it was missing."""
    ended: dict[int, int]
    """When the end of a source was stored; 0 while its record is on the stream; below 0: when it was given up."""
    waiting_frames: int
    first_frame_ms: int
    """When Redis took the oldest frame that waits; 0 if none does."""

    @property
    def missing(self) -> int:
        """Numbers that are neither stored, nor kept aside, nor of no event, below others that are."""
        return sum(marks.missing for marks in self.marks.values())

    def complete_up_to_ms(self, now_ms: int) -> int:
        """Every request that was recorded before is stored, by the clocks of the gateways."""
        bounds = [now_ms, *(self._bound_ms(source) for source in (self.accepted.keys() | self.seen.keys()))]
        return min(bound for bound in bounds if bound)

    def long_gone(self, before_ms: int) -> list[int]:
        """Sources last seen before, that never ended: their hosts are lost, with what was in their journals."""
        return [source for source, seen in self.seen.items() if seen.at_ms < before_ms]

    def silent(self, before_ms: int) -> list[int]:
        """Sources last seen before, or never, of which no end is on the stream."""
        return [
            source
            for source in self.accepted.keys() | self.seen.keys()
            if (source not in self.seen or self.seen[source].at_ms < before_ms) and self.ended.get(source) != 0
        ]

    def next_seq(self, source: int) -> int:
        """Numbers below this are known to be used."""
        seen = self.seen.get(source)
        return max(self.accepted.get(source, 0), seen.next_seq if seen is not None else 0)

    def long_ended(self, before_ms: int, given_up_before_ms: int) -> list[int]:
        """Sources that ended, or were given up, before these moments: nobody asks for them any more."""
        return [
            source for source, at_ms in self.ended.items() if 0 < at_ms < before_ms or -given_up_before_ms < at_ms < 0
        ]

    def _bound_ms(self, source: int) -> int:
        seen = self.seen.get(source)
        stored = self.marks.get(source, Marks()).end_of_first
        if seen is not None and stored >= seen.next_seq:
            return seen.at_ms
        if source in self.fresh:
            return self.fresh[source]
        return seen.started_ms if seen is not None else self.first_frame_ms
