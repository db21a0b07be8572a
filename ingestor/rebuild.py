"""What must hold while hours of the rollup are made anew: nobody else does, and no batch in doubt adds to them later.

In: Redis. Out: a lock that is renewed before each statement, and a wait until the batches on record are decided.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Final

from ingestor.clickhouse import ANSWER_TIMEOUT_S
from ingestor.faults import ClickHouseFault, IngestorFault, RebuildRefused
from ingestor.partitions import partitions_with
from ingestor.redis_link import Redis, translated
from shared.redis_client import REDIS_ERRORS, LockError
from shared.stream import ROLLUP_REBUILD, Partition

LOCK_S: Final = 3 * ANSWER_TIMEOUT_S
"""Renewed before each statement; before the first one come two questions and the wait."""
_DEADLINE_S: Final = 30.0
_PAUSE_S: Final = 0.2

Say = Callable[[str], object]
"""Tells a person what is going on."""
Renew = Callable[[str], Awaitable[None]]
"""Keeps the lock, or raises with the text that says what is left as it is then."""


@contextlib.asynccontextmanager
async def alone(client: Redis) -> AsyncIterator[Renew]:
    """Hold the lock, and give what renews it, to be called before each change.

    Raises RedisFault, RebuildRefused if another one holds it.
    """
    changing = kept = False
    lock = client.lock(ROLLUP_REBUILD, timeout=LOCK_S)
    with translated():
        if not await lock.acquire(blocking=False):
            left_s = max(int(await client.pttl(ROLLUP_REBUILD)), 0) // 1_000 + 1
            raise RebuildRefused(
                "hours of the rollup are being made anew already, by rollup --rebuild or by an ingestor unasked; "
                "nothing was changed; wait until that has ended, or, if its process was killed, for the "
                f"{left_s} s until its lock {ROLLUP_REBUILD} in Redis expires"
            )

    async def renew(left: str) -> None:
        nonlocal changing
        with translated():
            try:
                await lock.reacquire()
            except LockError:
                raise RebuildRefused(
                    f"the lock {ROLLUP_REBUILD} is lost, as Redis forgot it or a statement took over {LOCK_S} s; "
                    f"{left}; run: python -m ingestor rollup --rebuild"
                ) from None
        changing = True

    try:
        yield renew
    except BaseException as error:
        # One that is not given back expires: not before a statement that was left without an answer has ended.
        kept = changing and _is_open(error)
        raise
    finally:
        if not kept:
            with contextlib.suppress(*REDIS_ERRORS):
                await lock.release()


def _is_open(error: BaseException) -> bool:
    """Whether it may have come while ClickHouse was at work, which goes on with that."""
    return not isinstance(error, IngestorFault) or (isinstance(error, ClickHouseFault) and error.code is None)


async def settle(client: Redis, say: Say, so_far: str = "nothing was changed") -> None:
    """Wait until each batch that is on record now is committed: its repeat completes what it lacks of the rollup.

    Raises RedisFault, RebuildRefused if that takes too long.
    """
    waiting = await _recorded(client, await partitions_with(client, "pending"))
    end_s, told = time.monotonic() + _DEADLINE_S, 0
    while waiting:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise RebuildRefused(
                f"{_shown(waiting)}: a batch is in doubt, and may yet add to an hour; {so_far}; "
                "an ingestor must be running to finish it, and its /readyz says what keeps it from that"
            )
        if len(waiting) != told:
            told = len(waiting)
            say(f"{_shown(waiting)}: a batch is being stored; waiting for it, {left_s:.0f} s at most")
        await asyncio.sleep(_PAUSE_S)
        now = await _recorded(client, waiting)
        waiting = {index: record for index, record in waiting.items() if now.get(index) == record}


async def _recorded(client: Redis, partitions: Collection[int]) -> dict[int, bytes]:
    pipeline = client.pipeline(transaction=False)
    for index in partitions:
        pipeline.get(Partition(index).pending)
    with translated():
        found = await pipeline.execute()
    return {index: record for index, record in zip(partitions, found, strict=True) if record is not None}


def _shown(partitions: Collection[int]) -> str:
    return f"partition{'s' if len(partitions) > 1 else ''} {', '.join(map(str, sorted(partitions)))}"
