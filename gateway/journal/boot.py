"""The folder of one gateway process in the journal: `<source in hex>/boot` names it, `*.segment` hold its events.

The file `boot` is locked for as long as its process lives. Who gets the lock of a folder that is not his own knows
that its process is dead, and owns what it left. A folder appears under its name only once its lock is held.
In: a folder. Out: a Boot that says who wrote there, how many requests it began, and whether it ended in order.
"""

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Final, Self

from gateway.journal.boot_file import SIZE_BYTES, BootFile, BootRecord, encode_record
from gateway.journal.file_read import LOST
from gateway.journal.rebuilt import rebuilt_record
from shared import counters
from shared.logs import get_log

_FILE: Final = "boot"
_UNBORN: Final = ".new"
_UNBORN_S: Final = 60.0
"""A folder that is still not named after this long belongs to a process that died before it lived."""
DAMAGED: Final = "damaged"
"""What a name begins or ends with that is kept aside for a person."""


class BootFault(Exception):
    """A folder that does not say whose it is, neither by its file `boot` nor otherwise; the text names it."""


class Boot:
    """A boot whose lock this process holds. Raises nothing after it was made, except from `remove`."""

    def __init__(self, folder: Path, descriptor: int, mapped: mmap.mmap, record: BootRecord) -> None:
        self.folder = folder
        self.record = record
        self.file = BootFile(mapped)
        """What the process notes of itself."""
        self.rebuilt = False
        """Whether its record could not be read, and was made anew from what else is in the folder."""
        self._descriptor = descriptor
        self._map = mapped

    @classmethod
    def create(cls, root: Path, record: BootRecord) -> Self:
        """Make the folder of this process, so that a power cut leaves it. Blocks. Raises OSError."""
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
            os.fsync(descriptor)
            sync_folder(unborn)
            made = cls(root / name, descriptor, mmap.mmap(descriptor, 0), record)
            unborn.rename(root / name)
        except OSError:
            os.close(descriptor)
            shutil.rmtree(unborn, ignore_errors=True)
            raise
        for parent in (root, root.parent):
            # The process lives there already: that its disk refuses is said when it is asked to write events.
            with contextlib.suppress(OSError):
                sync_folder(parent)
        return made

    @classmethod
    def adopt(cls, folder: Path, partitions: int | None) -> Self | None:
        """The boot of a folder, if nobody lives there; None if somebody does. Raises BootFault, NewerBoot, OSError.

        `partitions` is for one that no file says: how many the stream has now.
        """
        descriptor = _lock(folder)
        if descriptor is None:
            return None
        mapped = mmap.mmap(descriptor, 0)
        try:
            known = BootFile(mapped).record()
            record = known or rebuilt_record(folder, partitions)
        except Exception:
            mapped.close()
            os.close(descriptor)
            raise
        if record is None:
            mapped.close()
            os.close(descriptor)
            raise BootFault(f"{folder.name}/{_FILE} is damaged, and nothing else says whose it is")
        boot = cls(folder, descriptor, mapped, record)
        if known is None:
            # For good: its events must stay in their partition when it is adopted again.
            boot.file.replace_record(record)
            boot.rebuilt = True
        return boot

    def in_place(self) -> bool:
        """Whether the file that is locked is still the one that others find, as far as the disk tells. Blocks."""
        try:
            named, held = (self.folder / _FILE).stat(), os.fstat(self._descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def made_again(self) -> Self | None:
        """This boot with a new file `boot`, where only that was deleted; None if it cannot be. Blocks.

        Without one an heir would take the folder over while its process lives. What is noted meanwhile is not in it.
        """
        unborn = self.folder / f"{_FILE}{_UNBORN}"
        try:
            descriptor = os.open(unborn, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            os.write(descriptor, self._map[:])
            os.fsync(descriptor)
            # Not renamed: that would take the place of one that somebody put there meanwhile.
            os.link(unborn, self.folder / _FILE)
            with contextlib.suppress(OSError):
                sync_folder(self.folder)
            return type(self)(self.folder, descriptor, mmap.mmap(descriptor, 0), self.record)
        except OSError:
            os.close(descriptor)
            return None
        finally:
            with contextlib.suppress(OSError):
                unborn.unlink()

    def sync(self) -> None:
        """Have the disk write what the process noted of itself. Blocks. Raises OSError."""
        if not self._map.closed:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Give the lock up; whoever comes next owns the folder. Once is enough."""
        if not self._map.closed:
            self._map.close()
            os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the folder, and give the lock up; what is damaged in it, or no file, is kept aside. Raises OSError."""
        if any(path.suffix == f".{DAMAGED}" or not path.is_file() for path in self.folder.iterdir()):
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
        if not folder.is_dir() or folder.name.startswith(DAMAGED):
            continue
        if not folder.name.endswith(_UNBORN) and (folder / _FILE).is_file():
            found.append(folder)
            continue
        try:
            if time.time() - folder.stat().st_mtime > _UNBORN_S and _is_left(folder):
                found.append(folder)
        except OSError as error:
            counters.journal_disk_faults.labels(type(error).__name__).inc()
            get_log("boot").error("folder_without_boot", folder=folder.name, error=error.strerror)
    return found


def _is_left(folder: Path) -> bool:
    """Whether a folder in which nobody lives or will holds events, though its file `boot` is gone; else it is deleted.

    It gets an empty one, to be locked like any other: whoever has the lock makes anew what it said. Raises OSError.
    """
    if not any(path.is_file() and path.stat().st_size for path in folder.iterdir() if path.name != _FILE):
        shutil.rmtree(folder)
        return False
    boot = folder / _FILE
    if os.path.lexists(boot) and not boot.is_file():
        set_aside(boot)
    boot.touch(0o600)
    return True


def set_aside(path: Path) -> None:
    """Keep what cannot be read for a person to look at, out of the way. Raises OSError."""
    is_folder = path.is_dir()
    for number in itertools.count():
        more = f"-{number}" if number else ""
        target = path.with_name(f"{DAMAGED}-{path.name}{more}" if is_folder else f"{path.stem}{more}.{DAMAGED}")
        if not target.exists():
            path.rename(target)
            return


def sync_folder(folder: Path) -> None:
    """Have the disk write the names of the files in a folder. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems write names at once, and refuse to be asked.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def new_source() -> int:
    """63 random bits that name one boot of one gateway process; drawn, so two hosts never share one."""
    return secrets.randbits(63)


def _lock(folder: Path) -> int | None:
    """The file `boot`, locked, in full size; None if somebody lives there, or is just done with it. Raises OSError."""
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
    if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
        os.close(descriptor)
        return None
    try:
        if held.st_size < SIZE_BYTES:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        # It will be mapped: a page that the disk has lost would end this process then.
        os.pread(descriptor, SIZE_BYTES, 0)
    except OSError as error:
        with contextlib.suppress(OSError):
            if error.errno in LOST:
                set_aside(folder / _FILE)
        os.close(descriptor)
        raise
    return descriptor
