"""Gateways that are gone for good: not seen for a week, by their own clock and by this process' one.

In: what gateways said of themselves, at every look. Out: those that nobody waits for any more. A living gateway whose
clock is a week behind says something new each second, and is none of them. Pure.
"""

from typing import Final

import msgspec

from ingestor.presence import FORGET_GONE_MS
from ingestor.progress import Census
from shared.logs import get_log

_UNHEARD_S: Final = 600.0
"""How long one must be silent of whom this process has heard nothing since it began."""

_log = get_log("absence")


class _Heard(msgspec.Struct):
    at_ms: int
    """By the gateway's clock."""
    since_s: float
    """By this process' one."""
    spoke: bool = False
    """Whether it said something new while this process looked."""


class Absence:
    """Of all sources of all partitions."""

    def __init__(self) -> None:
        self._heard: dict[int, dict[int, _Heard]] = {}

    def look(self, partition: int, census: Census, now_ms: int, now_s: float) -> list[int]:
        """Sources of a partition that are gone for good; `now_s` is of a clock that nobody sets."""
        before = self._heard.get(partition, {})
        old = set(census.long_gone(now_ms - FORGET_GONE_MS))
        heard, gone = {}, []
        for source, seen in census.seen.items():
            known = before.get(source) or _Heard(seen.at_ms, now_s)
            if known.at_ms != seen.at_ms:
                if source in old and not known.spoke:
                    _log.error("clock of a gateway is behind", source=source, hours=(now_ms - seen.at_ms) // 3_600_000)
                known = _Heard(seen.at_ms, now_s, spoke=True)
            heard[source] = known
            if source in old and now_s - known.since_s >= (FORGET_GONE_MS / 1_000 if known.spoke else _UNHEARD_S):
                gone.append(source)
        self._heard[partition] = heard
        return gone
