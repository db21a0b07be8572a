"""The first of many rules that matches, found through numbers. Pure.

A model condition is a span of names in byte order: `gpt*` begins at `gpt` and ends before `gpu`, `gpt-4o` spans itself
alone. Two spans are nested or apart, never across each other. The edges of all spans cut the names into strips, and
within a strip the same conditions hold: one bisection over the edges turns a model into a number. Values of feature,
task and provider are numbers too. Rules that ask for the same three are one group, and of each group the first rule in
every strip is known beforehand.

The bound: a request belongs to eight groups at most, one for each choice of the three. With n rules that is one
bisection over 2n edges, eight dictionary look-ups and eight bisections over numbers, however rules are mixed and
however deep prefixes are nested. Memory: two edges, and two strips of its group, for each rule.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

NO_RULE: Final = 1 << 62
"""The place of no rule: behind all others."""

_Strips = tuple[tuple[int, ...], tuple[int, ...]]
"""Where strips begin, and the place of the first rule before the first of these and in each of them."""


class Entry(NamedTuple):
    """An enabled rule as numbers."""

    place: int
    """In `RuleTable.ordered`."""
    group: int
    choice: int
    """Which bits of a group's number it asks for."""
    span: tuple[int, int] | None
    """Its first strip, and the first behind it; None for all strips."""


class RuleIndex:
    """Some of the rules, by group and strip."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """`entries` in the order of their places."""
        whole: dict[int, int] = {}
        parts: dict[int, list[tuple[int, int, int]]] = {}
        least: dict[int, int] = {}
        for place, group, choice, span in entries:
            least.setdefault(choice, place)
            if span is None:
                whole.setdefault(group, place)
            else:
                parts.setdefault(group, []).append((span[0], -span[1], place))
        self._strips: dict[int, _Strips] = {group: ((), (place,)) for group, place in whole.items()}
        for group, spans in parts.items():
            self._strips[group] = _strips(spans, whole.get(group, NO_RULE))
        self.choices: Final = tuple((place, choice) for choice, place in least.items())
        """Which bits of a group's number rules ask for, and the place of the first rule that asks for these."""

    def first(self, group: int, strip: int) -> int:
        """The place of the first rule that matches; NO_RULE if there is none."""
        found = NO_RULE
        strips_of = self._strips.get
        for least, choice in self.choices:
            if least > found:
                break
            # A value that no rule names looks unset here, and leads to the group of the unset once more.
            strips = strips_of(group & choice)
            if strips:
                starts, places = strips
                place = places[bisect_right(starts, strip)] if starts else places[0]
                if place < found:  # noqa: PLR1730 - min() costs as much as the bisection
                    found = place
        return found


def numbers_of(values: Iterable[str | None], *, above: int) -> tuple[dict[str | None, int], int]:
    """A number for each value that is set, and the bits that these numbers are made of: all of them beyond `above`."""
    named = dict.fromkeys(value for value in values if value is not None)
    shift = above.bit_length()
    bits = (1 << len(named).bit_length()) - 1
    return {value: number << shift for number, value in enumerate(named, start=1)}, bits << shift


def _strips(spans: Iterable[tuple[int, int, int]], whole: int) -> _Strips:
    """The first rule of every strip, from spans as (start, -end, place) and the first rule that has no span."""
    starts: list[int] = []
    places = [whole]
    # The spans that the sweep is in, the innermost last: where each ends, and the first rule within.
    around = [(NO_RULE, whole)]

    def begin(start: int, place: int) -> None:
        # Of several that begin together the last one counts: a bisection to the right ends behind all of them.
        if places[-1] != place:
            starts.append(start)
            places.append(place)

    # Of spans that begin together the longest first: so whatever is open contains what comes next.
    for start, minus_end, place in [*sorted(spans), (NO_RULE - 1, 0, NO_RULE)]:
        while around[-1][0] <= start:
            end, _ = around.pop()
            begin(end, around[-1][1])
        first = min(place, around[-1][1])
        around.append((-minus_end, first))
        begin(start, first)
    return tuple(starts), tuple(places)


def _beginning_of(model: str | None) -> bytes | None:
    """What names that the condition holds for begin with; None for a condition on one name."""
    if model is None:
        return b""
    return bytes_of(model[:-1]) if model.endswith("*") else None


def span_of(model: str | None) -> tuple[bytes, bytes] | None:
    """The first name that the condition holds for, and the first behind those; None if it holds for every name."""
    beginning = _beginning_of(model)
    if beginning is None:
        name = bytes_of(model or "")
        return name, name + b"\0"
    # No byte of UTF-8 is the highest.
    return (beginning, beginning[:-1] + bytes((beginning[-1] + 1,))) if beginning else None


def own_name_of(model: str | None) -> bytes:
    """A name that the condition holds for, and of other conditions only those that hold for all names of this one.

    A beginning goes on with a byte that stands in no UTF-8, so that it is in no span within its own.
    """
    beginning = _beginning_of(model)
    return bytes_of(model or "") if beginning is None else beginning + b"\xff"


def bytes_of(text: str) -> bytes:
    """Compared as fast whatever characters it has; text with and without wide ones is compared one by one."""
    return text.encode("utf-8", "surrogatepass")
