"""Numbers as they stand in a file, in whatever form it is written. Pure.

Every number that is not whole stays a Decimal: money is what was written.
"""

from decimal import Decimal
from typing import Final

_LONGEST_NUMBER: Final = 400
"""Characters; far more than any bound takes, and far from where reading numbers becomes slow."""
_SHOWN: Final = 40


class TextFault(ValueError):
    """Text that cannot be read; says why, and where if that is known."""


def whole(text: str) -> int:
    """A whole number. Raises TextFault."""
    if len(text) > _LONGEST_NUMBER:
        raise TextFault(f"a number of {len(text)} digits, {text[:_SHOWN]}...: write one that is shorter")
    return int(text)


def decimal(text: str) -> Decimal:
    """Any other number; NaN and infinity are none. Raises TextFault."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite() or len(text) > _LONGEST_NUMBER:
        raise TextFault(f"{text[:_SHOWN]} is no number that can be kept: write a finite one")
    return number
