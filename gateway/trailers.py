"""Behind which chunked body of a connection trailers may have come: nothing is served behind it. Pure.

aiohttp's parser (3.14.5) puts the last trailer into the next request's head, be that here already or not. Behind a
balancer that shares connections, one client could name another's key, feature or credential.
"""

from collections.abc import Iterable

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.repetition import Wire


class Trailers:
    """Watches one connection's chunked bodies."""

    __slots__ = ("_open", "_trailed", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._open: StreamReader | None = None
        """A body that is still being parsed."""
        self._trailed: StreamReader | None = None
        """The first that may have had trailers."""

    def look(self, new: Iterable[tuple[object, StreamReader]], *, all_parsed: bool) -> None:
        """Look at what the parser has just found, with what came last; `all_parsed`: it holds nothing back."""
        bodies = [self._open, *(content if _is_chunked(message) else None for message, content in new)]
        self._open = None
        for place, content in enumerate(bodies, start=1):
            if content is None:
                continue
            if not content.is_eof():
                self._open = content
            elif self._trailed is None and not (place == len(bodies) and all_parsed and self._wire.end_plainly()):
                self._trailed = content

    def may_trail(self, content: StreamReader) -> bool:
        """Whether trailers may come, or may have come, behind this chunked body: nothing is to be served behind it."""
        return content is self._trailed or not content.is_eof()


def _is_chunked(message: object) -> bool:
    return isinstance(message, RawRequestMessage) and message.chunked
