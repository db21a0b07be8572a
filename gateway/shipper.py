"""Events from the journal to the Redis stream, in the background; no request ever waits for it.

In: backlogs, this process' own and those of dead ones. Out: frames on the stream, each event once however often the
connection breaks, and journals that shrink as ClickHouse confirms. When Redis is away the journal grows; when Redis has
forgotten what it took, it gets it again, from what the journal still holds.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.journal import (
    Backlog,
    Journal,
    Orphan,
    Run,
    SaidEnd,
    Segment,
    adopt_orphans,
    join_orphans,
    remove_segments,
)
from gateway.stream import REDIS_ERRORS, Marks, Stream
from shared import counters
from shared.clock import unix_ms
from shared.environment import SecretUrl
from shared.logs import get_log
from shared.stream import MAX_FRAME_EVENTS, BootEnd
from shared.tasks import cancelled

_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0
_LOOK_S: Final = 1.0
"""How often a gateway asks what was stored, and says that it lives."""
_ADOPT_S: Final = 2.0
_TURN_S: Final = 0.5
"""How long one dead process' journal is shipped before the next one's, at least a frame."""
_SLOW_S: Final = 1.0
ENDED_ELSEWHERE_FIX: Final = "LECTR_STATE_DIR was copied, or is used twice: each gateway needs its own"
T = TypeVar("T")


class Shipper:
    """The way of this process' events to Redis, and of those that dead processes left here."""

    def __init__(self, redis_url: SecretUrl, journal: Journal, *, state_dir: str, interval_ms: int) -> None:
        self._journal = journal
        self._own = journal.backlog
        self._state_dir = state_dir
        self._interval_s = interval_ms / 1000
        self._stream = Stream(redis_url)
        self._adopted: dict[int, Orphan] = {}
        self._stopping = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._log = get_log("shipper")
        self._stored_seq = 0
        self.redis_failing = False
        self.redis_unsafe: list[str] = []
        """What is wrong with Redis' settings."""
        self.ended_elsewhere = False
        """Whether somebody said that this boot has ended: its journal was copied while it lives."""
        self._asking_since_s = 0.0
        counters.events_buffered.set_function(lambda: self.waiting_events)
        counters.events_unconfirmed.set_function(lambda: self.unconfirmed_events)

    @property
    def redis_slow(self) -> bool:
        """Whether a frame has been waiting for Redis' answer for more than a second."""
        return bool(self._asking_since_s) and time.monotonic() - self._asking_since_s > _SLOW_S

    @property
    def waiting_events(self) -> int:
        """Events that Redis has not accepted yet, those of dead processes included."""
        return self._own.waiting + sum(orphan.backlog.waiting for orphan in self._adopted.values())

    @property
    def unconfirmed_events(self) -> int:
        """Events of this process that are not known to be in ClickHouse."""
        return max(self._journal.next_seq - max(self._stored_seq, self._own.floor), 0)

    @property
    def adopted_boots(self) -> int:
        """Dead processes whose journals are being shipped."""
        return len(self._adopted)

    def start(self) -> None:
        """Begin shipping; `close` ends it."""
        self._tasks.append(asyncio.create_task(self._ship_own(), name="shipper"))
        if self._state_dir:
            self._tasks.append(asyncio.create_task(self._ship_orphans(), name="orphans"))

    async def close(self, timeout_s: float) -> None:
        """Ship what is left, for at most `timeout_s`; what Redis does not take stays in a journal on disk."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            own, *others = self._tasks
            for task in others:
                task.cancel()
            await asyncio.wait({own}, timeout=timeout_s)
            own.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for orphan in self._adopted.values():
            orphan.backlog.close()
            orphan.boot.close()
        lost = self._own.unshipped_in_memory()
        left = self.waiting_events - lost
        if lost:
            counters.events_dropped.labels("exit").inc(lost)
            self._log.error("events_lost_at_exit", events=lost, fix="Redis did not answer; LECTR_STATE_DIR keeps them")
        if left > 0:
            self._log.warning("events_left_in_journal", events=left, shipped_by="the next gateway with this state")
        await self._stream.close()

    # This process' own events.

    async def _ship_own(self) -> None:
        looked_s = -math.inf
        # Events wait in the journal until Redis is there, and so does this question.
        self.redis_unsafe = await self._insisting(self._stream.unsafe_settings)
        counters.gateway_redis_unsafe.set(len(self.redis_unsafe))
        for problem in self.redis_unsafe:
            self._log.error("redis_unsafe", problem=problem)
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval_s)
            try:
                # First: what is shipped counts as late from when this process was heard.
                if time.monotonic() - looked_s >= _LOOK_S and not self._stopping:
                    await self._look()
                    looked_s = time.monotonic()
                await self._ship(self._own, _LOOK_S)
            except Exception as error:  # noqa: BLE001 - nothing ends shipping for good: counted, said, tried again
                await self._defect(error)
        entry_id = None
        while entry_id is None:
            await self._ship(self._own)
            entry_id = await self._end(self._own, self._own_end())
        self._journal.note_end(SaidEnd(self._own.shipped_seq, entry_id))

    def _own_end(self) -> BootEnd:
        journal = self._journal
        return BootEnd(self._own.instance, journal.started_ms, unix_ms(), journal.next_seq, 0, killed=False)

    # Those of dead processes.

    async def _ship_orphans(self) -> None:
        said: set[str] = set()
        while not self._stopping:
            await self._sparing(self._adopt(said))
            more = False
            for source, orphan in list(self._adopted.items()):
                until_s = time.monotonic() + _TURN_S
                if await self._sparing(self._finish(orphan)):
                    del self._adopted[source]
                # Many dead boots must not fill the memory with a file each.
                orphan.backlog.rest()
                # Who used its turn up has another one as soon as all others had theirs.
                more |= time.monotonic() >= until_s
            await asyncio.sleep(0 if more else _LOOK_S if self._adopted else _ADOPT_S)

    async def _sparing(self, work: Awaitable[bool]) -> bool:
        """Its answer; False, counted and said, if it failed: the others go on."""
        try:
            return await work
        except OSError as error:
            self._disk_refused(error)
        except Exception as error:  # noqa: BLE001 - as above
            await self._defect(error)
        return False

    async def _adopt(self, said: set[str]) -> bool:
        """Take every dead process' journal over, each as soon as it is found; whether there was one."""
        found, new = adopt_orphans(self._state_dir, said, self._own.partitions), set()
        while (orphan := await asyncio.to_thread(next, found, None)) is not None:
            source = orphan.backlog.source
            new.add(source)
            if (known := self._adopted.pop(source, None)) is not None:
                # The end of one folder would be taken for that of both.
                orphan = await self._joined(known, orphan)
            if orphan is not None:
                self._adopted[source] = orphan
        for source in new & self._adopted.keys():
            # Its turn may come late: until then nobody is to think that all of it is stored.
            await self._ask(self._adopted[source])
        return bool(new)

    async def _joined(self, one: Orphan, other: Orphan) -> Orphan | None:
        """What two folders hold of one dead process; None if the disk refused: both are found again."""
        try:
            return await asyncio.to_thread(join_orphans, one, other)
        except OSError as error:
            self._disk_refused(error)
            return None

    async def _ask(self, orphan: Orphan) -> Marks:
        """How far it is, and let it be known that it is there."""
        said = orphan.said_end
        seen = (unix_ms(), _end_seq(orphan), orphan.boot.record.started_ms)
        return await self._insisting(
            lambda: self._stream.marks(orphan.backlog, seen=seen, living=False, end_id=said.entry_id if said else "")
        )

    async def _finish(self, orphan: Orphan) -> bool:
        """Do what its process would still have done; whether all of it is in ClickHouse, and the journal gone.

        A part of it if there is much: `_TURN_S` of shipping at once.
        """
        backlog = orphan.backlog
        said = orphan.said_end
        marks = await self._ask(orphan)
        if said and _is_over(marks, backlog):
            await asyncio.to_thread(remove_segments, backlog.confirm(backlog.next_seq))
            await asyncio.to_thread(orphan.boot.remove)
            self._log.info("orphan_finished", source=backlog.source)
            return True
        await self._take(backlog, marks)
        if not await self._ship(backlog, _TURN_S) or (said and (marks.end_waits or marks.ended_ms == 0)):
            return False
        record, file = orphan.boot.record, orphan.boot.file
        end_seq = _end_seq(orphan)
        unfinished = max((file.begun or 0) - end_seq, 0) if orphan.killed else 0
        end = BootEnd(record.instance, record.started_ms, orphan.ended_ms, end_seq, unfinished, killed=orphan.killed)
        if (entry_id := await self._end(backlog, end)) is not None:
            file.said_end = SaidEnd(backlog.next_seq, entry_id)
        return False

    # Any backlog.

    async def _ship(self, backlog: Backlog, most_s: float = math.inf) -> bool:
        """Everything that is there, until Redis has it, or for so long; whether it has it."""
        until_s = time.monotonic() + most_s
        while True:
            if (segment := backlog.to_load()) is not None:
                await self._load(backlog, segment)
            run = backlog.next_run(MAX_FRAME_EVENTS)
            if run is not None:
                await self._push(backlog, run)
            elif backlog.to_load() is None:
                return True
            if time.monotonic() >= until_s:
                return False

    async def _load(self, backlog: Backlog, segment: Segment) -> None:
        """Get a segment ready to be read, or say why not: it is tried again. Requests must not wait for the disk."""
        try:
            await asyncio.to_thread(segment.load)
        except FileNotFoundError:
            self._log.error("segment_gone", source=backlog.source, first_seq=segment.first_seq)
            backlog.give_up(segment)
        except OSError as error:
            self._disk_refused(error)
            await asyncio.sleep(_FIRST_BACKOFF_S)

    def _disk_refused(self, error: OSError) -> None:
        counters.journal_disk_faults.labels(type(error).__name__).inc()
        self._log.error("journal_unreadable", error=error.strerror, fix="LECTR_STATE_DIR; trying again")

    async def _defect(self, error: Exception) -> None:
        counters.push_retries.labels(type(error).__name__).inc()
        self._log.error("defect", error=type(error).__name__, waiting_events=self.waiting_events)
        await asyncio.sleep(_FIRST_BACKOFF_S)

    async def _push(self, backlog: Backlog, run: Run) -> None:
        expected_seq = await self._insisting(lambda: self._stream.push(backlog, run))
        if expected_seq == run.next_seq:
            backlog.shipped(run)
            counters.events_sent.inc(len(run.events))
        else:
            self._seek(backlog, expected_seq)

    async def _look(self) -> None:
        """Ask how far this process' own events are, and say that it lives."""
        journal = self._journal
        seen = (unix_ms(), journal.next_seq, journal.started_ms)
        marks = await self._insisting(lambda: self._stream.marks(self._own, seen=seen, living=True))
        if marks.ended_ms is not None and not self.ended_elsewhere:
            self.ended_elsewhere = True
            counters.boot_ended_elsewhere.set(1)
            self._log.error("boot_ended_elsewhere", source=self._own.source, fix=ENDED_ELSEWHERE_FIX)
        await self._take(self._own, marks)
        self._stored_seq = max(self._stored_seq, marks.stored_seq or 0)

    async def _take(self, backlog: Backlog, marks: Marks) -> None:
        """Drop what is stored, go back for what Redis has forgotten."""
        stored = backlog.confirm(marks.stored_seq or 0)
        if stored:
            await asyncio.to_thread(remove_segments, stored)
        self._seek(backlog, max(marks.accepted_seq or 0, backlog.floor))

    def _seek(self, backlog: Backlog, seq: int) -> None:
        if seq < backlog.shipped_seq:
            again = backlog.shipped_seq - seq
            counters.events_reshipped.inc(again)
            self._log.warning("redis_forgot", source=backlog.source, events_shipped_again=again)
        if seq != backlog.shipped_seq:
            backlog.seek(seq)

    async def _end(self, backlog: Backlog, end: BootEnd) -> str | None:
        """Put the record of its end behind a source's frames; the id of its entry, None if some are to come again."""
        expected_seq, entry_id = await self._insisting(lambda: self._stream.end(backlog, end))
        if expected_seq == backlog.shipped_seq:
            return entry_id
        self._seek(backlog, expected_seq)
        return None

    async def _insisting(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for until it comes."""
        backoff_s = _FIRST_BACKOFF_S
        self._asking_since_s = time.monotonic()
        while True:
            try:
                answer = await call()
            except Exception as error:  # noqa: BLE001 - whatever stands in the way: counted, said, and tried again
                if cancelled():
                    raise asyncio.CancelledError from None
                reason = type(error).__name__
                counters.push_retries.labels(reason).inc()
                if not self.redis_failing:
                    what = "redis_unavailable" if isinstance(error, REDIS_ERRORS) else "defect"
                    self._log.warning(what, error=reason, waiting_events=self.waiting_events)
                self.redis_failing = True
                await asyncio.sleep(backoff_s * (0.5 + secrets.randbelow(1000) / 1000))
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                if cancelled():
                    # The driver may let a cancellation pass that meets its answer.
                    raise asyncio.CancelledError
                self._asking_since_s = 0.0
                if self.redis_failing:
                    self._log.info("redis_available", waiting_events=self.waiting_events)
                    self.redis_failing = False
                return answer


def _end_seq(orphan: Orphan) -> int:
    """The number behind the last one that it used, as far as anybody knows."""
    backlog, file = orphan.backlog, orphan.boot.file
    return max(backlog.next_seq, backlog.shipped_seq, file.used or 0, file.ended_at_seq or 0)


def _is_over(marks: Marks, backlog: Backlog) -> bool:
    """Whether the end that was said is stored, and with it all that lies before it.

    Redis keeps no marks of a source that ended. If it has some, events came after an end: it counts what they say. One
    that never had the end that was said has been put back to before: another end is stored, one that says less.
    """
    stored = marks.stored_seq is None or marks.stored_seq >= backlog.next_seq
    return marks.end_known and bool(marks.ended_ms) and not marks.end_waits and stored
