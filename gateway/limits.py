"""What one key may do in this process: requests per second, open streams, sizes of bodies. Pure; the time is told.

In: the limits that an operator set, the name of a key, the monotonic time in ns. Out: nothing, or a Fault that says how
long to wait. Nothing is shared between processes, and nothing outlives this one.

The definition of the rate. A bucket of `burst` requests gains `rate` of them a second, up to `burst`, and a request
takes one. A request at time t passes if and only if for every moment s before it, since the bucket was last idle, those
that passed from s on and itself are at most burst + rate * (t - s). So in any window of t seconds at most
burst + rate * t requests pass, and none is refused that this allows. A request that is refused takes nothing. All of it
is counted in whole numbers: a rate means its shortest decimal, 0.1 is one in ten seconds and no 2^-56 more.

A change of limits applies from the key's next request on. What was gained until then was gained at the old rate; the
fill stays, cut to the new burst. An idle bucket (full) is idle under the new limits too. Time in which a key has no
limit is not counted: neither its requests nor the streams that it opens. A clock that stands still or is set back gives
nothing, one that jumps ahead at most the burst; from there time goes on.

A stream is refused by what its request says. One that only its answer shows to be one (the request could not be read)
is served, and counts from then on: others wait for its end.
"""

from collections import OrderedDict
from decimal import Decimal
from math import ceil
from types import TracebackType
from typing import Final, Self

from gateway.faults import ConcurrentStreamsExceeded, RateLimitExceeded
from shared.organisation import Limits

NO_LIMITS: Final = Limits()
MOST_KEPT: Final = 65_536
"""Keys whose use is remembered, some 500 bytes each: a process serves fewer. Beyond, the one that was not looked at for
longest is forgotten as if it had been idle, unless it has a stream open; connections bound these."""
_LOOKS: Final = 2
"""How many of the kept are looked at for each one that comes: more than one, so that they become fewer."""
_NS_DECIMALS: Final = 9


def effective(org_limits: Limits, key_limits: Limits) -> Limits:
    """A key's limits: its own, and field by field the organisation's where it has none."""
    if key_limits == NO_LIMITS:
        return org_limits
    own = {name: getattr(key_limits, name) for name in Limits.__struct_fields__}
    return Limits(**{name: getattr(org_limits, name) if value is None else value for name, value in own.items()})


class Allowances:
    """Of every key that has limits and was used of late, what it has left."""

    def __init__(self, *, most: int = MOST_KEPT) -> None:
        self._most = most
        # In the order in which they are looked at next.
        self._kept: OrderedDict[tuple[str, str], _Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def take_request(self, org: str, key: str, limits: Limits, now_ns: int) -> None:
        """Let one request of a key pass. Raises RateLimitExceeded, with the time until the next one may."""
        rate = limits.requests_per_s
        if rate is None:
            return
        allowance = self._kept.get((org, key)) or self._keep(org, key, now_ns)
        if allowance.rate != rate or allowance.burst != limits.burst_requests:
            allowance.adopt(rate, limits.burst_requests, now_ns)
        wait_ns = allowance.take(now_ns)
        if wait_ns:
            raise RateLimitExceeded(
                f"key {key!r} of {org} may send {_plain(rate)} requests per second, {burst_of(limits)} at once; it sent"
                " more; send fewer, wait as long as Retry-After says, or have its limit requests_per_s raised",
                retry_after_s=-(-wait_ns // 10**_NS_DECIMALS),
            )

    def take_stream(self, org: str, key: str, limits: Limits, now_ns: int) -> "OpenStream":
        """Count one more stream of a key, until it is released. Raises ConcurrentStreamsExceeded."""
        most = limits.concurrent_streams
        if most is None:
            return UNCOUNTED
        allowance = self._kept.get((org, key)) or self._keep(org, key, now_ns)
        if allowance.streams >= most:
            # When a stream ends is not known; Retry-After is the fault's own second.
            raise ConcurrentStreamsExceeded(
                f"key {key!r} of {org} may have {most} streams open at once, and has {allowance.streams};"
                " let one end, or have its limit concurrent_streams raised"
            )
        return OpenStream(allowance)

    def count_stream(self, org: str, key: str, limits: Limits, now_ns: int) -> "OpenStream":
        """Count one more stream of a key, until it is released, however many are open: one that has begun already."""
        if limits.concurrent_streams is None:
            return UNCOUNTED
        return OpenStream(self._kept.get((org, key)) or self._keep(org, key, now_ns))

    def _keep(self, org: str, key: str, now_ns: int) -> "_Allowance":
        """Start to count a key; those that need not be remembered go, as no timer would look for them."""
        kept = self._kept
        for _ in range(min(_LOOKS, len(kept))):
            name, allowance = kept.popitem(last=False)
            crowded = len(kept) >= self._most - 1
            if allowance.streams or not (crowded or allowance.is_idle(now_ns)):
                kept[name] = allowance
        allowance = kept[org, key] = _Allowance(now_ns)
        return allowance


class _Allowance:
    """What one key has left.

    A unit is 10^-(9 + decimals) of a request, so that a rate of so many decimals gains whole units in a nanosecond.
    """

    __slots__ = ("_as_of_ns", "_cost", "_decimals", "_full", "_gain", "_level", "burst", "rate", "streams")

    def __init__(self, now_ns: int) -> None:
        self.streams = 0
        self.rate = 0.0
        """Requests per second that it gains; 0 as long as no rate was set."""
        self.burst: int | None = None
        """As set, None included."""
        self._as_of_ns = now_ns
        self._decimals = 0
        self._cost = 10**_NS_DECIMALS
        """Units that a request takes."""
        self._gain = self._level = self._full = 0

    def adopt(self, rate: float, burst: int | None, now_ns: int) -> None:
        """Go on with other limits."""
        self._gain_until(now_ns)
        was_full = self._level == self._full
        self.rate, self.burst = rate, burst
        decimals, digits = _decimal(rate)
        if decimals > self._decimals:
            # Units only get smaller, so that the fill loses nothing in either direction of a change.
            self._level *= 10 ** (decimals - self._decimals)
            self._decimals = decimals
            self._cost = 10 ** (decimals + _NS_DECIMALS)
        self._gain = digits * 10 ** (self._decimals - decimals)
        self._full = _burst(rate, burst) * self._cost
        self._level = self._full if was_full else min(self._level, self._full)

    def take(self, now_ns: int) -> int:
        """Take one request: 0 if there was one, else how many ns until there is."""
        self._gain_until(now_ns)
        missing = self._cost - self._level
        if missing > 0:
            return -(-missing // self._gain)
        self._level = -missing
        return 0

    def is_idle(self, now_ns: int) -> bool:
        """Whether its bucket is full: without open streams it is as if it had never been."""
        return self._level + max(0, now_ns - self._as_of_ns) * self._gain >= self._full

    def _gain_until(self, now_ns: int) -> None:
        # A clock that was set back gives nothing, and costs nothing: time goes on from where it is now.
        if now_ns > self._as_of_ns:
            self._level = min(self._full, self._level + (now_ns - self._as_of_ns) * self._gain)
        self._as_of_ns = now_ns


class OpenStream:
    """One stream that is counted until it ends, in whatever way: `release`, or leaving a `with` block."""

    __slots__ = ("_allowance",)

    def __init__(self, allowance: _Allowance | None) -> None:
        self._allowance = allowance
        if allowance is not None:
            allowance.streams += 1

    def release(self) -> None:
        """Give it back; once, however often this is called."""
        allowance, self._allowance = self._allowance, None
        if allowance is not None:
            allowance.streams -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.release()


UNCOUNTED: Final = OpenStream(None)
"""A stream of a key without such a limit."""


def burst_of(limits: Limits) -> int:
    """How many requests may come at once after a pause, where a rate is set: at least one."""
    return _burst(limits.requests_per_s or 0, limits.burst_requests)


def _burst(rate: float, burst: int | None) -> int:
    # At least one, as a rate is more than 0.
    return ceil(rate) if burst is None else burst


def _decimal(rate: float) -> tuple[int, int]:
    """A rate as `digits * 10^-decimals`, by its shortest decimal: what the operator wrote, not the nearest float."""
    number = Decimal(repr(rate)).normalize()
    decimals = max(0, -int(number.as_tuple().exponent))
    return decimals, int(number.scaleb(decimals))


def _plain(rate: float) -> str:
    """A rate in digits, without an exponent."""
    return format(Decimal(repr(rate)).normalize(), "f")
