"""One file of a journal: a fixed size, appended to by one process, read by the same or by whoever adopts it.

Layout, little-endian: magic (8 bytes), source u64, first seq u64, CRC-32 of these u32, the stream's partitions u16,
the events' version u8 and a check of these two u8; records from byte 32 on; zeros to the end. A record is length u32,
CRC-32 of all else u32, seq u64, body; a length of 0 ends the file. A record is written by one copy into the mapped
file: a process killed within it leaves a checksum that does not fit, and nothing behind it. Where more records follow,
the file is damaged, and is read on behind the bad place. Disk is allocated for the whole size before the first record.
Without a folder a segment is plain memory. Who reads a file that he did not write has it in memory, too.
"""

import errno
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.journal.file_read import NoFile, read_file, read_head
from gateway.journal.records import (
    RECORD,
    RECORD_OVERHEAD_BYTES,
    SIZE_AND_SEQ,
    Record,
    is_blank,
    record_behind,
    records,
)
from shared import counters
from shared.logs import get_log
from shared.stream import FRAME_VERSION

SUFFIX: Final = ".segment"
HEADER_BYTES: Final = 32
_MAGIC: Final = b"lectrj1\n"
_HEADER: Final = struct.Struct("<8sQQ")
_CRC: Final = struct.Struct("<I")
_STREAM_AT: Final = 28
_STREAM: Final = struct.Struct("<HBB")
"""Partitions, version, check; zeros in a file of a release that did not write them."""
_STREAM_CHECK: Final = 0xA5
_FILLING_BYTES: Final = 1 << 20
_NAME: Final = re.compile(rf"[0-9]{{20}}{re.escape(SUFFIX)}")


class SegmentFault(Exception):
    """A file that is no segment of its folder; the text names it and what is wrong."""


class Header(msgspec.Struct, frozen=True):
    """What a file says of itself."""

    source: int
    first_seq: int
    partitions: int
    """Of the stream, for events of this boot; 0 if it does not say."""
    version: int
    """Of its events."""


def read_header(path: Path) -> Header | None:
    """What a file says of itself; None if that cannot be read, or it is no file. Raises OSError."""
    try:
        head, _ = read_head(path, HEADER_BYTES)
    except NoFile:
        return None
    return _header_in(head or b"")


def _header_in(head: bytes) -> Header | None:
    if len(head) < HEADER_BYTES:
        return None
    magic, source, first_seq = _HEADER.unpack_from(head)
    if magic != _MAGIC or _CRC.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
        return None
    partitions, version, check = _STREAM.unpack_from(head, _STREAM_AT)
    if check != _stream_check(partitions, version):
        partitions, version = 0, FRAME_VERSION
    return Header(source, first_seq, partitions, version)


def _stream_check(partitions: int, version: int) -> int:
    return (partitions & 0xFF) ^ (partitions >> 8) ^ version ^ _STREAM_CHECK


def allocate(path: Path, size_bytes: int) -> None:
    """Make a file of zeros whose every block exists. Raises OSError; a full disk leaves no file behind."""
    zeros = bytes(_FILLING_BYTES)
    try:
        with path.open("xb", buffering=0) as file:
            left = size_bytes
            while left:
                left -= file.write(zeros[:left])
    except OSError:
        path.unlink(missing_ok=True)
        raise


class Segment:
    """Records `first_seq ..` of a source. `end` is where the next record goes, `next_seq` what it will be at least."""

    __slots__ = (
        "_detours",
        "_map",
        "_refused_bytes",
        "_suspect",
        "damaged",
        "end",
        "first_seq",
        "headed",
        "next_seq",
        "path",
        "sealed",
        "size_bytes",
    )

    def __init__(self, path: Path | None, first_seq: int, size_bytes: int, mapped: mmap.mmap | None) -> None:
        self.path = path
        self.first_seq = first_seq
        self.size_bytes = size_bytes
        self.end = HEADER_BYTES
        self.next_seq = first_seq
        self.sealed = False
        """Nothing is appended any more."""
        self.headed = True
        """Whether its header says what it holds; else its name does, which may be wrong."""
        self._map = mapped
        self._detours: dict[int, int] = {}
        """Where no record can be read: where the next one begins."""
        self._suspect = False
        self._refused_bytes = 0
        """That the disk could not read, as it said when asked last."""
        self.damaged = False
        """Whether a part of it cannot be read, as far as is known."""

    @classmethod
    def begin(cls, path: Path | None, source: int, first_seq: int, size_bytes: int, partitions: int = 0) -> "Segment":
        """Take a file made by `allocate` (or memory, without a path) into use. Raises OSError."""
        segment = cls(path, first_seq, size_bytes, mmap.mmap(-1, size_bytes) if path is None else _map(path))
        head = _HEADER.pack(_MAGIC, source, first_seq)
        stream = _STREAM.pack(partitions, FRAME_VERSION, _stream_check(partitions, FRAME_VERSION))
        segment.map[:HEADER_BYTES] = head + _CRC.pack(zlib.crc32(head)) + stream
        return segment

    @classmethod
    def open(cls, path: Path, source: int) -> "Segment":
        """A segment that another process left: sealed, not loaded, its end unknown. Raises SegmentFault, OSError.

        Of a damaged header the name of the file says the rest; one of another boot is refused.
        """
        try:
            head, size_bytes = read_head(path, HEADER_BYTES)
        except NoFile as fault:
            raise SegmentFault(str(fault)) from None
        if size_bytes < HEADER_BYTES:
            raise SegmentFault("too short")
        header = _header_in(head or b"")
        if header.source != source if header is not None else not _NAME.fullmatch(path.name):
            raise SegmentFault("no segment of this boot")
        segment = cls(path, header.first_seq if header is not None else int(path.stem), size_bytes, None)
        # One without a head is one whose writer was killed before it wrote it.
        if header is None and (head is None or any(head)):
            segment.note_damage(0, 0)
        segment.end = size_bytes
        segment.sealed = True
        segment.headed = header is not None
        return segment

    def numbers(self) -> list[int]:
        """Of all records that can be read, however damaged the file. Blocks. Raises OSError."""
        self._examine()
        return [record.seq for record in self.records(HEADER_BYTES)]

    def find_end(self) -> bool:
        """Find the end of one that was opened; whether its last record is torn: its writer was killed within it."""
        end, self.next_seq = self._examine()
        torn = not is_blank(self.map, end, self.end)
        self.end = end
        return torn

    def ends_at(self, position: int) -> bool:
        """Whether nothing is left from a position on, at which no record was found; if not, `load` looks into it."""
        if position >= self.end or position in self._detours or is_blank(self.map, position, self.end):
            return True
        self._suspect = True
        return False

    @property
    def loaded(self) -> bool:
        """Whether it can be read without asking the disk."""
        return self._map is not None and not self._suspect

    def load(self) -> None:
        """Read it into memory, and find the way around what is damaged. Blocks. Raises OSError.

        What the disk cannot read is damaged, and no reason not to read the rest.
        """
        if self._map is None and self.path is not None:
            self._map = self._read(self.path)
        if self._suspect:
            end, next_seq = self._examine()
            if not is_blank(self.map, end, self.end):
                self._detour(end, self.end, self.next_seq - next_seq)
            self._suspect = False

    @property
    def map(self) -> mmap.mmap:
        """The bytes, loaded if they are not. Raises OSError."""
        if self._map is None:
            self.load()
        if self._map is None:
            raise RuntimeError("memory that was let go")
        return self._map

    def _read(self, path: Path) -> mmap.mmap:
        try:
            found = read_file(path, self.size_bytes)
        except NoFile as fault:
            raise OSError(errno.EINVAL, str(fault)) from None
        if found.refused_bytes:
            counters.journal_disk_faults.labels(OSError.__name__).inc()
        if found.refused_bytes > self._refused_bytes:
            self._count_damage()
            get_log("journal").error(
                "segment_unreadable_in_part",
                folder=path.parent.name,
                file=path.name,
                position=found.refused_at,
                unreadable_bytes=found.refused_bytes,
            )
        self._refused_bytes = found.refused_bytes
        return found.memory

    def _examine(self) -> tuple[int, int]:
        """Find the way to the last record that can be read: the position and the number behind it. Blocks."""
        position, seq = HEADER_BYTES, self.first_seq
        while True:
            for record in self.records(position):
                position, seq = record.end, record.seq + 1
            following = record_behind(self.map, position, self.end, seq)
            if following is None:
                return position, seq
            self._detour(position, following[0], following[1] - seq)

    def _detour(self, position: int, following: int, numbers: int) -> None:
        self._detours[position] = following
        self.note_damage(position, numbers)

    def note_damage(self, position: int, numbers: int) -> None:
        """Count this file as damaged, once, and say where, and how many numbers have no record for it."""
        self._count_damage()
        folder, file = (self.path.parent.name, self.path.name) if self.path is not None else ("memory", "")
        log = get_log("journal")
        log.error("segment_damaged", folder=folder, file=file, position=position, numbers_skipped=numbers)

    def _count_damage(self) -> None:
        if not self.damaged:
            counters.journal_damaged.inc()
        self.damaged = True

    def append(self, seq: int, body: bytes) -> bool:
        """Write a record; False, and nothing written, if there is no room for it."""
        size = len(body)
        start = self.end
        end = start + size + RECORD_OVERHEAD_BYTES
        if end > self.size_bytes or self._map is None:
            return False
        crc = zlib.crc32(body, zlib.crc32(SIZE_AND_SEQ.pack(size, seq)))
        self._map[start:end] = RECORD.pack(size, crc, seq) + body
        self.end, self.next_seq = end, seq + 1
        return True

    def records(self, position: int) -> Iterator[Record]:
        """Records from a position on, without those that cannot be read."""
        at: int | None = position
        while at is not None:
            for record in records(self.map, at, self.end):
                yield record
                at = record.end
            at = self._detours.get(at)

    def let_go(self) -> None:
        """Give its memory back, unless there is no other copy; `load` brings it again."""
        if self.path is not None and self._map is not None:
            self._map.close()
            self._map = None

    def keep_in_memory(self) -> bool:
        """Its file is gone: what is mapped lives on as long as it stays mapped. Whether it is."""
        if self._map is None:
            return False
        self.path = None
        return True

    def sync(self) -> None:
        """Have the disk write what was appended. Blocks. Raises OSError."""
        if self.path is not None:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self) -> None:
        """Let it go for good. Raises OSError."""
        if self.path is not None:
            self.let_go()
            self.path.unlink(missing_ok=True)
        elif self._map is not None:
            self._map.close()
            self._map = None


def _map(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR)
    try:
        # Populated: the first store into a page must not be the one that fetches it.
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(descriptor)
