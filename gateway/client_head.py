"""What the head of a client's request says, read once for as long as its connection repeats it. Pure.

In: raw header fields and a view of their text. Out: a ClientHead. SDKs send the same fields with every request but for
the body's length, so that a connection remembers its last head instead of reading it again.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway.auth import hash_of_key
from gateway.headers import RawHeaders, RequestFields, check_head, clean_value, retry_count_of, sdk_of
from gateway.request_body import body_kind
from shared.event import UNTAGGED

if TYPE_CHECKING:
    from gateway.destination import Destination
    from gateway.directory import Access

_MOST_REMEMBERED_BYTES: Final = 8 * 1024
"""A larger head is read anew each time: what open connections hold stays small."""
_LENGTH: Final = b"content-length"


class ClientHead:
    """One head; the same for heads that differ in the value of Content-Length alone."""

    __slots__ = (
        "_length_at",
        "_raw",
        "access",
        "access_as_of",
        "body_kind",
        "cut",
        "destinations",
        "expects_continue",
        "feature",
        "fields",
        "has_length",
        "headers",
        "key_sha256",
        "problem",
        "provider_header",
        "repeatable",
        "retry_count",
        "sdk",
        "spelling",
        "task",
    )

    def __init__(self, raw: RawHeaders, headers: Mapping[str, str]) -> None:
        self._raw = raw
        self.headers = headers
        """Case-insensitive; first values. The length in it is that of the request it was made for."""
        self.fields = fields = RequestFields(raw)
        lengths = fields.names.count(_LENGTH)
        self._length_at = fields.names.index(_LENGTH) if lengths == 1 else -1
        self.repeatable = lengths <= 1 and sum(len(name) + len(value) for name, value in raw) <= _MOST_REMEMBERED_BYTES
        """Whether it may be kept for the next request."""
        self.spelling = self._spelled() if self.repeatable else (b"", b"")
        """The fields as most clients write them, each after its CRLF: up to the length's value, and what follows."""
        self.key_sha256 = hash_of_key(headers.get("X-Lectr-Key"))
        self.has_length = lengths == 1
        self.access: Access | None = None
        """Whose key it is, once that was asked, as of so many changes of the registry."""
        self.access_as_of = -1
        self.problem = check_head(fields)
        """Why it is malformed (answer 400), or None."""
        self.cut: tuple[str, ...] = ()
        """Which of feature and task were cut to the length that is stored."""
        self.feature = self._bounded("feature", headers.get("X-Lectr-Feature") or UNTAGGED)
        self.task = self._bounded("task", headers.get("X-Lectr-Task") or "")
        self.sdk = sdk_of(headers)
        self.retry_count = retry_count_of(headers)
        self.provider_header = headers.get("X-Lectr-Provider")
        self.expects_continue = headers.get("Expect", "").lower() == "100-continue"
        self.body_kind = body_kind(headers.get("Content-Type", ""))
        self.destinations: dict[tuple[str, str, str, int], Destination] = {}
        """Where requests with this head went, by target, the body's model, organisation and its version."""

    def describes(self, raw: RawHeaders) -> bool:
        """Whether these fields are the same, but for the length."""
        known, at = self._raw, self._length_at
        if at < 0:
            return raw == known
        return (
            len(raw) == len(known)
            and raw[at][0] == known[at][0]
            and raw[:at] == known[:at]
            and raw[at + 1 :] == known[at + 1 :]
        )

    def length_in(self, raw: RawHeaders) -> bytes:
        """The Content-Length of a request with this head, as on the wire; empty when it has none."""
        return raw[self._length_at][1] if self._length_at >= 0 else b""

    @property
    def asks_for_websocket(self) -> bool:
        """Whether it would be a WebSocket handshake, if it is an upgrade."""
        return self.headers.get("Upgrade", "").strip().lower() == "websocket"

    def _spelled(self) -> tuple[bytes, bytes]:
        raw, at = self._raw, self._length_at
        if at < 0:
            return b"", b"".join([b"\r\n%b: %b" % field for field in raw]) + b"\r\n\r\n"
        before = b"".join([b"\r\n%b: %b" % field for field in raw[:at]])
        after = b"".join([b"\r\n%b: %b" % field for field in raw[at + 1 :]])
        return before + b"\r\n%b: " % raw[at][0], after + b"\r\n\r\n"

    def _bounded(self, field: str, value: str) -> str:
        stored, cut = clean_value(value)
        if cut:
            self.cut += (field,)
        return stored
