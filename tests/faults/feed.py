"""A gateway without its HTTP side, in a thread of this process: its journal, its shipper, and events at a given rate.

For what needs more events than requests could bring. It numbers, keeps, ships and ends as a gateway does, because it is
made of a gateway's parts.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.journal import Journal, new_source
from gateway.shipper import Shipper
from shared.environment import SecretUrl
from shared.stream import encode_event
from tests.ingestor_process import some_events

_MIB = 1 << 20
_STEP_S = 0.02
_MOST_AT_ONCE = 5_000
_END_S = 60.0
_TEMPLATES = some_events(997)


class Feed:
    """Events of one boot."""

    def __init__(
        self, redis_url: str, state_dir: Path, *, name: str = "gw-feed", rate_per_s: float = 500.0, partitions: int = 1
    ) -> None:
        self.source = new_source()
        self.rate_per_s = rate_per_s
        """May be changed at any time; 0: no events."""
        self._redis_url = redis_url
        self._state_dir = state_dir
        self._name = name
        self._partitions = partitions
        self._owed = 0.0
        self._stop = threading.Event()
        self._started = threading.Event()
        self._journal: Journal
        self._shipper: Shipper
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=name)

    @property
    def events(self) -> int:
        """Events so far, all of which are to be stored."""
        return self._journal.next_seq

    @property
    def waiting(self) -> int:
        """Events that Redis has not accepted."""
        return self._shipper.waiting_events

    @property
    def unconfirmed(self) -> int:
        """Events that are not known to be stored."""
        return self._shipper.unconfirmed_events

    def add(self, count: int) -> None:
        """So many events on top of the rate, as fast as it goes."""
        self._owed += count

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(_END_S), "the feed does not start"

    def close(self) -> None:
        """End in order, with an end record."""
        self._stop.set()
        self._thread.join(_END_S)
        assert not self._thread.is_alive(), "the feed does not end"

    async def _run(self) -> None:
        self._journal = Journal(
            str(self._state_dir),
            source=self.source,
            instance=self._name,
            partitions=self._partitions,
            capacity_bytes=2_048 * _MIB,
            segment_bytes=4 * _MIB,
            sync_interval_ms=1_000,
        )
        self._shipper = Shipper(
            SecretUrl(self._redis_url), self._journal, state_dir=str(self._state_dir), interval_ms=20
        )
        self._journal.start()
        self._shipper.start()
        self._started.set()
        while not self._stop.is_set() or self._owed >= 1:
            await asyncio.sleep(_STEP_S)
            if not self._stop.is_set():
                self._owed += self.rate_per_s * _STEP_S
            count = min(int(self._owed), _MOST_AT_ONCE)
            self._owed -= count
            for seq in range(self.events, self.events + count):
                event = msgspec.structs.replace(_TEMPLATES[seq % len(_TEMPLATES)], seq=seq)
                self._journal.append(encode_event(event))
        await self._shipper.close(_END_S / 2)
        await self._journal.close()
        self._journal.release()


@contextlib.contextmanager
def feeding(redis_url: str, state_dir: Path, **options: float) -> Iterator[Feed]:
    """A feed, ended in order with the block."""
    feed = Feed(redis_url, state_dir, rate_per_s=options.get("rate_per_s", 500.0))
    feed.start()
    try:
        yield feed
    finally:
        feed.close()
