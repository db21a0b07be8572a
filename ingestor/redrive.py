"""Dead letters for people: which there are, and another try for them.

In: settings. Out: what was found, or what was put back and what could not be. Works beside running ingestors.
"""

import msgspec

from ingestor.deadletter import DeadLetters
from ingestor.partitions import partitions_with
from ingestor.redis_link import open_redis
from ingestor.settings import Settings
from shared.redis_client import close_redis
from shared.stream import Partition


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters were put back, which of those that were asked for were not, and what there was."""

    put_back: int
    left: list[str]
    """Ids that were asked for and are not there, or not with the reason that was asked for."""
    reasons: list[str]
    """Of all dead letters that were there."""


async def list_dead_letters(settings: Settings) -> list[dict[str, str]]:
    """Every dead letter of every partition, oldest first. Raises RedisFault."""
    client = open_redis(settings.redis_url)
    try:
        letters = DeadLetters(client)
        return [
            {"partition": str(index), "letter": letter, **said}
            for index in await partitions_with(client, "dead")
            async for letter, said in letters.waiting(Partition(index))
        ]
    finally:
        await close_redis(client)


async def redrive(settings: Settings, *, ids: frozenset[str], reason: str) -> Redriven:
    """Put dead letters back, all or those named or with this reason. Raises RedisFault."""
    client = open_redis(settings.redis_url)
    put_back: list[str] = []
    reasons: set[str] = set()
    try:
        letters = DeadLetters(client)
        for index in await partitions_with(client, "dead"):
            # What is refused again comes back to the end: each is tried once.
            waiting = [(letter, said.get("reason", "")) async for letter, said in letters.waiting(Partition(index))]
            reasons.update(why for _, why in waiting)
            for letter, why in waiting:
                chosen = (not ids or letter in ids) and (not reason or why == reason)
                if chosen and await letters.redrive(Partition(index), letter):
                    put_back.append(letter)
    finally:
        await close_redis(client)
    return Redriven(len(put_back), sorted(ids.difference(put_back)), sorted(reasons))
