"""The writing side of a journal: takes events with their numbers, and never waits for a disk.

In: encoded events. Out: records in the current segment; a backlog of them for the shipper. The next segment is made
ahead of time by `tend`, in a thread.

When there is no room, the overflow policy is `drop_newest`: traffic goes on, the newest event is not kept, its number
is used up (a hole in the sequence shows it) and it is counted. Room means LECTR_JOURNAL_BYTES. A disk that fails or is
full is no reason to drop: events then go to memory of a bounded size, where a killed process loses them.
"""

import asyncio
import errno
import itertools
from pathlib import Path
from typing import Final

from gateway.journal.backlog import Backlog
from gateway.journal.boot import Boot, sync_folder
from gateway.journal.boot_file import BootRecord, SaidEnd
from gateway.journal.segment import SUFFIX, Segment, allocate
from shared import counters
from shared.clock import unix_ms
from shared.logs import get_log

FOLDER: Final = "journal"
_SPARE: Final = "spare"
_TEND_S: Final = 0.05
_IN_PLACE_S: Final = 0.5
"""How often a look is taken whether the folder is still there."""
_RETRY_S: Final = 5.0
"""How long after a failure the disk is tried again."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a start goes on with; anything else is a setting that is wrong."""
UPROOTED_FIX: Final = "LECTR_STATE_DIR was deleted under a running gateway: keep it while gateways run"
_MOST_MEMORY_SEGMENTS: Final = 16
"""Of LECTR_JOURNAL_SEGMENT_BYTES each, while the disk refuses."""


class Journal:
    """The events of this process. `append`, `skip` and `begin` are for the request path: they do not wait or raise."""

    def __init__(
        self,
        state_dir: str,
        *,
        source: int,
        instance: str,
        partitions: int,
        capacity_bytes: int,
        segment_bytes: int,
        sync_interval_ms: int,
    ) -> None:
        """Begin a boot's journal; without `state_dir`, or while its disk is full, in memory. Raises OSError."""
        self.source = source
        self.next_seq = 0
        """The number that the next event must carry."""
        self.started_ms = unix_ms()
        self._boot: Boot | None = None
        self._begun = 0
        self._root = Path(state_dir) / FOLDER if state_dir else None
        self._record = BootRecord(source, instance, partitions, self.started_ms)
        self._capacity_bytes = capacity_bytes
        self._segment_bytes = segment_bytes
        self._sync_interval_s = sync_interval_ms / 1_000
        self._spare: Path | None = None
        self._spares = itertools.count()
        self._disk_tried_s = -_RETRY_S
        self.full = False
        """Whether events are dropped because there is no room."""
        self._log = get_log("journal")
        self._tending: asyncio.Task[None] | None = None
        self.disk_failing = False
        """Whether events go to memory because the disk refused."""
        self._sync_failing = False
        self._seen_s = self._synced_s = 0.0
        self._synced_seq = 0
        self.uprooted = False
        """Whether somebody deleted the folder while this process lived."""
        self._missed = False
        """Whether the last look did not find the file `boot`."""
        self._homeless: list[Segment] = []
        """What is still mapped of the files that were in it."""
        self.backlog = Backlog(source, instance, partitions, [])
        if self._root is not None:
            try:
                self._boot = Boot.create(self._root, self._record)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._disk_refused(error)
        if self._boot is not None:
            self._spare = self._make_spare(self._boot.folder)
        self._current = self._new_segment()
        self.backlog.extend(self._current)
        counters.journal_bytes.set_function(lambda: self.backlog.size_bytes)

    @property
    def kept(self) -> str:
        """Where events are until they are stored: disk or memory."""
        return "disk" if self._current.path is not None else "memory"

    @property
    def condition(self) -> str:
        """For people: where events are, and what is wrong with that."""
        if self.full:
            return "full: new events are dropped"
        if self.disk_failing:
            return f"{self.kept}: the disk refuses new files"
        return f"{self.kept}: the disk refuses to sync" if self._sync_failing else self.kept

    @property
    def folder(self) -> Path | None:
        """Where this boot's files are."""
        return self._boot.folder if self._boot is not None else None

    def begin(self) -> None:
        """A request of a known organisation begins. What never becomes an event is counted by whoever adopts this."""
        self._begun += 1
        if self._boot is not None:
            self._boot.file.note_begun(self._begun)

    def append(self, event: bytes) -> None:
        """Keep the event that carries `next_seq`."""
        seq = self.next_seq
        self.next_seq = seq + 1
        if not self._current.append(seq, event) and not self._append_to_next(seq, event):
            counters.events_dropped.labels("journal_full").inc()
            if not self.full:
                self.full = True
                self._log.error("journal_full", policy="drop_newest", fix="LECTR_JOURNAL_BYTES, or Redis back")
        # Behind the event: a number that is noted and has no record is a loss, and its heir says so.
        if self._boot is not None:
            self._boot.file.note_used(self.next_seq)

    def skip(self) -> None:
        """Use up `next_seq` for an event that could not be made."""
        self.next_seq += 1
        if self._boot is not None:
            self._boot.file.note_used(self.next_seq)

    def start(self) -> None:
        """Begin to make segments ahead of time and to sync; `close` ends it."""
        self._tending = asyncio.create_task(self._tend(), name="journal")

    async def close(self) -> None:
        """End in order. What is not confirmed stays on disk for the next process."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait({self._tending})
        if self._boot is None:
            return
        self._boot.file.note_end(self.next_seq, unix_ms())
        self.backlog.close()
        self._current.let_go()
        if self._spare is not None:
            self._spare.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the folder up, for another process to adopt."""
        if self._boot is not None:
            self._boot.close()

    def note_end(self, said: SaidEnd) -> None:
        """The record of this boot's end is on the stream: whoever adopts the folder need not say it again."""
        if self._boot is not None:
            self._boot.file.said_end = said

    def _append_to_next(self, seq: int, event: bytes) -> bool:
        if not self._has_room:
            return False
        self.full = False
        self._go_on_in(self._new_segment(seq))
        return self._current.append(seq, event)

    @property
    def _has_room(self) -> bool:
        """Whether there may be another segment."""
        if self.backlog.size_bytes + self._segment_bytes > self._capacity_bytes:
            return False
        if self._root is None or self._spare is not None or not self.disk_failing:
            return True
        return sum(segment.path is None for segment in self.backlog.segments) < _MOST_MEMORY_SEGMENTS

    def _go_on_in(self, segment: Segment) -> None:
        self.backlog.extend(segment)
        self._current = segment

    def _new_segment(self, first_seq: int = 0) -> Segment:
        """The spare one, one made now, or memory."""
        spare, self._spare = self._spare, None
        if self._boot is not None:
            if spare is None and not self.disk_failing:
                counters.journal_waits.inc()
                spare = self._make_spare(self._boot.folder)
            if spare is not None:
                path = self._boot.folder / f"{first_seq:020d}{SUFFIX}"
                try:
                    return self._begin_segment(spare.rename(path), first_seq)
                except OSError as error:
                    path.unlink(missing_ok=True)
                    self._disk_refused(error)
        return self._begin_segment(None, first_seq)

    def _begin_segment(self, path: Path | None, first_seq: int) -> Segment:
        return Segment.begin(path, self.source, first_seq, self._segment_bytes, self._record.partitions)

    def _make_spare(self, folder: Path) -> Path | None:
        # Named apart: one may be needed at once while a thread still makes another.
        path = folder / f"{_SPARE}-{next(self._spares)}"
        try:
            allocate(path, self._segment_bytes)
        except OSError as error:
            self._disk_refused(error)
            return None
        if self.disk_failing:
            self.disk_failing = False
            self._log.info("journal_disk_available")
        return path

    def _disk_refused(self, error: OSError) -> None:
        counters.journal_disk_faults.labels(type(error).__name__).inc()
        if not self.disk_failing:
            self.disk_failing = True
            self._log.error("journal_disk_refused", error=error.strerror, kept="memory", fix="LECTR_STATE_DIR")

    async def _tend(self) -> None:
        """Keep a spare segment ready, and have the disk write what was appended."""
        loop = asyncio.get_running_loop()
        self._seen_s = self._synced_s = loop.time()
        while True:
            await asyncio.sleep(_TEND_S)
            try:
                await self._tend_once(loop.time())
            except Exception as error:  # noqa: BLE001 - nothing ends this for good: counted, said, tried again
                counters.handler_faults.inc()
                self._log.error("defect", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _tend_once(self, now_s: float) -> None:
        if self._boot is not None and now_s - self._seen_s >= _IN_PLACE_S:
            self._seen_s = now_s
            if await asyncio.to_thread(self._boot.in_place):
                self._missed = False
            elif not self._missed and await asyncio.to_thread(self._boot.folder.is_dir):
                # Perhaps all of it is being deleted: the next look says so.
                self._missed = True
            else:
                await self._go_on_without(self._boot)
        may_try = not self.disk_failing or now_s - self._disk_tried_s >= _RETRY_S
        if self._root is not None and self._spare is None and may_try:
            self._disk_tried_s = now_s
            await asyncio.to_thread(self._get_ready, self._root)
            if self._spare is not None and self._current.path is None and self._has_room:
                # The disk is there again: what comes now is safe at once.
                self._go_on_in(self._new_segment(self.next_seq))
        if self._homeless and self._boot is not None and self._current not in self._homeless:
            await self._settle(self._boot.folder, self._homeless.pop())
        due = self._sync_interval_s and now_s - self._synced_s >= self._sync_interval_s
        if due and self.next_seq != self._synced_seq:
            # The one before the current may have got its last events since.
            behind = [segment for segment in self.backlog.segments if segment.next_seq > self._synced_seq]
            self._synced_s, self._synced_seq = now_s, self.next_seq
            await asyncio.to_thread(self._sync, behind, self._boot)

    async def _go_on_without(self, gone: Boot) -> None:
        """The file `boot` is gone: make it again if that is all, or go on elsewhere."""
        again = await asyncio.to_thread(gone.made_again)
        if again is None:
            self._leave(gone)
            return
        counters.journal_disk_faults.labels("gone").inc()
        self._log.error("journal_boot_gone", folder=str(gone.folder), fix="keep LECTR_STATE_DIR while gateways run")
        again.file.note_begun(self._begun)
        again.file.note_used(self.next_seq)
        self._boot = again
        gone.close()

    def _leave(self, gone: Boot) -> None:
        """Go on in memory, and in a new folder as soon as there is one: nobody would find what the old one holds."""
        counters.journal_disk_faults.labels("gone").inc()
        if not self.uprooted:
            self._log.error("journal_folder_gone", folder=str(gone.folder), fix=UPROOTED_FIX)
        self.uprooted = True
        self._homeless += [segment for segment in self.backlog.segments if segment.path and segment.keep_in_memory()]
        self._boot = self._spare = None
        gone.close()
        self._disk_tried_s = -_RETRY_S

    async def _settle(self, folder: Path, segment: Segment) -> None:
        """Give a complete segment a file again, in the new folder."""
        # The name of an empty one may be that of the segment behind it.
        if segment not in self.backlog.segments or segment.next_seq == segment.first_seq:
            return
        path = folder / f"{segment.first_seq:020d}{SUFFIX}"
        try:
            await asyncio.to_thread(_write, path, segment.map[:])
        except OSError as error:
            self._disk_refused(error)
            return
        if segment in self.backlog.segments:
            segment.path = path
        else:
            path.unlink(missing_ok=True)

    def _get_ready(self, root: Path) -> None:
        """Make what is due on disk: the folder if there was no room for it yet, and the next file."""
        if self._boot is None:
            try:
                boot = Boot.create(root, self._record)
            except OSError as error:
                self._disk_refused(error)
                return
            boot.file.note_begun(self._begun)
            boot.file.note_used(self.next_seq)
            self._boot = boot
        elif self._sync_interval_s:
            # For the name of the segment that the file became which was ready before.
            try:
                sync_folder(self._boot.folder)
            except OSError as error:
                self._not_synced(error)
        self._spare = self._make_spare(self._boot.folder)

    def _sync(self, segments: list[Segment], boot: Boot | None) -> None:
        try:
            for segment in segments:
                try:
                    segment.sync()
                except FileNotFoundError:
                    # A complete one was confirmed meanwhile.
                    if not segment.sealed:
                        raise
            if boot is not None:
                boot.sync()
        except OSError as error:
            self._not_synced(error)
            self._sync_failing = True
        else:
            self._sync_failing = False

    def _not_synced(self, error: OSError) -> None:
        counters.journal_disk_faults.labels(type(error).__name__).inc()
        if not self._sync_failing:
            self._log.error("journal_not_synced", error=error.strerror, fix="LECTR_STATE_DIR")


def _write(path: Path, content: bytes) -> None:
    """A file that appears under its name when it is whole. Raises OSError."""
    unborn = path.with_suffix(".new")
    unborn.write_bytes(content)
    unborn.rename(path)
