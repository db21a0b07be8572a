"""Marks are sets of numbers: whatever is done with their ranges, a plain set gives the same."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestor.marks import Marks, Range, runs_of

LARGEST = 2**53
ranges = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=6)
marks = ranges.map(Marks.of)
rising = st.sets(st.integers(0, 26)).map(sorted)


def numbers_in(found: list[Range] | tuple[Range, ...]) -> set[int]:
    return {number for first, end in found for number in range(first, end)}


def assert_normal(mark: Marks) -> None:
    """The ranges are in order, none is empty, and none touches the next: one set has one form."""
    ends = [-1]
    for first, end in mark.ranges:
        assert ends[-1] < first < end
        ends.append(end)


@given(ranges)
def test_ranges_make_a_set(given_ranges: list[Range]) -> None:
    """Ranges in any order, overlapping, touching, or the wrong way round, give the set of their numbers."""
    made = Marks.of(given_ranges)
    assert_normal(made)
    assert numbers_in(made.ranges) == numbers_in(given_ranges)


@given(marks, ranges)
@example(Marks.of([(0, 10)]), [(5, 3)])
@example(Marks.of([(0, 10)]), [(10, 12)])
@example(Marks.of([(3, 10)]), [(2, 4)])
def test_adding_is_a_union(mark: Marks, more: list[Range]) -> None:
    """What is added joins what is there, and the marks before are as they were."""
    before = numbers_in(mark.ranges)
    joined = mark.with_ranges(*more)
    assert_normal(joined)
    assert numbers_in(joined.ranges) == before | numbers_in(more)
    assert numbers_in(mark.ranges) == before


@given(marks, rising)
def test_fresh_is_a_difference(mark: Marks, seqs: list[int]) -> None:
    """The places of the numbers that are not in the marks, in order."""
    known = numbers_in(mark.ranges)
    assert mark.fresh(seqs) == [place for place, seq in enumerate(seqs) if seq not in known]


@given(marks, marks)
def test_an_overlap_is_a_number_in_both(mark: Marks, other: Marks) -> None:
    """Ranges overlap marks when a number of theirs is among them."""
    assert mark.overlaps(other.ranges) == bool(numbers_in(mark.ranges) & numbers_in(other.ranges))


@given(marks)
def test_marks_come_back_as_they_went(mark: Marks) -> None:
    """What Redis keeps of marks gives the same marks again; it begins with the number below which none is missing."""
    text = mark.encode()
    assert Marks.parse(text) == mark
    assert int(text.partition(",")[0]) == mark.end_of_first


@given(marks)
def test_what_is_missing(mark: Marks) -> None:
    """Everything below `end_of_first` is there and it is not; `missing` counts the holes below the highest number."""
    known = numbers_in(mark.ranges)
    assert set(range(mark.end_of_first)) <= known
    assert mark.end_of_first not in known
    assert mark.missing == len(set(range(max(known, default=0))) - known)


@given(rising)
def test_runs_are_the_numbers(seqs: list[int]) -> None:
    """Rising numbers come as the fewest ranges that hold them and nothing else."""
    runs = runs_of(seqs)
    assert numbers_in(runs) == set(seqs)
    assert Marks.of(runs).ranges == tuple(runs)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], "0"),
        ([(0, 5)], "5"),
        ([(3, 5)], "0,3-5"),
        ([(0, 2), (3, 5), (9, LARGEST)], f"2,3-5,9-{LARGEST}"),
        ([(0, LARGEST)], f"{LARGEST}"),
    ],
)
def test_the_text_is_fixed(found: list[Range], text: str) -> None:
    """Marks that an earlier release wrote, a plain number too, are read, and are written in the same way."""
    assert Marks.of(found).encode() == text
    assert Marks.parse(text) == Marks.of(found)


@pytest.mark.parametrize("text", ["", "x", "5,", "5,x-7", "-5", "5,7-", "5;6"])
def test_what_are_no_marks_is_refused(text: str) -> None:
    """A text that is no list of ranges raises ValueError, and is not taken for nothing."""
    with pytest.raises(ValueError, match="int"):
        Marks.parse(text)
