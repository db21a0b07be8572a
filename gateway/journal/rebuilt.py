"""Whose a folder of the journal is, when its file `boot` cannot be read: from all else that says so. Blocks.

A folder is named after its source, and each file in it says the source, in how many partitions the stream was cut, and
which version its events have. In: a folder that this process owns. Out: a record to go on with. The gateway's name is
lost with the file; it began no later than the first of its requests that is still here.
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from gateway.journal.boot_file import BootRecord, NewerBoot
from gateway.journal.segment import HEADER_BYTES, SUFFIX, Segment, SegmentFault, read_header
from shared.event import Event
from shared.stream import FRAME_VERSION

UNKNOWN: Final = "unknown"
"""In place of a gateway's name."""
_NAME: Final = re.compile(r"[0-7][0-9a-f]{15}")


def rebuilt_record(folder: Path, partitions: int | None) -> BootRecord | None:
    """Who wrote a folder; None if nothing says it, or its events cannot be read. Raises NewerBoot, OSError.

    `partitions` is for files that do not say it, of releases before this: how many the stream has now.
    """
    files = sorted(folder.glob(f"*{SUFFIX}"))
    headers = [header for header in map(read_header, files) if header is not None]
    named = int(folder.name, 16) if _NAME.fullmatch(folder.name) else None
    sources = {header.source for header in headers}
    source = named if named in sources or len(sources) != 1 else sources.pop()
    own = [header for header in headers if header.source == source]
    if any(header.version > FRAME_VERSION for header in own):
        raise NewerBoot
    partitions = max((header.partitions for header in own), default=0) or partitions
    if source is None or not partitions:
        return None
    try:
        started_ms = _first_ms(files, source)
    except msgspec.DecodeError:
        return None
    if started_ms is None:
        started_ms = int(folder.stat().st_mtime * 1_000)
    return BootRecord(source, UNKNOWN, partitions, started_ms)


def _first_ms(files: list[Path], source: int) -> int | None:
    """When the request of the first event that can be read began."""
    for path in files:
        try:
            segment = Segment.open(path, source)
        except SegmentFault:
            continue
        try:
            if segment.numbers():
                return msgspec.msgpack.decode(next(segment.records(HEADER_BYTES)).body, type=Event).ts_ms
        finally:
            segment.let_go()
    return None
