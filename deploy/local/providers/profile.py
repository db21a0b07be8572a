"""The demo's weather: latency, jitter and errors without any control call.

In: the options of the command line and the number of a request. Out: what this request suffers. Pure: the same number
always suffers the same, so a demo can be repeated.
"""

import hashlib
from typing import Final

import msgspec

STREAM_STEPS: Final = 20
"""A stream's pause between two events is the request's latency divided by this."""
FAILURES: Final = (429, 500, 503)
MAY_FAIL: Final = "mock=may-fail"
"""In the query of a request that the error rate applies to: a person who tries the demo shall get an answer."""


class Weather(msgspec.Struct, frozen=True):
    """What one request suffers."""

    delay_ms: float = 0.0
    chunk_delay_ms: float = 0.0
    status: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """`latency_ms` before the head ± `jitter` (a share, 0-1); `error_rate` (0-1) of requests that may fail do."""

    latency_ms: float = 0.0
    jitter: float = 0.0
    error_rate: float = 0.0

    def weather(self, sequence: int, *, may_fail: bool = True) -> Weather:
        """Return what the request with this number suffers."""
        digest = hashlib.sha256(f"weather {sequence}".encode()).digest()
        swing, luck = (int.from_bytes(digest[at : at + 4]) / 2**32 for at in (0, 4))
        delay_ms = self.latency_ms * (1 + self.jitter * (2 * swing - 1))
        status = FAILURES[digest[8] % len(FAILURES)] if may_fail and luck < self.error_rate else None
        return Weather(delay_ms=delay_ms, chunk_delay_ms=delay_ms / STREAM_STEPS, status=status)
