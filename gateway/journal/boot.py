"""The folder of one gateway process in the journal: `<source in hex>/boot` names it, `*.segment` hold its events.

The file `boot` is locked for as long as its process lives. Who gets the lock of a folder that is not his own knows
that its process is dead, and owns what it left. A folder appears under its name only once its lock is held.
In: a folder. Out: a Boot that says who wrote there, how many requests it began, and whether it ended in order.
"""

import contextlib
import fcntl
import itertools
import mmap
import os
import secrets
import shutil
import struct
import time
import zlib
from pathlib import Path
from typing import Final, Self

import msgspec

from shared.stream import FRAME_VERSION

_FILE: Final = "boot"
_UNBORN: Final = ".new"
_UNBORN_S: Final = 60.0
"""A folder that is still not named after this long belongs to a process that died before it lived."""
_DAMAGED: Final = "damaged"
_SIZE_BYTES: Final = 4096
_RECORD_BYTES: Final = 1024
"""Where the record of the boot must end, and the counts begin."""
_HEAD: Final = struct.Struct("<II")
_COUNT: Final = struct.Struct("<Q")
_SAID_END: Final = struct.Struct("<QQQ")
_BEGUN_AT: Final = _RECORD_BYTES
_NEXT_SEQ_AT: Final = _RECORD_BYTES + 8
"""One more than the number behind the last one used, written when a process ends in order; 0 until then."""
_ENDED_MS_AT: Final = _RECORD_BYTES + 16
_SAID_END_AT: Final = _RECORD_BYTES + 24
"""The number that the end record stands behind, and its entry's id in two parts; zeros until it is on the stream."""


class BootFault(Exception):
    """A folder whose file `boot` cannot be read; the text names it."""


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


class Boot:
    """A boot whose lock this process holds. Raises nothing after it was made, except from `remove`."""

    def __init__(self, folder: Path, descriptor: int, mapped: mmap.mmap, record: BootRecord) -> None:
        self.folder = folder
        self.record = record
        self._descriptor = descriptor
        self._map = mapped

    @classmethod
    def create(cls, root: Path, record: BootRecord) -> Self:
        """Make the folder of this process. Raises OSError."""
        root.mkdir(parents=True, exist_ok=True)
        name = f"{record.source:016x}"
        unborn = root / f"{name}{_UNBORN}"
        unborn.mkdir(mode=0o700, exist_ok=True)
        data = msgspec.json.encode(record)
        if len(data) + _HEAD.size > _RECORD_BYTES:
            raise OSError(f"the instance's name is too long: {len(record.instance)} characters")
        head = _HEAD.pack(len(data), zlib.crc32(data)) + data
        descriptor = os.open(unborn / _FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Asked for first: a full disk would take a part of it.
            os.posix_fallocate(descriptor, 0, _SIZE_BYTES)
            os.write(descriptor, head)
            unborn.rename(root / name)
            return cls(root / name, descriptor, mmap.mmap(descriptor, 0), record)
        except OSError:
            os.close(descriptor)
            shutil.rmtree(unborn, ignore_errors=True)
            raise

    @classmethod
    def adopt(cls, folder: Path) -> Self | None:
        """The boot of a folder, if nobody lives there; None if somebody does. Raises BootFault, NewerBoot, OSError."""
        descriptor = _lock(folder)
        if descriptor is None:
            return None
        mapped = mmap.mmap(descriptor, 0)
        size, crc = _HEAD.unpack_from(mapped)
        data = mapped[_HEAD.size : min(_HEAD.size + size, _RECORD_BYTES)]
        newer = False
        if zlib.crc32(data) == crc:
            with contextlib.suppress(msgspec.DecodeError):
                newer = msgspec.json.decode(data, type=_Version).version > FRAME_VERSION
                if not newer:
                    return cls(folder, descriptor, mapped, msgspec.json.decode(data, type=BootRecord))
        mapped.close()
        os.close(descriptor)
        if newer:
            raise NewerBoot
        raise BootFault(f"{folder.name}/{_FILE} is damaged")

    @property
    def begun(self) -> int:
        """Requests of known organisations that were begun."""
        return int(_COUNT.unpack_from(self._map, _BEGUN_AT)[0])

    @begun.setter
    def begun(self, count: int) -> None:
        _COUNT.pack_into(self._map, _BEGUN_AT, count)

    @property
    def ended_at_seq(self) -> int | None:
        """The number behind the last one used, of a process that ended in order; None of one that was killed."""
        marked = int(_COUNT.unpack_from(self._map, _NEXT_SEQ_AT)[0])
        return marked - 1 if marked else None

    @property
    def ended_ms(self) -> int:
        """When it ended in order, Unix ms; 0 of one that was killed."""
        return int(_COUNT.unpack_from(self._map, _ENDED_MS_AT)[0])

    def end(self, next_seq: int, now_ms: int) -> None:
        """Note that the process ends in order."""
        _COUNT.pack_into(self._map, _ENDED_MS_AT, now_ms)
        _COUNT.pack_into(self._map, _NEXT_SEQ_AT, next_seq + 1)

    @property
    def said_end(self) -> SaidEnd | None:
        """The end record that whoever owned this folder put on the stream, if somebody did."""
        next_seq, first, second = _SAID_END.unpack_from(self._map, _SAID_END_AT)
        return SaidEnd(next_seq, f"{first}-{second}") if first or second else None

    @said_end.setter
    def said_end(self, said: SaidEnd) -> None:
        first, _, second = said.entry_id.partition("-")
        _SAID_END.pack_into(self._map, _SAID_END_AT, said.next_seq, int(first), int(second))

    def in_place(self) -> bool:
        """Whether the file that is locked is still the one that others find, as far as the disk tells. Blocks."""
        try:
            named, held = (self.folder / _FILE).stat(), os.fstat(self._descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        """Give the lock up; whoever comes next owns the folder. Once is enough."""
        if not self._map.closed:
            self._map.close()
            os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the folder, and give the lock up; what is damaged in it is kept aside. Raises OSError."""
        if any(self.folder.glob(f"*.{_DAMAGED}")):
            set_aside(self.folder)
        else:
            for path in self.folder.iterdir():
                if path.name != _FILE:
                    path.unlink()
            # Last, as nobody could adopt what a kill leaves of the others.
            shutil.rmtree(self.folder)
        self.close()


def boot_folders(root: Path) -> list[Path]:
    """The folders of boots below a journal's root; clears away what processes left that died on their way in or out."""
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.is_dir() or folder.name.startswith(_DAMAGED):
            continue
        if not folder.name.endswith(_UNBORN) and (folder / _FILE).exists():
            found.append(folder)
            continue
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _UNBORN_S:
                _clear(folder)
    return found


def _clear(folder: Path) -> None:
    """A folder in which nobody lives or will: delete it, but for events of a boot whose file `boot` somebody took."""
    if any(path.stat().st_size for path in folder.iterdir() if path.name != _FILE):
        set_aside(folder)
    else:
        shutil.rmtree(folder)


def set_aside(path: Path) -> None:
    """Keep what cannot be read for a person to look at, out of the way. Raises OSError."""
    is_folder = path.is_dir()
    for number in itertools.count():
        more = f"-{number}" if number else ""
        target = path.with_name(f"{_DAMAGED}-{path.name}{more}" if is_folder else f"{path.stem}{more}.{_DAMAGED}")
        if not target.exists():
            path.rename(target)
            return


def new_source() -> int:
    """63 random bits that name one boot of one gateway process; drawn, so two hosts never share one."""
    return secrets.randbits(63)


def _lock(folder: Path) -> int | None:
    """The file `boot`, locked; None if somebody lives there, or is just done with it. Raises OSError, BootFault."""
    try:
        descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named, held = (folder / _FILE).stat(), os.fstat(descriptor)
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    if held.st_size < _SIZE_BYTES or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
        os.close(descriptor)
        if held.st_size < _SIZE_BYTES:
            raise BootFault(f"{folder.name}/{_FILE} is too short")
        return None
    return descriptor
