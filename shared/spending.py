"""What organisations with budgets spent, as the ingestor tells the gateways: some seconds old, exact up to its moment.

In Redis one field for each organisation, with a list of what is measured: all of it or a feature, by day or by month.
"""

from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

SPEND_KEY: Final = "lectr:registry:spend"
"""Hash: organisation name -> list of Spend as JSON."""
PeriodName = Literal["day", "month"]
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)
_TOO_MUCH_USD: Final = 10**18
"""More than there is; below it sums are exact to the last digit that matters."""


class Period(NamedTuple):
    """A UTC day or month, Unix ms: the first that is in it, and the first that is not."""

    start_ms: int
    end_ms: int


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What one organisation spent in a period, on one feature or on all. Raises ValueError for what is no money."""

    org: str
    feature: str | None = None
    """None: all of the organisation's."""
    period: PeriodName
    start_ms: int
    """When the period began, Unix ms."""
    total_usd: Decimal
    mean_usd: Decimal | None = None
    """Of one request; None: not known, so that requests since then count nothing."""
    as_of_ms: int
    """The total has all requests up to this moment, and none after it. Unix ms."""

    def __post_init__(self) -> None:
        for amount in (self.total_usd, self.mean_usd):
            if amount is not None and not (amount.is_finite() and 0 <= amount < _TOO_MUCH_USD):
                raise ValueError("total_usd and mean_usd are amounts from 0 to 10^18 US dollars")


def period_of(name: PeriodName, now_ms: int) -> Period:
    """The UTC day or month that a moment is in."""
    day = now_ms // _DAY_MS
    return _day_of(day) if name == "day" else _month_of(day)


@lru_cache(maxsize=16)
def _day_of(day: int) -> Period:
    """A day since 1970: the same one for all requests until midnight."""
    return Period(day * _DAY_MS, (day + 1) * _DAY_MS)


@lru_cache(maxsize=16)
def _month_of(day: int) -> Period:
    """The month of a day since 1970."""
    first = (_EPOCH + timedelta(days=day)).replace(day=1)
    # No month has more than 31 days, and none fewer than 28: 31 days on is in the next one.
    after = (first + timedelta(days=31)).replace(day=1)
    return Period((first - _EPOCH).days * _DAY_MS, (after - _EPOCH).days * _DAY_MS)


_decoder = msgspec.json.Decoder(list[Spend])


def encode_spends(spends: list[Spend]) -> bytes:
    """What was spent by one organisation, as Redis holds it."""
    return msgspec.json.encode(spends)


def decode_spends(data: bytes | str) -> list[Spend]:
    """Read it back. Raises ValueError."""
    return _decoder.decode(data)
