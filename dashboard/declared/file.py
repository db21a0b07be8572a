"""A declaration on disk: its bytes, whole and bounded, and what tells that it changed."""

import os
import sys
from pathlib import Path

import msgspec

from dashboard.declared.faults import DeclarationFault
from dashboard.declared.records import Declared, read_document
from dashboard.declared.text import MOST_BYTES, form_of, parse
from dashboard.declared.values import TextFault


class Stamp(msgspec.Struct, frozen=True):
    """Another one means that the file may be another one; the same, that it most likely is not."""

    modified_ns: int
    size_bytes: int
    device: int
    inode: int


def stamp_of(path: str) -> Stamp | None:
    """Of what the path leads to now, through all links; None where that is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path would say the same in more steps
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_dev, found.st_ino)


def read_bytes(path: str) -> bytes:
    """All of a file, `-` for standard input. Raises DeclarationFault."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise DeclarationFault(path, [f"it cannot be read: {reason}"]) from None
    return data


def declared_in(data: bytes, path: str) -> Declared:
    """What the bytes of a file declare. Raises DeclarationFault."""
    try:
        document = parse(data, form_of(path, data))
    except TextFault as fault:
        raise DeclarationFault(path, [str(fault)]) from None
    return read_document(document, path)
