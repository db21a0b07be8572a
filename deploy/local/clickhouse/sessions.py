"""HTTP sessions: a name that keeps one engine connection, with its temporary tables and SET values.

In: session ids. Out: connections, one request at a time; 373 for a second one, 372 for a missing one that must exist.
Runs in the event loop; what closes a connection is handed to a worker thread by the caller.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from deploy.local.clickhouse.engine import Connection
from deploy.local.clickhouse.faults import DoorFault, too_busy

MAX_SESSIONS: Final = 1_000
"""Threat: every session holds engine memory until it times out, and clients make one per object they create."""


@dataclass
class _Session:
    connection: Connection | None = None
    busy: bool = True
    ends_at: float = 0.0


class Sessions:
    """All sessions of the door."""

    def __init__(self, open_connection: Callable[[], Awaitable[Connection]]) -> None:
        self._open = open_connection
        self._sessions: dict[str, _Session] = {}

    async def take(self, session_id: str, *, must_exist: bool) -> Connection:
        """The session's connection, to be given back. Raises 373, 372, 202."""
        session = self._sessions.get(session_id)
        if session is not None and session.busy:
            raise DoorFault(373, "SESSION_IS_LOCKED", "Session is locked by a concurrent client.")
        if session is None:
            if must_exist:
                raise DoorFault(372, "SESSION_NOT_FOUND", "Session not found.")
            if len(self._sessions) >= MAX_SESSIONS and not self._forget_oldest():
                raise too_busy(f"There are {MAX_SESSIONS} sessions, all in use.")
            session = self._sessions[session_id] = _Session()
        session.busy = True
        if session.connection is None:
            try:
                session.connection = await self._open()
            except BaseException:
                del self._sessions[session_id]
                raise
        return session.connection

    def give_back(self, session_id: str, timeout_s: float, *, close: bool) -> Connection | None:
        """The request is over. Returns the connection if it is to be closed now."""
        session = self._sessions[session_id]
        session.busy = False
        session.ends_at = asyncio.get_running_loop().time() + timeout_s
        return self._sessions.pop(session_id).connection if close else None

    def expired(self) -> list[Connection]:
        """Connections of sessions whose time is over, taken out, to be closed."""
        now = asyncio.get_running_loop().time()
        over = [name for name, session in self._sessions.items() if not session.busy and session.ends_at <= now]
        found = [self._sessions.pop(name).connection for name in over]
        return [connection for connection in found if connection]

    def _forget_oldest(self) -> bool:
        idle = [(session.ends_at, name) for name, session in self._sessions.items() if not session.busy]
        if idle and (connection := self._sessions.pop(min(idle)[1]).connection):
            connection.close()
        return bool(idle)
