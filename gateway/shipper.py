"""Events from memory to the Redis stream, in the background; no request ever waits for it.

In: encoded events in sequence. Out: frames on the stream, each exactly once however often the connection breaks.
When Redis is away events gather up to a bound; past it new ones are dropped, counted, and visible as holes in `seq`.
"""

import asyncio
import contextlib
import importlib.resources
import secrets
import time
from collections import deque
from itertools import islice
from typing import Final

import redis.asyncio
import redis.backoff
from redis.asyncio.retry import Retry
from redis.exceptions import RedisError

from shared import counters
from shared.environment import SecretUrl
from shared.logs import get_log
from shared.stream import MAX_FRAME_EVENTS, encode_frame, partition_of
from shared.tasks import cancelled

_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0
_SOCKET_TIMEOUT_S: Final = 5.0
_OVERHEAD_BYTES: Final = 150
"""What Python adds to each event in the buffer, measured."""


def new_source() -> int:
    """63 random bits that name one boot of one gateway process; drawn, so two hosts never share one."""
    return secrets.randbits(63)


class Shipper:
    """Owns the sequence numbers of one source and the way of its events to Redis."""

    def __init__(
        self,
        redis_url: SecretUrl,
        *,
        source: int,
        instance: str,
        partitions: int,
        interval_ms: int,
        capacity_bytes: int,
    ) -> None:
        self.source = source
        self._instance = instance
        self._partition = partition_of(source, partitions)
        self._interval_s = interval_ms / 1000
        self._capacity_bytes = capacity_bytes
        self._waiting_bytes = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._next_seq = 0
        self._stopping = False
        self._wake = asyncio.Event()
        self._shipping: asyncio.Task[None] | None = None
        self._redis = redis.asyncio.Redis.from_url(
            redis_url.reveal(),
            socket_connect_timeout=_SOCKET_TIMEOUT_S,
            socket_timeout=_SOCKET_TIMEOUT_S,
            # The frame is repeated by our own loop, which knows that it is safe.
            retry=Retry(redis.backoff.NoBackoff(), 0),
        )
        self._push = self._redis.register_script(
            importlib.resources.files("gateway").joinpath("push.lua").read_text(encoding="utf-8")
        )
        self._log = get_log("shipper")
        counters.events_buffered.set_function(lambda: len(self._waiting))
        self.redis_failing = False
        self._pushing_since_s = 0.0

    @property
    def redis_slow(self) -> bool:
        """Whether a frame has been waiting for Redis' answer for more than a second."""
        return bool(self._pushing_since_s) and time.monotonic() - self._pushing_since_s > 1

    @property
    def next_seq(self) -> int:
        """The sequence number that the next event must carry."""
        return self._next_seq

    @property
    def waiting_events(self) -> int:
        """Events that Redis has not accepted yet."""
        return len(self._waiting)

    def add(self, event: bytes) -> None:
        """Take the event that carries `next_seq`. Never waits, never raises."""
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        size_bytes = len(event) + _OVERHEAD_BYTES
        if self._waiting_bytes + size_bytes > self._capacity_bytes:
            counters.events_dropped.labels("buffer_full").inc()
            return
        self._waiting.append((seq, event))
        self._waiting_bytes += size_bytes

    def skip(self) -> None:
        """Use up `next_seq` for an event that could not be made."""
        self._next_seq += 1

    def start(self) -> None:
        """Begin shipping; `close` ends it."""
        self._shipping = asyncio.create_task(self._ship(), name="shipper")

    async def close(self, timeout_s: float) -> None:
        """Ship what is left, for at most `timeout_s`; what Redis does not take by then is lost, counted and logged."""
        self._stopping = True
        self._wake.set()
        if self._shipping is not None:
            done, _ = await asyncio.wait({self._shipping}, timeout=timeout_s)
            if not done:
                self._shipping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._shipping
        if self._waiting:
            counters.events_dropped.labels("exit").inc(len(self._waiting))
            self._log.error(
                "events_lost_at_exit", events=len(self._waiting), fix="Redis did not answer; LECTR_REDIS_URL"
            )
        await self._redis.aclose()

    async def _ship(self) -> None:
        while not (self._stopping and not self._waiting):
            if not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._interval_s)
            while self._waiting:
                await self._push_frame()

    async def _push_frame(self) -> None:
        first_seq, events = _next_frame(self._waiting)
        frame = encode_frame(self.source, first_seq, self._instance, events)
        args: list[str | bytes] = [str(self.source), str(first_seq), str(len(events)), frame]
        backoff_s = _FIRST_BACKOFF_S
        self._pushing_since_s = time.monotonic()
        while True:
            try:
                await self._push(keys=[self._partition.stream, self._partition.accepted], args=args)
            except Exception as error:  # noqa: BLE001 - whatever stands in the way: counted, said, and tried again
                if cancelled():
                    raise asyncio.CancelledError from None
                reason = type(error).__name__
                counters.push_retries.labels(reason).inc()
                if not self.redis_failing:
                    what = "redis_unavailable" if isinstance(error, (RedisError, OSError)) else "defect"
                    self._log.warning(what, error=reason, waiting_events=len(self._waiting))
                self.redis_failing = True
                await asyncio.sleep(backoff_s * (0.5 + secrets.randbelow(1000) / 1000))
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                break
        self._pushing_since_s = 0.0
        if self.redis_failing:
            self._log.info("redis_available", waiting_events=len(self._waiting))
            self.redis_failing = False
        for event in events:
            self._waiting.popleft()
            self._waiting_bytes -= len(event) + _OVERHEAD_BYTES
        counters.events_sent.inc(len(events))


def _next_frame(waiting: deque[tuple[int, bytes]]) -> tuple[int, list[bytes]]:
    """The longest run of consecutive events from the front, at most MAX_FRAME_EVENTS."""
    first_seq = waiting[0][0]
    events: list[bytes] = []
    for seq, event in islice(waiting, MAX_FRAME_EVENTS):
        if seq != first_seq + len(events):
            break
        events.append(event)
    return first_seq, events
