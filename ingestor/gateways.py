"""Runs of gateways that Redis knows, for people, and giving up one whose host is lost.

In: settings. Out: which there are and when they were last seen; or one of them forgotten, so that it holds up
`data_freshness` no more. What is in its journal is stored all the same, should it be found.
"""

from datetime import UTC, datetime
from typing import Final

from ingestor.faults import IngestorFault
from ingestor.ledger import Ledger
from ingestor.partitions import partitions_with
from ingestor.progress import Census
from ingestor.redis_link import Redis, open_redis
from ingestor.settings import Settings
from shared.clock import unix_ms
from shared.redis_client import close_redis
from shared.stream import Partition, partition_of

_ALIVE_MS: Final = 60_000
"""A gateway says each second that it lives."""


class NotGone(IngestorFault):
    """The run that is to be given up is unknown, or was seen a moment ago."""

    label = "not_gone"


async def list_gateways(settings: Settings) -> list[dict[str, str]]:
    """Every run that has not ended, longest silent first. Raises RedisFault, PendingMismatch."""
    client = open_redis(settings.redis_url)
    try:
        found = [
            (census.seen[source].at_ms if source in census.seen else 0, source, partition, census)
            for partition, census in await _censuses(client)
            for source in sorted(census.seen.keys() | census.accepted.keys())
        ]
    finally:
        await close_redis(client)
    return [
        {
            "gateway_boot": str(source),
            "partition": str(partition.index),
            "last_seen": datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds") if at_ms else "",
            "accepted": str(census.accepted.get(source, 0)),
            "stored": str(census.marks[source].end_of_first if source in census.marks else 0),
        }
        for at_ms, source, partition, census in sorted(found, key=lambda one: one[:2])
    ]


async def give_up(settings: Settings, source: int) -> None:
    """Forget a run that is gone for good. Raises NotGone, RedisFault, PendingMismatch."""
    client = open_redis(settings.redis_url)
    try:
        known = [
            (partition, census.seen.get(source))
            for partition, census in await _censuses(client)
            if source in census.seen or source in census.accepted
        ]
        if not known:
            raise NotGone(f"gateway_boot {source} is not among those that `python -m ingestor gateways` lists")
        if any(seen is not None and unix_ms() - seen.at_ms < _ALIVE_MS for _, seen in known):
            raise NotGone(f"gateway_boot {source} was seen less than a minute ago; stop it first")
        # Also where it would be waited for, should Redis forget what it holds now.
        for partition in {*(partition for partition, _ in known), partition_of(source, settings.stream_partitions)}:
            await Ledger(client).give_up(partition, [source])
    finally:
        await close_redis(client)


async def _censuses(client: Redis) -> list[tuple[Partition, Census]]:
    ledger = Ledger(client)
    return [
        (Partition(index), await ledger.census(Partition(index)))
        for index in await partitions_with(client, "accepted", "seen")
    ]
