"""Numbers from usage objects, and the arithmetic that keeps counts disjoint.

In: any JSON value. Out: counts that are never negative. When parts exceed their whole, the whole is believed: the parts
are cut in the order in which they are given, so that the sum stays the provider's own total.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

MAX_COUNT: Final = 2**31 - 1
"""More than any answer can hold; keeps sums of nonsense inside the analytics' columns."""

EMPTY: Final[Mapping[str, Any]] = {}


def count(value: object) -> int | None:
    """Return a count; None if the value is no number. Floats are cut (Groq writes some), negatives become 0."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else min(max(value, 0), MAX_COUNT)
    if isinstance(value, float) and math.isfinite(value):
        return min(max(int(value), 0), MAX_COUNT)
    return None


def first_count(members: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these members that is a count."""
    for name in names:
        if name in members and (found := count(members[name])) is not None:
            return found
    return None


def seconds(value: object) -> float | None:
    """Return a duration in seconds, also from text such as "8.47" (whisper's older answers); None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return min(found, float(MAX_COUNT)) if math.isfinite(found) and found >= 0 else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one: details may be missing, null or something else."""
    return value if isinstance(value, dict) else EMPTY


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in the value if it is an array."""
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def allot(whole: int, *parts: int) -> tuple[int, ...]:
    """Return what of the whole belongs to no part, then each part as far as the whole still has it."""
    allotted = []
    for part in parts:
        given = min(part, whole)
        whole -= given
        allotted.append(given)
    return (whole, *allotted)
