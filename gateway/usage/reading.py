"""What a meter is told and what it tells.

In: facts about the request. Out: one Reading. Text that comes from an answer is bounded and printable; it never holds
message text.
"""

from functools import lru_cache
from typing import Final, Protocol

import msgspec

from shared.event import NO_USAGE, ErrorSource, Usage, UsageSource

MAX_LABEL_BYTES: Final = 256
"""A provider's names are short; this keeps a hostile one out of the journal and of the analytics' dictionaries."""


class Call(msgspec.Struct, frozen=True, gc=False):
    """What the meter needs to know about the request."""

    provider: str
    """openai, anthropic, groq, gemini or azure."""
    method: str
    path: str
    """As the client sent it, without the query."""
    content_bytes: int
    """Bytes of text in the request's messages; for estimates."""
    message_count: int


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an answer said about itself."""

    usage: Usage
    usage_source: UsageSource
    model: str
    """The model that answered; '' when the answer does not name one."""
    finish_reason: str
    """The first choice's, in the provider's own spelling. Responses: the reason for an incomplete one, else its status.
    A blocked Gemini prompt: its block reason."""
    error_category: str
    """'' when fine. `stream_truncated` says that the answer broke off; the caller knows better when the client left."""
    error_source: ErrorSource
    """'' or 'provider'."""
    provider_request_id: str
    """From the body: `request_id`, `x_groq.id` or `responseId`. The headers come first, see `request_id_of`."""
    service_tier: str
    """As reported; `fast` when Anthropic reports that speed, which prices more than its tier does."""


NO_READING: Final = Reading(NO_USAGE, "absent", "", "", "", "", "", "")


class Meter(Protocol):
    """Watches one answer."""

    @property
    def token_seen(self) -> bool:
        """Whether the first piece of content has come: text, reasoning, a tool call, or any byte of a plain answer."""

    @property
    def ended(self) -> bool:
        """Whether the answer's own end marker has come, as streams have one: nothing of it is missing then."""

    @property
    def faulted(self) -> bool:
        """Whether a 2xx answer that ought to carry usage came in full but could not be read; known after `finish`.

        That is: an unknown or corrupt content-encoding, a decompression bomb, JSON that does not parse. An answer that
        simply has no usage, or that broke off, is not a fault.
        """

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer's body, still encoded. Never raises."""

    def finish(self, *, complete: bool) -> Reading:
        """Return the reading; call it once. `complete` is False when the transfer broke off or the client left."""


def known_label(value: object) -> str:
    """The same as `label`, for names of which there are few, like models: those are remembered."""
    return _known(value) if isinstance(value, str) and len(value) <= _LONGEST_KNOWN else label(value)


def label(value: object) -> str:
    """Return a name from an answer, printable and within MAX_LABEL_BYTES; '' if it is not text."""
    if not isinstance(value, str):
        return ""
    text = value[: 4 * MAX_LABEL_BYTES]
    if not text.isprintable():  # control characters and lone surrogates
        text = "".join(character for character in text if character.isprintable())
    if text.isascii():
        return text[:MAX_LABEL_BYTES]
    return text.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


_LONGEST_KNOWN: Final = 64
_known = lru_cache(maxsize=1024)(label)
