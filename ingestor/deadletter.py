"""Entries that cannot be stored, kept with their reason in the partition's dead-letter stream, and put back from there.

In: an entry's id and why. Out: the entry, with all its fields, in `lectr:{k}:dead`; counted and logged.
Never drops one. Where too much of what comes is refused, the fault is not in the entries: then it buries nothing, and
everything waits where it is.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, cast

from ingestor.batch import Bounds, Poison
from ingestor.faults import LeaseLost, TooManyDeadLetters
from ingestor.lease import Lease
from ingestor.ledger import encode_bounds
from ingestor.marks import Marks
from ingestor.redis_link import Redis, load_script, translated
from shared import counters
from shared.logs import get_log
from shared.stream import Partition

_log = get_log("deadletter")
_DETAIL_CHARS: Final = 500
_PAGE: Final = 100
MOST_AT_ONCE: Final = 20
"""Dead letters that are never too many."""
_WINDOW: Final = 1_000
_WORST_SHARE: Final = 0.1


class DeadLimit:
    """Of the last entries, how many were refused: whether another one may be. Pure."""

    def __init__(self) -> None:
        self._refused: deque[bool] = deque(maxlen=_WINDOW)

    def stored(self, entries: int) -> None:
        """So many were stored."""
        self._refused.extend([False] * min(entries, _WINDOW))

    def buried(self) -> None:
        """One was refused."""
        self._refused.append(True)

    @property
    def reached(self) -> bool:
        """Whether refusing another one would be too much."""
        refused = sum(self._refused) + 1
        return refused > MOST_AT_ONCE and refused > _WORST_SHARE * len(self._refused)


class DeadLetters:
    """The way out for what no batch can hold."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._bury = load_script(client, "bury.lua")
        self._redrive = load_script(client, "redrive.lua")
        self.limit = DeadLimit()

    async def bury(
        self, lease: Lease, poison: Poison, *, marks: tuple[int, Marks] | None, pending: Bounds | None = None
    ) -> None:
        """Move one entry, and drop the record of the batch that held only it.

        `marks` are those of its source with it in them, if it is known whose it is: it is kept, nobody need send it
        again. Raises TooManyDeadLetters, and then it stays where it is; LeaseLost, RedisFault.
        """
        partition = lease.partition
        if self.limit.reached:
            raise TooManyDeadLetters(
                f"partition {partition.index}: over {_WORST_SHARE:.0%} of the last entries were refused, so entry "
                f"{poison.entry_id} stays in the stream ({poison.reason}: {poison.detail[:_DETAIL_CHARS]}). Does this "
                "release fit its gateways and its table? A restart allows as many again"
            )
        with translated():
            outcome = await self._bury(
                keys=[partition.lease, partition.pending, partition.stream, partition.done, partition.dead],
                args=[
                    lease.owner,
                    poison.entry_id,
                    poison.reason,
                    poison.detail[:_DETAIL_CHARS],
                    encode_bounds(pending) if pending else b"",
                    *((marks[0], marks[1].encode()) if marks else ("", "")),
                ],
            )
        if outcome == b"lease":
            raise LeaseLost(f"partition {partition.index}: another ingestor owns it")
        self.limit.buried()
        counters.dead_letters.labels(poison.reason).inc()
        _log.error(
            "entry moved to the dead-letter stream",
            stream=partition.dead,
            entry=poison.entry_id,
            reason=poison.reason,
            detail=poison.detail[:_DETAIL_CHARS],
        )

    async def waiting(self, partition: Partition) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Ids and what is said of the dead letters of a partition, oldest first. Raises RedisFault."""
        start = "-"
        while True:
            with translated():
                found = cast("list[Any]", await self._client.xrange(partition.dead, start, "+", count=_PAGE))
            for entry_id, fields in found:
                said = {name.decode(): value for name, value in fields.items() if name not in {b"f", b"e"}}
                yield entry_id.decode(), {name: value.decode("utf-8", "replace") for name, value in said.items()}
            if len(found) < _PAGE:
                return
            start = f"({found[-1][0].decode()}"

    async def redrive(self, partition: Partition, entry_id: str) -> bool:
        """Put a dead letter back onto the stream; False if it is not there. Raises RedisFault."""
        with translated():
            return bool(await self._redrive(keys=[partition.dead, partition.stream], args=[entry_id]))
