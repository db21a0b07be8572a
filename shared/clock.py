"""Time as the processes see it. Wall time names moments, monotonic time measures durations."""

import time

monotonic_ns = time.monotonic_ns


def unix_ms() -> int:
    """Wall-clock time, integer milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
