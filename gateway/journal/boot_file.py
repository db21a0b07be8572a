"""The file `boot` of a folder of the journal: who writes there, and what its process notes of itself. No I/O.

In: the mapped file, which its process stores into on the way of a request and whoever adopts the folder reads. Out:
what can be trusted of it. The record is there twice, and every other number has something to be checked against: what
a disk spoiled is no number at all, rather than a million requests.
"""

import mmap
import struct
import zlib
from typing import Final

import msgspec

from shared.stream import FRAME_VERSION

SIZE_BYTES: Final = 4096
_RECORD_BYTES: Final = 1024
"""Where a record must end."""
_RECORDS_AT: Final = (0, 2048)
_HEAD: Final = struct.Struct("<II")
_END_AT: Final = _RECORD_BYTES + 8
_END: Final = struct.Struct("<QQ")
"""The number behind the last one used, plus 1, and the time, Unix ms; zeros until the process ends in order."""
_SAID_END_AT: Final = _RECORD_BYTES + 24
_SAID_END: Final = struct.Struct("<QQQ")
"""The number that the end record stands behind, and its entry's id in two parts; zeros until it is on the stream."""
_BEGUN_AT: Final = _RECORD_BYTES + 48
_USED_AT: Final = _RECORD_BYTES + 64
_COUNT: Final = struct.Struct("<QQ")
"""A count and its inverse, stored by one copy: packed in place, byte by byte, a kill would leave half of them."""
_BARE_BEGUN_AT: Final = _RECORD_BYTES
_BARE_COUNT: Final = struct.Struct("<Q")
"""A count that nothing can be checked against."""
_END_CRC_AT: Final = _RECORD_BYTES + 80
_SAID_END_CRC_AT: Final = _RECORD_BYTES + 84
"""0 where a release of before noted an end that was said."""
_CRC: Final = struct.Struct("<I")
_INVERSE: Final = 2**64 - 1


class NewerBoot(Exception):
    """A folder of a release whose events this one cannot send: it waits for a gateway of that release."""


class BootRecord(msgspec.Struct, frozen=True):
    """Who wrote a folder."""

    source: int
    instance: str
    partitions: int
    """How many stream partitions there were: a source stays in the partition it began in."""
    started_ms: int
    version: int = FRAME_VERSION
    """Of the events in the folder: that of the frames they are made for."""


class SaidEnd(msgspec.Struct, frozen=True):
    """An end record that was put on the stream behind all events below `next_seq`."""

    next_seq: int
    entry_id: str


class _Version(msgspec.Struct, frozen=True):
    version: int = 1


def encode_record(record: BootRecord) -> bytes:
    """The content of a new file. Raises OSError if the instance's name is too long for it."""
    data = msgspec.json.encode(record)
    if len(data) + _HEAD.size > _RECORD_BYTES:
        raise OSError(f"the instance's name is too long: {len(record.instance)} characters")
    content = bytearray(SIZE_BYTES)
    for at in _RECORDS_AT:
        content[at : at + _HEAD.size + len(data)] = _HEAD.pack(len(data), zlib.crc32(data)) + data
    for at in (_BEGUN_AT, _USED_AT):
        _COUNT.pack_into(content, at, 0, _INVERSE)
    return bytes(content)


class BootFile:
    """A mapped file `boot` of SIZE_BYTES."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.map = mapped

    def record(self) -> BootRecord | None:
        """Who wrote the folder; None if that cannot be read. Raises NewerBoot."""
        return self._record_at(_RECORDS_AT[0]) or self._record_at(_RECORDS_AT[1])

    def replace_record(self, record: BootRecord) -> None:
        """Note who wrote the folder, where that could not be read."""
        content = encode_record(record)
        for at in _RECORDS_AT:
            self.map[at : at + _RECORD_BYTES] = content[at : at + _RECORD_BYTES]

    @property
    def damaged(self) -> bool:
        """Whether a part of it cannot be read."""
        if self._is_bare:
            return False
        return None in (*map(self._record_at, _RECORDS_AT), self.begun, self.used) or not self._end_fits

    @property
    def begun(self) -> int | None:
        """Requests of known organisations that were begun; None if that cannot be read."""
        if self._is_bare:
            return int(_BARE_COUNT.unpack_from(self.map, _BARE_BEGUN_AT)[0])
        return self._count_at(_BEGUN_AT)

    def note_begun(self, count: int) -> None:
        """Note how many requests were begun."""
        self.map[_BEGUN_AT : _BEGUN_AT + _COUNT.size] = _COUNT.pack(count, count ^ _INVERSE)

    @property
    def used(self) -> int | None:
        """The number behind the last one used, whatever became of its event; None if that cannot be read."""
        return self._count_at(_USED_AT)

    def note_used(self, next_seq: int) -> None:
        """Note the number behind the last one used."""
        self.map[_USED_AT : _USED_AT + _COUNT.size] = _COUNT.pack(next_seq, next_seq ^ _INVERSE)

    @property
    def ended_at_seq(self) -> int | None:
        """The number behind the last one used, of a process that ended in order; None of one that was killed."""
        marked, _ = self._end
        return marked - 1 if marked else None

    @property
    def ended_ms(self) -> int:
        """When it ended in order, Unix ms; 0 of one that was killed."""
        return self._end[1]

    def note_end(self, next_seq: int, now_ms: int) -> None:
        """Note that the process ends in order."""
        written = _END.pack(next_seq + 1, now_ms)
        _CRC.pack_into(self.map, _END_CRC_AT, zlib.crc32(written))
        self.map[_END_AT : _END_AT + _END.size] = written

    @property
    def said_end(self) -> SaidEnd | None:
        """The end record that whoever owned this folder put on the stream, if somebody did."""
        written = self.map[_SAID_END_AT : _SAID_END_AT + _SAID_END.size]
        if _CRC.unpack_from(self.map, _SAID_END_CRC_AT)[0] not in {0, zlib.crc32(written)}:
            # Then it is said again, which replaces it.
            return None
        next_seq, first, second = _SAID_END.unpack(written)
        return SaidEnd(next_seq, f"{first}-{second}") if first or second else None

    @said_end.setter
    def said_end(self, said: SaidEnd) -> None:
        first, _, second = said.entry_id.partition("-")
        written = _SAID_END.pack(said.next_seq, int(first), int(second))
        _CRC.pack_into(self.map, _SAID_END_CRC_AT, zlib.crc32(written))
        self.map[_SAID_END_AT : _SAID_END_AT + _SAID_END.size] = written

    def _record_at(self, position: int) -> BootRecord | None:
        size, crc = _HEAD.unpack_from(self.map, position)
        start = position + _HEAD.size
        data = self.map[start : min(start + size, position + _RECORD_BYTES)]
        if zlib.crc32(data) != crc:
            return None
        try:
            if msgspec.json.decode(data, type=_Version).version > FRAME_VERSION:
                raise NewerBoot
            return msgspec.json.decode(data, type=BootRecord)
        except msgspec.DecodeError:
            return None

    def _count_at(self, position: int) -> int | None:
        count, inverse = _COUNT.unpack_from(self.map, position)
        return int(count) if count ^ inverse == _INVERSE else None

    @property
    def _is_bare(self) -> bool:
        """Whether a release made it that wrote one record, and nothing to check numbers against.

        A file with a sector of zeros has its other record.
        """
        if any(self.map[_BEGUN_AT : _END_CRC_AT + _CRC.size]) or any(self.map[_RECORDS_AT[1] :]):
            return False
        return self._record_at(_RECORDS_AT[0]) is not None

    @property
    def _end_fits(self) -> bool:
        written = self.map[_END_AT : _END_AT + _END.size]
        return not any(written) or zlib.crc32(written) == _CRC.unpack_from(self.map, _END_CRC_AT)[0]

    @property
    def _end(self) -> tuple[int, int]:
        return _END.unpack_from(self.map, _END_AT) if self._is_bare or self._end_fits else (0, 0)
