"""Dead letters for people: which there are, and another try for them.

In: settings. Out: what was found, or how many were put back. Works beside running ingestors.
"""

from ingestor.deadletter import DeadLetters
from ingestor.redis_link import open_redis
from ingestor.settings import Settings
from shared.redis_client import close_redis
from shared.stream import Partition


async def list_dead_letters(settings: Settings) -> list[dict[str, str]]:
    """Every dead letter of every partition, oldest first. Raises RedisFault."""
    client = open_redis(settings.redis_url)
    try:
        letters = DeadLetters(client)
        return [
            {"partition": str(index), "letter": letter, **said}
            for index in range(settings.stream_partitions)
            async for letter, said in letters.waiting(Partition(index))
        ]
    finally:
        await close_redis(client)


async def redrive(settings: Settings, *, ids: frozenset[str], reason: str) -> int:
    """Put dead letters back, all or those named or with this reason; how many. Raises RedisFault."""
    client = open_redis(settings.redis_url)
    put_back = 0
    try:
        letters = DeadLetters(client)
        for index in range(settings.stream_partitions):
            # What is refused again comes back to the end: each is tried once.
            chosen = [
                letter
                async for letter, said in letters.waiting(Partition(index))
                if (not ids or letter in ids) and (not reason or said.get("reason") == reason)
            ]
            for letter in chosen:
                put_back += await letters.redrive(Partition(index), letter)
    finally:
        await close_redis(client)
    return put_back
