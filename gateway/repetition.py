"""A connection's next request, recognised by its bytes: the last one's head again, but for the body's length. Pure.

SDKs send the same head over and over. Bytes that are the head as it would be spelled from what the parser made of it
need no parser: the same bytes mean the same.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.client import ClientRequest
    from gateway.client_head import ClientHead

_MOST_DIGITS: Final = 5
"""Of the length of a body that is taken this way: small ones, which wait in no buffer that needs back-pressure."""
_LONGEST_OPENING_BYTES: Final = 16 * 1024
"""A head that arrives in pieces is put together up to here."""
_PLAIN_END: Final = b"\r\n0\r\n\r\n"
"""How a chunked body without trailers ends."""


class Repetition:
    """What a connection's next request begins with if it repeats the last one's head."""

    __slots__ = ("_after", "_before", "_has_length", "head", "method", "target")

    def __init__(self, method: str, target: str, head: "ClientHead") -> None:
        """Raises ValueError for a target that has no one spelling."""
        self.method = method
        self.target = target
        self.head = head
        lines_before, self._after = head.spelling
        self._before = b"%b %b HTTP/1.1%b" % (method.encode("ascii"), target.encode("ascii"), lines_before)
        self._has_length = head.has_length

    def size_bytes(self, length: bytes) -> int:
        """The size of a request with this head and a body of `length`, as on the wire."""
        return len(self._before) + len(length) + len(self._after) + int(length or b"0")

    def begins(self, data: bytes, length: bytes) -> bool:
        """Whether data begins with this head, its length being `length`."""
        return data.startswith(self._before) and data.startswith(length + self._after, len(self._before))

    def find(self, data: bytes) -> tuple[bytes, int] | None:
        """The length as on the wire and where the body begins; None unless data begins with this head, whole.

        The length is empty where the head has none. None also for a body of 100,000 bytes and more.
        """
        before = self._before
        if not data.startswith(before):
            return None
        at = len(before)
        if not self._has_length:
            return (b"", at + len(self._after)) if data.startswith(self._after, at) else None
        end = data.find(b"\r", at, at + _MOST_DIGITS + 1)
        length = data[at:end] if end > 0 else b""
        if not length.isdigit() or not data.startswith(self._after, end):
            return None
        return length, end + len(self._after)


class Wire:
    """What one connection's bytes say to someone who saw its last request: whether the next one repeats its head."""

    __slots__ = ("_opening", "_parsed_bytes", "_repetition", "_request_bytes", "_tail")

    def __init__(self) -> None:
        self._repetition: Repetition | None = None
        self._parsed_bytes = 0
        """Given to the parser since a request began at its first byte."""
        self._request_bytes = 0
        """How many of them are that request's; -1 when unknown. When all are, the parser stands between two."""
        self._opening = b""
        """What that request began with."""
        self._tail = b""
        """The last bytes given to the parser."""

    def repeated(self, data: bytes) -> tuple[Repetition, bytes, int] | None:
        """The head that data begins with, its length and where the body begins; None if the parser has to see it."""
        repetition = self._repetition
        if repetition is None or self._parsed_bytes != self._request_bytes:
            return None
        found = repetition.find(data)
        # Behind the body another request may begin.
        if found is None or found[1] + int(found[0] or b"0") < len(data):
            return None
        return repetition, *found

    def parsed(self, data: bytes) -> None:
        """Note what is given to the parser."""
        size = len(_PLAIN_END)
        self._tail = data[-size:] if len(data) >= size else (self._tail + data)[-size:]
        if self._parsed_bytes != self._request_bytes:
            self._parsed_bytes += len(data)
            if self._opening and len(self._opening) <= _LONGEST_OPENING_BYTES:
                self._opening += data
        elif data:
            self._opening = data
            self._parsed_bytes = len(data)
            self._request_bytes = -1

    def end_plainly(self) -> bool:
        """Whether a chunked body that ends with what was parsed last had no trailers: then the next request begins."""
        if self._tail != _PLAIN_END:
            return False
        self._parsed_bytes = self._request_bytes = 0
        return True

    def learn(self, request: "ClientRequest") -> None:
        """Note how the client spells the request that the parser found, and how many bytes it takes."""
        opening, self._opening = self._opening, b""
        self._repetition = None
        head = request.head
        if not (head.repeatable and request.v1_1 and request.keep_alive) or request.chunked or request.upgrade:
            return
        try:
            repetition = Repetition(request.method, request.target, head)
        except UnicodeEncodeError:
            return
        if repetition.begins(opening, request.length):
            self._repetition = repetition
            self._request_bytes = repetition.size_bytes(request.length)
