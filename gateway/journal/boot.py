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
import time
from pathlib import Path
from typing import Final, Self

from gateway.journal.boot_file import SIZE_BYTES, BootFile, BootRecord, NewerBoot, encode_record

_FILE: Final = "boot"
_UNBORN: Final = ".new"
_UNBORN_S: Final = 60.0
"""A folder that is still not named after this long belongs to a process that died before it lived."""
_DAMAGED: Final = "damaged"


class BootFault(Exception):
    """A folder whose file `boot` cannot be read; the text names it."""


class Boot:
    """A boot whose lock this process holds. Raises nothing after it was made, except from `remove`."""

    def __init__(self, folder: Path, descriptor: int, mapped: mmap.mmap, record: BootRecord) -> None:
        self.folder = folder
        self.record = record
        self.file = BootFile(mapped)
        """What the process notes of itself."""
        self._descriptor = descriptor
        self._map = mapped

    @classmethod
    def create(cls, root: Path, record: BootRecord) -> Self:
        """Make the folder of this process. Raises OSError."""
        root.mkdir(parents=True, exist_ok=True)
        name = f"{record.source:016x}"
        unborn = root / f"{name}{_UNBORN}"
        unborn.mkdir(mode=0o700, exist_ok=True)
        content = encode_record(record)
        descriptor = os.open(unborn / _FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Asked for first: a full disk would take a part of it.
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            os.write(descriptor, content)
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
        try:
            record = BootFile(mapped).record()
            if record is not None:
                return cls(folder, descriptor, mapped, record)
        except NewerBoot:
            mapped.close()
            os.close(descriptor)
            raise
        mapped.close()
        os.close(descriptor)
        raise BootFault(f"{folder.name}/{_FILE} is damaged")

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
    if held.st_size < SIZE_BYTES or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
        os.close(descriptor)
        if held.st_size < SIZE_BYTES:
            raise BootFault(f"{folder.name}/{_FILE} is too short")
        return None
    return descriptor
