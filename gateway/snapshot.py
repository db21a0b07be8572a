"""The last registry seen, on disk: a gateway that starts while Redis is down serves from it.

One record a line, as Redis serves it (hashes, never keys). Changes are appended, so that one of a hundred thousand
records costs a line; the file is written anew when most of it is outdated. Several workers of one state directory
append to the same file, each all that it took itself; of several records of an organisation the highest version counts.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from shared.environment import SettingsFault
from shared.organisation import Org
from shared.registry import RegistryFault, decode_org, encode_org

_NAME: Final = "registry.jsonl"
_NAME_BEFORE: Final = "registry.json"
"""One array of all records, as written by gateways of before."""
_LEAST_OUTDATED_BYTES: Final = 1024 * 1024
_ORGS_PER_WRITE: Final = 500
_MODE: Final = 0o600
"""Hashes of keys, and where credentials are: for nobody else on this machine."""
_OTHERS: Final = 0o077


class Snapshot:
    """The file of one state directory; without one it keeps nothing."""

    def __init__(self, state_dir: str) -> None:
        self._folder = Path(state_dir) if state_dir else None
        self._whole_bytes = self._appended_bytes = 0
        self._torn = False
        """Whether the file ends inside a line, which the next one must not continue."""
        self.unreadable = 0
        """Lines that were no records when it was loaded."""
        self.first_unreadable = 0
        """The number of the first of these, from 1."""
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsFault(f"LECTR_STATE_DIR={state_dir!r}: cannot be used: {error.strerror}") from None

    @property
    def path(self) -> Path | None:
        """The file, None where none is kept."""
        return self._folder and self._folder / _NAME

    def load(self) -> list[Org]:
        """The records kept, empty if there are none. Raises SettingsFault for a file that cannot be read."""
        if self._folder is None:
            return []
        path = self._folder / _NAME
        try:
            if path.exists():
                return self._read(path)
            before = self._folder / _NAME_BEFORE
            if before.exists():
                return [decode_org(bytes(record)) for record in msgspec.json.decode(before.read_bytes(), type=_Records)]
        except (OSError, msgspec.DecodeError, RegistryFault, UnicodeDecodeError) as error:
            raise SettingsFault(
                f"LECTR_STATE_DIR={str(self._folder)!r}: the copy of the registry there is unreadable "
                f"({type(error).__name__}); delete {path.name} to start without"
            ) from None
        return []

    def append(self, orgs: Iterable[Org]) -> None:
        """Add what changed. Raises OSError."""
        if self._folder is None:
            return
        # Not buffered: a record is one write, which no other worker's can get into.
        with open(self._folder / _NAME, "ab", buffering=0, opener=_private) as file:
            # A write that fails may leave half a line.
            start, self._torn = b"\n" if self._torn else b"", True
            for lines in _lines(orgs):
                rest = memoryview(start + lines)
                while rest:
                    rest = rest[file.write(rest) :]
                start = b""
                self._appended_bytes += len(lines)
            self._torn = False
            os.fsync(file.fileno())

    @property
    def outdated(self) -> bool:
        """Whether it is time for `rewrite`."""
        return self._appended_bytes > max(_LEAST_OUTDATED_BYTES, self._whole_bytes)

    def rewrite(self, orgs: list[Org]) -> None:
        """Replace the file as a whole, so that a crash leaves the old one or the new one. Raises OSError."""
        if self._folder is None:
            return
        # A name of its own: other workers keep the same file.
        partial = self._folder / f"registry.{os.getpid()}.partial"
        with open(partial, "wb", opener=_private) as file:
            file.writelines(_lines(orgs))
            file.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
            self._whole_bytes = file.tell()
        os.replace(partial, self._folder / _NAME)  # noqa: PTH105 - the atomic rename is the point
        (self._folder / _NAME_BEFORE).unlink(missing_ok=True)
        self._appended_bytes = 0
        self._torn = False

    def _read(self, path: Path) -> list[Org]:
        latest: dict[str, Org] = {}
        size_bytes = 0
        with open(path, "rb", opener=_private) as file:
            for number, line in enumerate(file, start=1):
                size_bytes += len(line)
                self._torn = not line.endswith(b"\n")
                if not line.strip():
                    continue
                try:
                    org = decode_org(line)
                except RegistryFault:
                    # A power cut may leave half a line: its record comes again from Redis, the others are whole.
                    self.unreadable += 1
                    self.first_unreadable = self.first_unreadable or number
                    continue
                known = latest.get(org.org)
                if known is None or org.version > known.version:
                    latest[org.org] = org
        self._appended_bytes = size_bytes
        return list(latest.values())


def _private(path: str, flags: int) -> int:
    """Opens for the owner alone, a file of an earlier release as well."""
    descriptor = os.open(path, flags, _MODE)
    # Another user's file is as that one wants it; its records count all the same.
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_mode & _OTHERS:
            os.fchmod(descriptor, _MODE)
    return descriptor


_Records = list[msgspec.Raw]


def _lines(orgs: Iterable[Org]) -> Iterator[bytes]:
    """Records as lines, some hundred at a time: what is encoded holds up every other thread."""
    rest = iter(orgs)
    while some := list(islice(rest, _ORGS_PER_WRITE)):
        yield b"".join([encode_org(org) + b"\n" for org in some])
