"""Native format: what the driver's reader makes of our bytes, at the edges of lengths, widths and types."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.native import Codes, Flags, Lists, Nullable, Numbers, Repeated, Sendable, Strings, Wide, block, length
from tests.native_reader import read_block

any_text = st.text(st.characters(codec="utf-8"), max_size=300)


def read(kind: str, column: Sendable, rows: int) -> list[Any]:
    return [row["c"] for row in read_block(block(rows, [("c", kind, column)]))]


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (2**14, b"\x80\x80\x01")]
)
def test_lengths_have_seven_bits_a_byte(value: int, data: bytes) -> None:
    """Least significant first, the highest bit set in all but the last."""
    assert length(value) == data


@given(st.lists(st.lists(any_text, max_size=5), min_size=1, max_size=4))
def test_texts(parts: list[list[str]]) -> None:
    """Both ways of sending text carry any text, added in any portions."""
    plain, repeated = Strings(), Repeated()
    for part in parts:
        plain.add(part)
        repeated.add(part)
    values = [value for part in parts for value in part]
    assert read("String", plain, len(values)) == values
    assert read("LowCardinality(String)", repeated, len(values)) == values


@pytest.mark.parametrize("distinct", [1, 255, 256, 257, 70_000])
def test_dictionaries_of_any_size(distinct: int) -> None:
    """Numbers grow wider on the way, when there are more texts than a byte can tell apart."""
    values = [f"text-{number}" for number in range(distinct)]
    repeated = Repeated()
    for start in range(0, distinct, 100):
        repeated.add(values[start : start + 100])
    repeated.add(values)
    assert read("LowCardinality(String)", repeated, 2 * distinct) == values + values


@given(st.lists(st.lists(st.lists(st.sampled_from(["", "a", "é"]), max_size=3).map(tuple), max_size=4), min_size=1))
def test_lists(parts: list[list[tuple[str, ...]]]) -> None:
    """Lists of texts, empty ones included."""
    lists = Lists()
    for part in parts:
        lists.add(part)
    values = [list(value) for part in parts for value in part]
    assert read("Array(LowCardinality(String))", lists, len(values)) == values


@given(st.lists(st.integers(-(10**27), 10**27)))
def test_decimals(values: list[int]) -> None:
    """Beyond 64 bits, either sign, small and large ones mixed."""
    wide, cost = Wide(), Wide()
    for value in values:
        wide.add([value])
    cost.add(values)
    expected = [Decimal(value).scaleb(-12) for value in values]
    assert read("Decimal(38, 12)", wide, len(values)) == expected
    assert read("Decimal(38, 12)", cost, len(values)) == expected


def test_a_number_that_does_not_fit_adds_nothing() -> None:
    """OverflowError, and the column is as before: the others of its portion are not added either."""
    for typecode, kind, limit in (("H", "UInt16", 2**16), ("I", "UInt32", 2**32), ("Q", "UInt64", 2**64)):
        numbers = Numbers(typecode)
        numbers.add([1])
        for wrong in (-1, limit):
            with pytest.raises(OverflowError):
                numbers.add([2, 3, wrong])
        numbers.repeat(7, 2)
        assert read(kind, numbers, 3) == [1, 7, 7]


def test_marks_of_null() -> None:
    """A marked value is NULL."""
    numbers = Numbers("d")
    numbers.add([0.5, 0.0])
    nullable = Nullable(numbers)
    nullable.mark(b"\0\1")
    flags = Flags()
    flags.add([True, False])
    assert read("Nullable(Float64)", nullable, 2) == [0.5, None]
    assert read("Bool", flags, 2) == [True, False]


@pytest.mark.parametrize("keys", [3, 300])
def test_keys_stand_for_texts_and_numbers(keys: int) -> None:
    """Several columns come from one key per row; different keys may have the same text."""
    codes: Codes[int] = Codes()
    codes.add(list(range(keys)) * 2)
    named = codes.named(lambda key: f"text-{key % 2}")
    assert read("LowCardinality(String)", named, 2 * keys) == [f"text-{key % 2}" for key in range(keys)] * 2
    assert codes.each(lambda key: key % 2) == bytes(key % 2 for key in range(keys)) * 2
    assert codes.counts() == dict.fromkeys(range(keys), 2)
