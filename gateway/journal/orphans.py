"""What dead gateway processes of the same state directory left: found, owned, and handed to the shipper.

In: the journal's root. Out: per dead boot its Boot, whose lock is held, and its Backlog with all that was still to ship
or to be confirmed. Safe to call at any time by any number of processes: the lock decides. Blocks: call it in a thread.
"""

import contextlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from gateway.journal.arrange import arrange
from gateway.journal.backlog import Backlog
from gateway.journal.boot import DAMAGED, Boot, BootFault, boot_folders, set_aside
from gateway.journal.boot_file import NewerBoot, SaidEnd
from gateway.journal.copies import gather
from gateway.journal.journal import FOLDER
from gateway.journal.segment import SUFFIX, Segment, SegmentFault
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log


class Orphan(msgspec.Struct, frozen=True):
    """A dead boot that this process owns now."""

    boot: Boot
    backlog: Backlog
    ended_ms: int
    """When it ended; of one that was killed, when it was found."""

    @property
    def killed(self) -> bool:
        """Whether it did not end in order."""
        return self.boot.file.ended_at_seq is None

    @property
    def said_end(self) -> SaidEnd | None:
        """The end record that was put on the stream behind all that is here; None as long as none was."""
        said = self.boot.file.said_end
        return said if said and said.next_seq >= self.backlog.next_seq else None


def adopt_orphans(state_dir: str, said: set[str] | None = None, partitions: int | None = None) -> Iterator[Orphan]:
    """Every boot here whose process is dead and that nobody else adopted. Raises OSError for an unreadable root.

    Those of a newer release are left where they are; `said` remembers which of them the log has named. `partitions`,
    of the stream now, are for one that has lost what it said of them.
    """
    newer: set[str] = set()
    for folder in boot_folders(Path(state_dir) / FOLDER) if state_dir else []:
        try:
            boot = Boot.adopt(folder, partitions)
            if boot is not None:
                yield _orphan(boot)
        except NewerBoot:
            newer.add(folder.name)
        except BootFault as fault:
            counters.journal_damaged.inc()
            get_log("orphans").error("boot_unreadable", folder=folder.name, detail=str(fault))
            with contextlib.suppress(OSError):
                set_aside(folder)
        except OSError as error:
            counters.journal_disk_faults.labels(type(error).__name__).inc()
            get_log("orphans").error("orphan_unreadable", folder=folder.name, error=error.strerror)
        except Exception as error:  # noqa: BLE001 - one that nobody foresaw must not keep the others
            counters.journal_damaged.inc()
            get_log("orphans").error("orphan_unreadable", folder=folder.name, error=type(error).__name__)
    counters.journal_newer.set(len(newer))
    for name in newer - (said or set()):
        get_log("orphans").error("boot_of_newer_release", folder=name, fix="a gateway of that release ships its events")
    if said is not None:
        said |= newer


def _orphan(boot: Boot) -> Orphan:
    if boot.rebuilt or boot.file.damaged:
        counters.journal_damaged.inc()
        get_log("orphans").error(
            "boot_damaged",
            folder=boot.folder.name,
            unfinished_known=boot.file.begun is not None,
            instance_known=not boot.rebuilt,
        )
    try:
        return Orphan(boot, _backlog(boot, _segments(boot)), boot.file.ended_ms or unix_ms())
    except Exception:
        # Its lock goes back, for another try.
        boot.close()
        raise


def join_orphans(one: Orphan, other: Orphan) -> Orphan:
    """One dead boot of two folders of the same source: the end that is said of it counts what either has.

    Raises OSError; then both are given up, to be adopted again.
    """
    whole, part = sorted((one, other), key=_knows, reverse=True)
    log = get_log("orphans")
    log.warning("boot_twice", source=whole.backlog.source, folder=whole.boot.folder.name, copy=part.boot.folder.name)
    try:
        for orphan in (one, other):
            orphan.backlog.close()
        segments = gather(whole.boot.folder, whole.backlog.segments, part.backlog.segments)
        whole.boot.file.note_used(max(whole.boot.file.used or 0, part.boot.file.used or 0))
        part.boot.remove()
        return Orphan(whole.boot, _backlog(whole.boot, segments), whole.ended_ms)
    except Exception:
        for orphan in (one, other):
            orphan.boot.close()
        raise


def _knows(orphan: Orphan) -> tuple[bool, int, bool, bool]:
    """How late a state of its boot a folder has, to be compared."""
    file = orphan.boot.file
    used = max(file.used or 0, orphan.backlog.next_seq)
    return not orphan.boot.rebuilt, used, file.ended_at_seq is not None, file.said_end is not None


def _segments(boot: Boot) -> list[Segment]:
    """All segments that can be read; others are kept aside, and what else is no file stays, with the folder."""
    segments: list[Segment] = []
    for path in sorted(boot.folder.iterdir()):
        if path.suffix != SUFFIX or path.name.startswith(DAMAGED):
            if not path.is_file() and not path.name.startswith(DAMAGED):
                counters.journal_damaged.inc()
                get_log("orphans").error("no_journal_file", folder=boot.folder.name, file=path.name)
            continue
        try:
            segments.append(Segment.open(path, boot.record.source))
        except SegmentFault as fault:
            counters.journal_damaged.inc()
            get_log("orphans").error("segment_unreadable", folder=boot.folder.name, file=path.name, detail=str(fault))
            set_aside(path)
    return segments


def _backlog(boot: Boot, segments: Iterable[Segment]) -> Backlog:
    """Segments in order: none holds a number of another."""
    segments = arrange(boot, segments)
    torn = False
    for segment, following in pairwise(segments):
        segment.next_seq = following.first_seq
    if segments:
        torn = segments[-1].find_end()
        segments[-1].let_go()
        counters.journal_torn.inc(torn)
    record = boot.record
    get_log("orphans").info(
        "adopted",
        source=record.source,
        instance=record.instance,
        first_seq=segments[0].first_seq if segments else 0,
        next_seq=segments[-1].next_seq if segments else 0,
        used=boot.file.used,
        killed=boot.file.ended_at_seq is None,
        torn=torn,
    )
    return Backlog(record.source, record.instance, record.partitions, segments)
