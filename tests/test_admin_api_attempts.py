"""How often one may ask the admin API: exact by a clock of the test's own, and bounded in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from dashboard.api.attempts import FAILED_AT_ONCE, Attempts, network_of
from dashboard.api.faults import RateLimitExceeded, TooManyFailedAttempts


class Clock:
    """Seconds, as a test says."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("throttled.utils.now_mono_f", made)
    return made


def passes(act: Callable[[], None]) -> bool:
    """Whether it may be done; if not, it is said when."""
    try:
        act()
    except (RateLimitExceeded, TooManyFailedAttempts) as fault:
        waits_s = fault.retry_after_s
    else:
        return True
    assert waits_s is not None
    assert waits_s >= 1
    return False


def guesses(attempts: Attempts, address: str, times: int) -> int:
    """How many of so many wrong secrets were told that they are wrong, and not to wait."""
    told = 0
    for _ in range(times):
        told += passes(lambda: attempts.fail(address))
    return told


def test_guesses_of_one_address(clock: Clock) -> None:
    """Ten at once, then one a second, and ten again after a pause; another address is not concerned."""
    attempts = Attempts(requests_per_s=1)
    assert guesses(attempts, "192.0.2.1", 100) == FAILED_AT_ONCE == 10
    assert guesses(attempts, "192.0.2.2", 1) == 1
    for _ in range(5):
        clock.now_s += 1.001
        assert guesses(attempts, "192.0.2.1", 100) == 1
    clock.now_s += 3600
    assert guesses(attempts, "192.0.2.1", 100) == FAILED_AT_ONCE


def test_requests_of_all(clock: Clock) -> None:
    """Twice the rate at once, then the rate."""
    attempts = Attempts(requests_per_s=50)
    assert sum(passes(attempts.take) for _ in range(1000)) == 100
    for _ in range(5):
        clock.now_s += 1.001
        assert sum(passes(attempts.take) for _ in range(1000)) == 50


def test_addresses_are_bounded(clock: Clock) -> None:
    """Of a flood of addresses as many are kept as may be; the one that guessed last is among them."""
    attempts = Attempts(requests_per_s=1, most_addresses=100)
    for number in range(1000):
        guesses(attempts, f"198.51.{number // 250}.{number % 250}", FAILED_AT_ONCE)
    backend: Any = attempts._failed._store._backend
    assert len(backend._client) == len(backend.expire_info) == 100
    assert guesses(attempts, "198.51.3.249", 1) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_whose_address_it_is(address: str, network: str) -> None:
    """One host has a whole network of IPv6 addresses, and counts once."""
    assert network_of(address) == network
