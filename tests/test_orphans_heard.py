"""What is said of a dead gateway by who found its journal: it is waited for until its end, from the start."""

from pathlib import Path
from typing import Any

import pytest

from gateway.journal import Backlog, Run
from gateway.stream import Stream
from ingestor.progress import Seen
from shared.clock import unix_ms
from shared.stream import Partition
from tests.journal_site import leave_killed
from tests.shipper_site import Sender, Store, ends, until

pytestmark = pytest.mark.usefixtures("quick_shipper")

P0 = Partition(0)


def seen(store: Store) -> dict[int, Seen]:
    found: Any = store.client.hgetall(P0.seen)
    return {int(source): Seen.parse(text) for source, text in found.items()}


async def test_whoever_ships_was_heard_before(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a first frame goes out all dead gateways here are known, and so is the living one before its own."""
    begun_ms = unix_ms()
    left = [leave_killed(state, 50 + number) for number in range(4)]
    known: list[tuple[int, dict[int, Seen]]] = []
    real = Stream.push

    async def push(stream: Stream, backlog: Backlog, run: Run) -> int:
        known.append((backlog.source, seen(store)))
        assert backlog.source in known[-1][1]
        return await real(stream, backlog, run)

    monkeypatch.setattr(Stream, "push", push)
    sender = Sender(store.url, state)
    sender.add(10)
    sender.start()
    await until(lambda: all(ends(store.url, journal.source) for journal in left))
    await sender.all_shipped()
    at_first = next(found for source, found in known if source != sender.source)
    for number, journal in enumerate(left):
        said = at_first[journal.source]
        assert (said.next_seq, said.started_ms) == (50 + number, journal.started_ms)
        assert begun_ms <= said.at_ms <= unix_ms()
    await sender.close()


async def test_what_it_said_itself_counts(store: Store, state: Path) -> None:
    """A dead gateway that was heard while it lived is known as it said, until its end is stored."""
    left = leave_killed(state, 50)
    store.client.hset(P0.seen, str(left.source), "1000:7:500")
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    assert seen(store)[left.source] == Seen(1_000, 7, 500)
    await sender.die()


async def test_nobody_is_waited_for_behind_the_end(store: Store, state: Path) -> None:
    """Once its end is stored a dead gateway is not known any more, also if its journal is found again."""
    left = leave_killed(state, 50)
    first = Sender(store.url, state)
    first.start()
    await until(lambda: first.ship._adopted and first.ship._adopted[left.source].said_end)
    assert left.source in seen(store)
    await first.die()
    store.confirm_end(left.source)
    second = Sender(store.url, state)
    second.start()
    await until(lambda: left.folder and not left.folder.exists())
    assert left.source not in seen(store)
    await second.die()


@pytest.mark.parametrize("ended", [-1_795_000_000_000, 0], ids=["given up", "ending"])
async def test_who_is_not_waited_for(store: Store, state: Path, ended: int) -> None:
    """One that a person gave up, or whose end is on the stream already, holds up nothing anew."""
    left = leave_killed(state, 50)
    store.client.hset(P0.ended, str(left.source), ended)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: sender.ship._adopted and not sender.ship._adopted[left.source].backlog.waiting)
    assert left.source not in seen(store)
    await sender.die()


async def test_it_is_known_again(store: Store, state: Path) -> None:
    """A Redis that was emptied hears again of a dead gateway whose end is not stored."""
    left = leave_killed(state, 50)
    sender = Sender(store.url, state)
    sender.start()
    await until(lambda: ends(store.url, left.source))
    store.client.flushall()
    await until(lambda: left.source in seen(store))
    await sender.die()
