"""A request body on its way into the engine: unpacked into an anonymous file that the engine can open by a path.

In: body bytes, packed or not. Out: a file and its path. On Linux it is memory (memfd), elsewhere a file in the given
directory that is gone after closing. Never larger than MAX_BODY_BYTES after unpacking.
"""

import os
import tempfile
from pathlib import Path
from typing import IO, Final, Self

from deploy.local.clickhouse.codings import CodingError, Unpacker
from deploy.local.clickhouse.faults import DoorFault

MAX_BODY_BYTES: Final = 1 << 30
"""Threat: one request that fills the machine's memory. A million-row batch is about 100 MB."""
HEAD_BYTES: Final = 1 << 20
"""An INSERT must name its format within this many bytes."""


class Upload:
    """One body. `feed` and the rest block; call them in a worker thread."""

    def __init__(self, directory: Path, coding: str = "") -> None:
        self._directory = directory
        self._file = _anonymous_file(directory)
        try:
            self._unpacker = Unpacker(coding) if coding else None
        except CodingError as error:
            self._file.close()
            raise DoorFault(89, "UNKNOWN_COMPRESSION_METHOD", f"{error}.") from None
        self.size = 0

    @property
    def path(self) -> str:
        """Where the engine opens it; safe inside single quotes."""
        if not isinstance(self._file.name, str):
            return f"/proc/self/fd/{self._file.fileno()}"
        # Relative to the data directory, where the process is: no path of the machine, which may hold quotes.
        return f"{self._directory.name}/{Path(self._file.name).name}"

    def feed(self, data: bytes) -> None:
        """Add a piece of the body. Raises 229 when the body is too large, 271 when it cannot be unpacked."""
        if self._unpacker is None:
            self._write(data)
            return
        try:
            for piece in self._unpacker.feed(data):
                self._write(piece)
        except CodingError as error:
            raise DoorFault(271, "CANNOT_DECOMPRESS", f"{error}.") from None

    def _write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > MAX_BODY_BYTES:
            raise DoorFault(229, "QUERY_IS_TOO_LARGE", f"The body is larger than {MAX_BODY_BYTES} bytes; send less.")
        self._file.write(piece)

    def finish(self) -> None:
        """The body is complete."""
        try:
            if self._unpacker is not None:
                self._unpacker.finish()
        except CodingError as error:
            raise DoorFault(271, "CANNOT_DECOMPRESS", f"{error}.") from None
        self._file.flush()

    def head(self) -> bytes:
        """The first HEAD_BYTES."""
        self._file.seek(0)
        return self._file.read(HEAD_BYTES)

    def read(self) -> bytes:
        """All of it."""
        self._file.seek(0)
        return self._file.read()

    def after(self, length: int, before: bytes) -> Self:
        """`before`, then what follows the first `length` bytes, as an upload of its own; this one is closed."""
        if not length and not before:
            return self
        rest = type(self)(self._directory)
        rest.feed(before)
        self._file.seek(length)
        while piece := self._file.read(HEAD_BYTES):
            rest.feed(piece)
        rest.finish()
        self.close()
        return rest

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()


def _anonymous_file(directory: Path) -> IO[bytes]:
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        return os.fdopen(os.memfd_create("upload"), "w+b")
    return tempfile.NamedTemporaryFile(dir=directory, prefix="upload-")
