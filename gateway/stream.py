"""The door to the Redis stream: frames and end records in, what Redis and ClickHouse have of a source out.

Every call is one script on one partition, and may be repeated after any failure. Raises whatever the driver raises: its
caller tries again, and counts it.
"""

import importlib.resources
from typing import Final, cast

import msgspec

from gateway.journal import Backlog, Run
from shared.environment import SecretUrl
from shared.redis_client import (
    REDIS_ERRORS,
    NoPermissionError,
    Script,
    close_redis,
    info_of_all,
    is_watched,
    open_redis,
)
from shared.redis_settings import unsafe_servers
from shared.stream import BootEnd, Partition, encode_boot_end, encode_frame, partition_of

__all__ = ["REDIS_ERRORS", "Marks", "Stream"]

SOCKET_TIMEOUT_S: Final = 5.0
_REMEMBER_END_S: Final = 7 * 24 * 3_600
"""For how long an end may wait on the stream and is still known as the one that was said."""


class Marks(msgspec.Struct, frozen=True):
    """How far a source is; None where Redis does not know."""

    accepted_seq: int | None
    stored_seq: int | None
    ended_ms: int | None
    """When a record of its end was stored in ClickHouse; 0 while one is on the stream."""
    end_waits: bool
    """The end record that was asked about is still on the stream."""
    end_known: bool
    """Redis has had that end record: it is not in a state of before."""


class Stream:
    """Redis, as a gateway uses it for events."""

    def __init__(self, redis_url: SecretUrl) -> None:
        # Frames are repeated by the shipper's own loop, which knows that it is safe.
        self._redis = open_redis(redis_url, connect_timeout_s=SOCKET_TIMEOUT_S, reply_timeout_s=SOCKET_TIMEOUT_S)
        folder = importlib.resources.files("gateway")
        self._push, self._marks, self._end = (
            Script(self._redis, folder.joinpath(name).read_text(encoding="utf-8"))
            for name in ("push.lua", "marks.lua", "end.lua")
        )

    async def push(self, backlog: Backlog, run: Run) -> int:
        """Append a run; the seq that Redis expects next, which is the run's own if and only if it has it."""
        partition = _partition(backlog)
        frame = encode_frame(backlog.source, run.first_seq, backlog.instance, run.events)
        numbers = (backlog.source, backlog.floor, run.expected_seq, run.first_seq, len(run.events))
        return int(
            await self._push(
                keys=[partition.stream, partition.accepted, partition.ended],
                args=[*(b"%d" % number for number in numbers), frame],
            )
        )

    async def marks(
        self, backlog: Backlog, *, seen: tuple[int, int, int] | None, living: bool = False, end_id: str = ""
    ) -> Marks:
        """How far the source is, and that it is there: `seen` is now, the number of its next event, when it started.

        Of one that does not live that counts only if nothing newer is known, and until its end is stored: `end_id` is
        for one whose end was said, the entry that `end` named.
        """
        partition = _partition(backlog)
        keys = [partition.accepted, partition.done, partition.seen, partition.ended, partition.stream]
        said = b"%d:%d:%d" % seen if seen else b""
        args = [b"%d" % backlog.source, said, end_id.encode("ascii"), b"living" if living else b"dead"]
        accepted, stored, ended, waits, ours = cast(
            "tuple[int, int, int, int, int]",
            await self._marks(keys=[*keys, partition.said(backlog.source)], args=args),
        )
        accepted_seq, stored_seq, ended_ms = (number if number >= 0 else None for number in (accepted, stored, ended))
        return Marks(accepted_seq, stored_seq, ended_ms, bool(waits), bool(ours))

    async def end(self, backlog: Backlog, end: BootEnd) -> tuple[int, str]:
        """Append the record of a source's end: the seq that Redis expects, and the entry that stands for the record.

        The record is there if the seq is that of the backlog.
        """
        partition = _partition(backlog)
        numbers = (backlog.source, backlog.floor, backlog.shipped_seq, end.events)
        args = [*(b"%d" % number for number in numbers), encode_boot_end(end), b"%d" % _REMEMBER_END_S]
        keys = [partition.stream, partition.accepted, partition.ended, partition.said(backlog.source)]
        expected_seq, entry_id = cast("tuple[int, bytes]", await self._end(keys=keys, args=args))
        return expected_seq, entry_id.decode("ascii")

    async def unsafe_settings(self) -> list[str]:
        """What is wrong with Redis' settings, in sentences; nothing if it does not tell."""
        try:
            return unsafe_servers(await info_of_all(self._redis), watched=is_watched(self._redis))
        except NoPermissionError:
            return []

    async def close(self) -> None:
        """Close the connections."""
        await close_redis(self._redis)


def _partition(backlog: Backlog) -> Partition:
    return partition_of(backlog.source, backlog.partitions)
