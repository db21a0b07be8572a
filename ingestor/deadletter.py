"""Entries that cannot be stored, kept with their reason in the partition's dead-letter stream.

In: an entry's id and why. Out: the entry, with all its fields, in `lectr:{k}:dead`; counted and logged.
Never drops one.
"""

from ingestor.batch import Bounds, Poison
from ingestor.faults import LeaseLost
from ingestor.lease import Lease
from ingestor.ledger import encode_bounds
from ingestor.marks import Marks
from ingestor.redis_link import Redis, load_script, translated
from shared import counters
from shared.logs import get_log

_log = get_log("deadletter")
_DETAIL_CHARS = 500


class DeadLetters:
    """The way out for what no batch can hold."""

    def __init__(self, client: Redis) -> None:
        self._bury = load_script(client, "bury.lua")

    async def bury(
        self, lease: Lease, poison: Poison, *, marks: tuple[int, Marks] | None, pending: Bounds | None = None
    ) -> None:
        """Move one entry, and drop the record of the batch that held only it. Raises LeaseLost, RedisFault.

        `marks` are those of its source with it in them, if it is known whose it is: it is kept, nobody need send it
        again.
        """
        partition = lease.partition
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
        counters.dead_letters.labels(poison.reason).inc()
        _log.error(
            "entry moved to the dead-letter stream",
            stream=partition.dead,
            entry=poison.entry_id,
            reason=poison.reason,
            detail=poison.detail[:_DETAIL_CHARS],
        )
