"""Connections between two requests. No I/O of its own but closing; the clock is given.

The most recently used connection goes first, so that a quiet hour lets the others run out. One that is too old, or on
which anything happened while it was idle, is closed instead of used.
"""

from collections import deque
from typing import Final

from gateway.transport.connection import Connection
from gateway.transport.dial import Origin

_MOST_IDLE_PER_ORIGIN: Final = 512


class Pool:
    """Idle connections by origin."""

    def __init__(self, *, idle_s: float, lifetime_s: float) -> None:
        self._idle_s = idle_s
        self._lifetime_s = lifetime_s
        self._idle: dict[Origin, deque[Connection]] = {}

    def __len__(self) -> int:
        return sum(len(idle) for idle in self._idle.values())

    def take(self, origin: Origin, now_s: float) -> Connection | None:
        """A connection that can be used, or None."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not self._expired(connection, now_s) and connection.alive:
                return connection
            connection.abort()
        return None

    def give_back(self, origin: Origin, connection: Connection, now_s: float) -> None:
        """Keep a connection whose exchange ended well."""
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        connection.heard_s = now_s
        idle.append(connection)
        if len(idle) > _MOST_IDLE_PER_ORIGIN:
            idle.popleft().abort()

    def sweep(self, now_s: float) -> None:
        """Close what is too old; the longest idle ones are at the left."""
        for origin, idle in list(self._idle.items()):
            while idle and (self._expired(idle[0], now_s) or not idle[0].alive):
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]

    def close(self) -> None:
        """Close all."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()

    def _expired(self, connection: Connection, now_s: float) -> bool:
        return now_s - connection.heard_s > self._idle_s or now_s - connection.born_s > self._lifetime_s
