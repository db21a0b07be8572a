"""Columns in ClickHouse's Native format (clickhouse.com/docs/interfaces/formats/Native), as far as inserts need it.

In: values, a thousand at a time. Out: the bytes of one block. Knows types and bytes, no events. The driver's encoder
takes each value in hand; here Python's own array, bytes and map do it, in a fraction of the time. Text that repeats is
sent once per block and a number per row, as LowCardinality is stored: less to send, to read and to sort out.

Raises OverflowError for a number that its type cannot hold, and then the column is as it was. Nothing else is raised.
"""

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import accumulate, chain
from typing import Final, Generic, Protocol, TypeVar

Piece = bytes | bytearray | memoryview
K = TypeVar("K", bound=Hashable)

_MORE: Final = 128
_SHORT: Final = [chr(size) for size in range(_MORE)]
"""Lengths of one byte, as text."""
_BYTE_NUMBERS: Final = 256
_VERSION: Final = (1).to_bytes(8, "little")
_OWN_KEYS: Final = 0x600
"""A dictionary that comes with the block. The lowest byte tells how wide its numbers are: 0 one byte, 2 four bytes."""
_WORD: Final = 2**64 - 1


class Sendable(Protocol):
    """What a block is made of."""

    def pieces(self) -> Iterable[Piece]:
        """The column's bytes, without its name and type."""


def block(rows: int, columns: Iterable[tuple[str, str, Sendable]]) -> bytes:
    """One block of (name, type, column), each column with this many rows."""
    count = 0
    parts: list[Piece] = [b""]
    for name, kind, column in columns:
        parts += [text(name), text(kind), *(column.pieces() if rows else ())]
        count += 1
    parts[0] = length(count) + length(rows)
    return b"".join(parts)


def length(value: int) -> bytes:
    """An unsigned number of variable width: seven bits a byte, lowest first."""
    out = bytearray()
    while value >= _MORE:
        out.append(value % _MORE | _MORE)
        value //= _MORE
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    """A String: its length in bytes, its UTF-8."""
    data = value.encode()
    return length(len(data)) + data


class Numbers:
    """Integers of an array typecode (H 16, I 32, Q 64 bits unsigned, q signed), floats (f 32, d 64 bits)."""

    def __init__(self, typecode: str) -> None:
        self._values: array[int] | array[float] = array(typecode)

    def add(self, values: list[int] | list[float]) -> None:
        """All of them or none. Raises OverflowError."""
        self._values.fromlist(values)  # type: ignore[arg-type] # the typecode tells which

    def repeat(self, value: int, times: int) -> None:
        """The same number several times. Raises OverflowError."""
        self._values.extend(array(self._values.typecode, [value]) * times)

    def count(self, start: int, times: int) -> None:
        """Consecutive numbers. Raises OverflowError."""
        self._values.extend(array(self._values.typecode, range(start, start + times)))

    def pieces(self) -> Iterable[Piece]:
        """Values back to back."""
        return [_little_endian(self._values)]


class Wide:
    """Decimal of 128 bits, as integers of its smallest unit."""

    def __init__(self) -> None:
        self._low, self._high = array("Q"), array("Q")

    def add(self, values: list[int]) -> None:
        """Any integers below 2^127."""
        try:
            self._low.fromlist(values)
            self._high.frombytes(bytes(8 * len(values)))
        except OverflowError:
            self._low.fromlist([value & _WORD for value in values])
            self._high.fromlist([value >> 64 & _WORD for value in values])

    def pieces(self) -> Iterable[Piece]:
        """Low half, high half, by turns."""
        words = array("Q", bytes(16 * len(self._low)))
        words[::2], words[1::2] = self._low, self._high
        return [_little_endian(words)]


class Nullable:
    """Values with a mark per row: 1 for NULL, where the value does not count, 0 for a value."""

    def __init__(self, values: Sendable) -> None:
        self._values = values
        self._nulls = bytearray()

    def mark(self, nulls: bytes) -> None:
        """Marks of further rows."""
        self._nulls += nulls

    def pieces(self) -> Iterable[Piece]:
        """All marks, then all values."""
        return [self._nulls, *self._values.pieces()]


class Flags:
    """Bool."""

    def __init__(self) -> None:
        self._values = bytearray()

    def add(self, values: list[bool]) -> None:
        """One byte each."""
        self._values += bytes(values)

    def pieces(self) -> Iterable[Piece]:
        """A byte each."""
        return [self._values]


class Strings:
    """String, for text that hardly repeats."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, values: Sequence[str]) -> None:
        """Short ASCII, which ids are, is put together as text and encoded once."""
        try:
            joined = "".join([_SHORT[len(value)] + value for value in values])
        except IndexError:
            joined = ""
        plain = joined and joined.isascii()
        self._parts.append(joined.encode() if plain else b"".join(map(text, values)))

    def pieces(self) -> Iterable[Piece]:
        """Length and text, by turns."""
        return self._parts


class Numbered(dict[K, int], Generic[K]):
    """Numbers for keys in the order in which they come: asking for a new key gives it the next one."""

    def __missing__(self, key: K) -> int:
        number = self[key] = len(self)
        return number


class Codes(Generic[K]):
    """The number of each row's key, in a byte as long as there are no more than 256 keys."""

    def __init__(self) -> None:
        self.keys: Numbered[K] = Numbered()
        self.numbers: bytearray | array[int] = bytearray()

    def add(self, keys: Iterable[K]) -> None:
        """A key per row."""
        numbers = list(map(self.keys.__getitem__, keys))
        if len(self.keys) > _BYTE_NUMBERS and isinstance(self.numbers, bytearray):
            self.numbers = array("I", list(self.numbers))  # given as bytes they would be read as whole numbers
        if isinstance(self.numbers, bytearray):
            self.numbers += bytes(numbers)
        else:
            self.numbers.fromlist(numbers)

    def each(self, of_key: Callable[[K], int]) -> bytes:
        """Per row, a number below 256 that its key stands for."""
        return bytes(map(list(map(of_key, self.keys)).__getitem__, self.numbers))

    def named(self, of_key: Callable[[K], str]) -> "Repeated":
        """Per row, a text that its key stands for."""
        names = Repeated()
        numbers = [names.keys[of_key(key)] for key in self.keys]
        if isinstance(self.numbers, bytearray):
            names.numbers = self.numbers.translate(bytes(numbers).ljust(_BYTE_NUMBERS, b"\0"))
        else:
            names.numbers = array("I", [numbers[number] for number in self.numbers])
        return names

    def counts(self) -> dict[K, int]:
        """How many rows have each key."""
        # Looking for one key after the other is fast among bytes only; of anything else there are many keys.
        if isinstance(self.numbers, bytearray):
            return {key: self.numbers.count(number) for key, number in self.keys.items()}
        found = Counter(self.numbers)
        return {key: found[number] for key, number in self.keys.items()}


class Repeated(Codes[str]):
    """LowCardinality(String)."""

    def pieces(self) -> Iterable[Piece]:
        """The version comes first even where lists are around."""
        return [_VERSION, *self.body()]

    def body(self) -> Iterable[Piece]:
        """Dictionary and rows; nothing at all for no rows."""
        if not self.numbers:
            return []
        width, numbers = (0, self.numbers) if isinstance(self.numbers, bytearray) else (2, _little_endian(self.numbers))
        head = struct.pack("<QQ", _OWN_KEYS | width, len(self.keys))
        return [head, *map(text, self.keys), struct.pack("<Q", len(self.numbers)), numbers]


class Lists:
    """Array(LowCardinality(String))."""

    def __init__(self) -> None:
        self._ends = Numbers("Q")
        self._items = Repeated()

    def add(self, values: Sequence[tuple[str, ...]]) -> None:
        """A list per row."""
        start = len(self._items.numbers)
        if any(values):
            self._ends.add(list(accumulate(map(len, values), initial=start))[1:])
            self._items.add(chain.from_iterable(values))
        else:
            self._ends.repeat(start, len(values))

    def pieces(self) -> Iterable[Piece]:
        """Where each list ends, then the items of all."""
        return [_VERSION, *self._ends.pieces(), *self._items.body()]


def _little_endian(values: "array[int] | array[float]") -> memoryview:
    if sys.byteorder != "little":
        values = values[:]
        values.byteswap()
    # A view of nothing cannot be cast.
    return memoryview(values).cast("B") if values else memoryview(b"")
