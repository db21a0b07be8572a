"""Who may ask how often: wrong secrets by address, and requests with the right one by all together.

In: the address of a wrong secret, or that one was right. Out: nothing, or a fault that says how long to wait. Both are
buckets that refill steadily (GCRA), kept in memory; of the addresses as many as are named here, the one that was silent
for longest goes first.

Who has the secret is never slowed by wrong ones, not even behind a proxy whose address is everybody's. So this stops no
guessing either, it only makes it cheap to refuse and easy to see: what stands against it is the secret's length.
"""

from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final

from throttled import MemoryStore, RateLimiterType, Throttled, per_sec

from dashboard.api.faults import RateLimitExceeded, TooManyFailedAttempts

FAILED_AT_ONCE: Final = 10
MOST_ADDRESSES: Final = 10_000
"""Some 400 bytes each."""
_NETWORK_BITS: Final = 64
_ALL: Final = "all"


class Attempts:
    """Counts while the process lives."""

    def __init__(self, *, requests_per_s: int, most_addresses: int = MOST_ADDRESSES) -> None:
        self._failed = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=per_sec(1, burst=FAILED_AT_ONCE),
            store=MemoryStore(options={"MAX_SIZE": most_addresses}),
        )
        self._all = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=per_sec(requests_per_s, burst=2 * requests_per_s),
            store=MemoryStore(options={"MAX_SIZE": 1}),
        )
        self._requests_per_s = requests_per_s

    def fail(self, address: str) -> None:
        """A wrong secret came from there. Raises TooManyFailedAttempts if too many did."""
        result = self._failed.limit(network_of(address))
        if result.limited:
            raise TooManyFailedAttempts(
                "that is not LECTR_ADMIN_SECRET, and too many wrong ones came from this address; send the right one, "
                "or wait as long as Retry-After says",
                retry_after_s=max(1, ceil(result.state.retry_after)),
            )

    def take(self) -> None:
        """One request with the right secret. Raises RateLimitExceeded."""
        result = self._all.limit(_ALL)
        if result.limited:
            raise RateLimitExceeded(
                f"more than {self._requests_per_s} requests a second; send fewer, wait as long as Retry-After says, "
                "or raise LECTR_ADMIN_REQUESTS_PER_S",
                retry_after_s=max(1, ceil(result.state.retry_after)),
            )


def network_of(address: str) -> str:
    """Whose address it is: of IPv6 the network, as one host has all of its addresses."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> _NETWORK_BITS << _NETWORK_BITS))
    return str(parsed)
