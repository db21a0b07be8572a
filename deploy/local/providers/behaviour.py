"""Ordered behaviour: what the control interface asked for, which requests it fits, what it makes of a Reply.

In: JSON of the control interface; later provider and raw path of a request. Out: the Behaviour that applies, and the
changed Reply. The oldest fitting behaviour applies, and only that one; with `times` it vanishes after so many requests.
Never looks at request headers or model names.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from deploy.local.providers.call import Headers, Reply
from deploy.local.providers.failures import BODILESS, failure
from deploy.local.providers.routing import Route
from deploy.local.providers.tokens import TokenOverride

Count = Annotated[int, msgspec.Meta(ge=0)]
MAX_BEHAVIOURS: Final = 1000
FIRST_ERROR_STATUS: Final = 400


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order. Absent fields change nothing; absent `provider` and `path_contains` fit every request."""

    provider: Literal["openai", "anthropic", "groq", "gemini", "azure"] | None = None
    path_contains: str = ""
    """Part of the raw path and query."""
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    """From 400 on without `body`: the provider's own error. 204 and 304: no body. Else the usual answer under it."""
    reason: str | None = None
    """Reason phrase of the status line."""
    body: str | dict[str, Any] | list[Any] | None = None
    """Replaces the body: text as it is, else as JSON. With an event-stream content_type it is sent event by event."""
    content_type: str | None = None
    headers: Headers = ()
    """Added in this order and case; they replace the provider's own headers of the same name."""
    delay_ms: Count = 0
    """Before the head."""
    chunk_delay_ms: Count = 0
    """Between the pieces that are sent: SSE events, or chunk_bytes."""
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Send the (encoded) body in pieces of that many bytes."""
    encoding: Literal["gzip", "deflate", "br", "zstd"] | None = None
    """Encode the body, flushed per event, if the request's Accept-Encoding names it."""
    drop_before_head: bool = False
    """Close the connection instead of answering."""
    cut_after_bytes: Count | None = None
    """Close the connection after that many (encoded) body bytes, without a proper end; 0: right after the head."""
    error_event_after: Count | None = None
    """In a stream: after that many events the provider's own error event, then a clean end."""
    answer: str | None = None
    """The answer text."""
    tokens: TokenOverride | None = None
    """Counts that replace the formula's."""


class BehaviourTable:
    """The orders in force, oldest first, at most MAX_BEHAVIOURS (a test that forgets to clear cannot fill memory)."""

    def __init__(self) -> None:
        self._orders: dict[int, tuple[Behaviour, int | None]] = {}
        self._last_id = 0

    def add(self, behaviour: Behaviour) -> int:
        """Put an order in force and return its id. Raises ValueError when there are too many."""
        if len(self._orders) >= MAX_BEHAVIOURS:
            raise ValueError(f"more than {MAX_BEHAVIOURS} behaviours: clear them first")
        self._last_id += 1
        self._orders[self._last_id] = (behaviour, behaviour.times)
        return self._last_id

    def clear(self) -> None:
        """Forget every order."""
        self._orders.clear()

    def take(self, provider: str, target: str) -> Behaviour:
        """Return the order for this request, or an empty one, and use up one of its times."""
        for number, (behaviour, left) in self._orders.items():
            if behaviour.provider not in {None, provider} or behaviour.path_contains not in target:
                continue
            if left == 1:
                del self._orders[number]
            elif left is not None:
                self._orders[number] = (behaviour, left - 1)
            return behaviour
        return Behaviour()


def ordered_reply(behaviour: Behaviour, route: Route, sequence: int) -> Reply | None:
    """Return the answer when the order leaves nothing of the usual one, so that the request need not be understood."""
    status = behaviour.status or 200
    if behaviour.body is not None:
        content_type = behaviour.content_type or "application/json"
        return Reply(status=status, content_type=content_type, pieces=_cut(_encoded(behaviour.body), content_type))
    if status in BODILESS or status >= FIRST_ERROR_STATUS:
        return failure(route, status, sequence=sequence)
    return None


def shaped(behaviour: Behaviour, reply: Reply) -> Reply:
    """Return the reply with status, content type and mid-stream error as ordered."""
    pieces, after = reply.pieces, behaviour.error_event_after
    if after is not None and reply.failure_event:
        pieces = (*pieces[:after], reply.failure_event)
    return Reply(
        status=behaviour.status or reply.status,
        content_type=behaviour.content_type or reply.content_type,
        pieces=pieces,
        extra_headers=reply.extra_headers,
    )


def _encoded(body: str | dict[str, Any] | list[Any]) -> bytes:
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _cut(body: bytes, content_type: str) -> tuple[bytes, ...]:
    if "event-stream" not in content_type:
        return (body,)
    return tuple(part for part in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", body) if part)
