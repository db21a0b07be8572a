"""A file read into memory in bounded pieces; what the disk cannot give is left as zeros. Blocks: call it in a thread.

Not mapped: a page that is not there yet is fetched while no other thread runs, for as long as the disk takes, and one
that the disk has lost ends the process. A read lets others run, and fails alone.
In: a path. Out: bytes, and how many of them the disk refused.
"""

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

_PIECE_BYTES: Final = 256 << 10
"""Asked for at once."""
_PAGE_BYTES: Final = 4096
"""Asked for at once where a piece was refused: as much as is lost with one bad place."""
_MOST_PAGES: Final = 64
"""That may be refused before whole pieces are given up: a dying disk takes seconds to refuse each."""
LOST: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
"""What a disk says of bytes that it does not have any more; asked again it would say the same."""
_NOTHING: Final = frozenset({errno.ELOOP, errno.ENXIO})


class NoFile(Exception):
    """Something else than a file; the text says so."""


class FileBytes(msgspec.Struct, frozen=True):
    """What could be read of a file, in memory of its own, which is to be closed."""

    memory: mmap.mmap
    refused_bytes: int
    """That the disk could not read, zeros in `memory`."""
    refused_at: int
    """Where the first of these is."""


def read_file(path: Path, size_bytes: int) -> FileBytes:
    """So many bytes of a file; zeros behind its end. Raises NoFile, and OSError for all but bytes that are lost."""
    descriptor = open_file(path)
    try:
        memory = mmap.mmap(-1, size_bytes)
        try:
            return _read_into(memory, descriptor)
        except BaseException:
            memory.close()
            raise
    finally:
        os.close(descriptor)


def read_head(path: Path, most_bytes: int) -> tuple[bytes | None, int]:
    """The first bytes of a file, None if the disk has lost them, and its size in bytes. Raises NoFile, OSError."""
    descriptor = open_file(path)
    size_bytes = os.fstat(descriptor).st_size
    try:
        return os.pread(descriptor, most_bytes, 0), size_bytes
    except OSError as error:
        if error.errno not in LOST:
            raise
        return None, size_bytes
    finally:
        os.close(descriptor)


def open_file(path: Path) -> int:
    """A descriptor to read from. Raises OSError, and NoFile for a pipe or the like, without waiting for its writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOTHING or (error.errno == errno.ENOENT and path.is_symlink()):
            raise NoFile("a link to nothing, or a socket") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoFile("no regular file")
    return descriptor


def _read_into(memory: mmap.mmap, descriptor: int) -> FileBytes:
    size_bytes = len(memory)
    at = by_page_until = refused_at = refused_bytes = 0
    with memoryview(memory) as view:
        while at < size_bytes:
            by_page = at < by_page_until
            step = _PAGE_BYTES if by_page else _PIECE_BYTES
            until = min(at - at % step + step, size_bytes)
            try:
                with view[at:until] as part:
                    count = os.preadv(descriptor, [part], at)
            except OSError as error:
                if error.errno not in LOST:
                    raise
                if not by_page and refused_bytes < _MOST_PAGES * _PAGE_BYTES:
                    by_page_until = until
                    continue
                refused_at = at if not refused_bytes else refused_at
                refused_bytes += until - at
                at = until
            else:
                if not count:
                    break
                at += count
    return FileBytes(memory, refused_bytes, refused_at)
