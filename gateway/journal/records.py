"""The records in the bytes of a segment, and the way around a place where none can be read. Pure.

In: bytes, and a position where a record begins or should. Out: whole records; behind a bad place, the next intact one.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

RECORD_OVERHEAD_BYTES: Final = 16
RECORD: Final = struct.Struct("<IIQ")
"""Length of the body, CRC-32 of all else, seq."""
SIZE_AND_SEQ: Final = struct.Struct("<IQ")
_CRC_AND_LOWER_SEQ_BYTES: Final = 8
_SEQ_UPPER_BITS: Final = 32
_MOST_CHECKED: Final = 16
"""Times its own size that a file is checksummed, at most, in search of a record: what looks like one may be text."""
_WINDOW_BYTES: Final = 64 << 10
"""Looked at in one call: no other thread runs meanwhile."""
_NOT_ZERO: Final = re.compile(rb"[^\0]")


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event as it lies in a segment; `end` is the position behind it."""

    seq: int
    body: bytes
    end: int


def records(data: mmap.mmap | bytes, position: int, limit: int) -> Iterator[Record]:
    """Whole records from a position up to a limit; ends at the first that is none."""
    while position + RECORD_OVERHEAD_BYTES <= limit:
        size, crc, seq = RECORD.unpack_from(data, position)
        end = position + RECORD_OVERHEAD_BYTES + size
        if not size or end > limit:
            return
        body = data[position + RECORD_OVERHEAD_BYTES : end]
        if zlib.crc32(body, zlib.crc32(SIZE_AND_SEQ.pack(size, seq))) != crc:
            return
        yield Record(seq, body, end)
        position = end


def is_blank(data: mmap.mmap | bytes, position: int, limit: int) -> bool:
    """Whether there are only zeros from a position up to a limit."""
    return all(_NOT_ZERO.search(data, at, min(at + _WINDOW_BYTES, limit)) is None for at in _windows(position, limit))


def record_behind(data: mmap.mmap | bytes, bad: int, limit: int, seq: int) -> tuple[int, int] | None:
    """Position and number of the first intact record behind a bad place; None if there is none.

    `seq` is the number that belongs to the bad place: only what has a later one is an intact record behind it.
    """
    if bad + RECORD_OVERHEAD_BYTES > limit or is_blank(data, bad, limit):
        return None
    # Almost always the length is right, and one record is lost; nothing else is looked at then.
    (size, *_) = RECORD.unpack_from(data, bad)
    stated = bad + RECORD_OVERHEAD_BYTES + size
    following = next(records(data, stated, limit), None)
    if following is not None and following.seq == seq + 1:
        return stated, following.seq
    return _search(data, bad + 1, limit, seq)


def _search(data: mmap.mmap | bytes, start: int, limit: int, seq: int) -> tuple[int, int] | None:
    heads, budget = _heads(limit, seq), _MOST_CHECKED * limit
    for window in _windows(start, limit):
        until = min(window + _WINDOW_BYTES + RECORD_OVERHEAD_BYTES - 1, limit)
        if is_blank(data, window, until):
            continue
        for found in heads.finditer(data, window, until):
            at = found.start()
            size, _, number = RECORD.unpack_from(data, at)
            if number <= seq or at + RECORD_OVERHEAD_BYTES + size > limit:
                continue
            budget -= size
            if budget < 0:
                return None
            if next(records(data, at, limit), None) is not None:
                return at, number
    return None


def _windows(start: int, limit: int) -> range:
    return range(start, limit, _WINDOW_BYTES)


def _heads(limit: int, seq: int) -> re.Pattern[bytes]:
    """What the head of a record can look like: the upper bytes of its length and of its number are known."""
    size_bytes = (limit.bit_length() + 7) // 8
    upper = seq >> _SEQ_UPPER_BITS
    uppers = b"|".join(re.escape(number.to_bytes(4, "little")) for number in (upper, upper + 1))
    size = b"." * size_bytes + rb"\0" * (4 - size_bytes)
    return re.compile(rb"(?s)(?=(?!\0{4})" + size + b"." * _CRC_AND_LOWER_SEQ_BYTES + b"(?:" + uppers + b"))")
