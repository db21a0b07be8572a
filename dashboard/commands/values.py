"""Values as people type them: amounts of money, moments in time. Pure.

Raises RegistryFault naming the option and the fix.
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from shared.registry import RegistryFault

_NEVER = "-"


def amount(option: str, text: str) -> Decimal:
    """`0.15` as an amount of US dollars; what is one is for the edit to say."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise RegistryFault(f"{option} {text!r}: give an amount of US dollars, like 250.00") from None


def moment_ms(option: str, text: str) -> int:
    """`2026-01-01`, or a time of that day as in `2026-01-01T12:30`, to Unix ms; UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
        moment_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError):
        moment_ms = -1
    if moment_ms < 0:
        raise RegistryFault(f"{option} {text!r}: give a day in UTC, like 2026-01-01, or 2026-01-01T12:30") from None
    return moment_ms


def shown_moment(unix_ms: int | None) -> str:
    """A moment for people, to the minute."""
    if unix_ms is None:
        return _NEVER
    return datetime.fromtimestamp(unix_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def shown_amount(amount: Decimal | None) -> str:
    """Dollars as they were given, without an exponent."""
    return _NEVER if amount is None else f"{amount:f}"
