"""Several ingestors: each takes its share of the partitions, and what one leaves the others take."""

from ingestor.members import Members
from ingestor.redis_link import open_redis
from shared.environment import SecretUrl
from tests.ingestor_process import Pusher, Stores, readiness, serving, some_events
from tests.parts import Ingestor, running, wait_until

PARTITIONS = 8
SHARED = {"LECTR_STREAM_PARTITIONS": str(PARTITIONS), "LECTR_LEASE_MS": "1000", "LECTR_BATCH_MAX_AGE_MS": "50"}


def owned(part: Ingestor) -> int:
    """How many partitions it says are its own."""
    return list(readiness(part)[1]["partitions"].values()).count("owner")


def test_partitions_are_shared_and_passed_on(own: Stores) -> None:
    """One owns all eight, three share them 3:3:2, and after a kill two have four each; every event is stored once."""
    pushers = [Pusher(own.redis_url, index) for index in range(PARTITIONS)]
    events = some_events(300)
    with serving(own.ingestor("first", **SHARED)) as first:
        wait_until(lambda: owned(first) == PARTITIONS)
        with serving(own.ingestor("second", **SHARED)) as second:
            third = own.ingestor("third", **SHARED).wait()
            with running(third):
                wait_until(lambda: sorted(map(owned, (first, second, third))) == [2, 3, 3])
                for pusher in pushers:
                    pusher.push(7 + pusher.partition.index, events[:150])
                third.kill()
                for pusher in pushers:
                    pusher.push(7 + pusher.partition.index, events[150:])
                wait_until(lambda: sorted(map(owned, (first, second))) == [4, 4])
                wait_until(lambda: sum(pusher.waiting() for pusher in pushers) == 0)
    assert own.figures() == (PARTITIONS * 300, PARTITIONS * 300)
    for pusher in pushers:
        pusher.client.close()


async def test_shares_are_fair_and_cover_everything(redis_url: str) -> None:
    """Whatever the numbers, all shares together are enough for all partitions, and no share is one too many."""
    client = open_redis(SecretUrl(redis_url))
    members: list[Members] = []
    try:
        for living, partitions, share in ((1, 8, 8), (3, 8, 3), (8, 8, 1), (9, 8, 1), (2, 1, 1)):
            await client.delete("lectr:ingestors")
            members = [Members(client, f"m{number}", partitions, 60_000) for number in range(living)]
            for member in (*members, *members):
                await member.beat()
            assert {member.share for member in members} == {share}
            assert share * living >= partitions
        for partition in range(3):
            members[0].owns(partition)
        assert not members[0].may_own_another()
        assert [members[0].must_give_up(partition) for partition in range(3)] == [False, False, True]
        await members[1].leave()
        await members[0].beat()
        assert members[0].share == 1
    finally:
        await client.delete("lectr:ingestors")
        await client.aclose()
