"""What a meter noted so far. In: notes by a dialect. Out: nothing by itself; verdict.py reads it. Holds no content."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.usage.reading import known_label, label
from shared.event import Usage


class Tally(msgspec.Struct):
    """One answer's notes; counts and short names only."""

    provider: str
    model: str = ""
    finish_reason: str = ""
    service_tier: str = ""
    request_id: str = ""
    error_category: str = ""
    reported: Mapping[str, Any] | None = None
    """The usage object that counts, as it came."""
    usage: Usage | None = None
    """Instead of it, the counts of an answer that was read the short way."""
    reported_is_final: bool = False
    """Whether it came when there was nothing left to say."""
    cached_tokens_hint: int = 0
    """Groq's cache reads, which stand apart from its usage."""
    searches: int = 0
    """Web searches, where they are counted beside the usage."""
    text_bytes: int = 0
    reasoning_bytes: int = 0
    token_seen: bool = False
    ended: bool = False
    """Whether the dialect's own end marker came."""
    pending: bool = False
    """Whether the answer is only a receipt: the work goes on in the background, its usage comes later."""
    unreadable: bool = False

    def note_model(self, value: object) -> None:
        """Keep the first non-empty name: Azure's first chunk has an empty one."""
        if not self.model:
            self.model = known_label(value)

    def note_finish(self, value: object) -> None:
        """Keep the last reason."""
        self.finish_reason = known_label(value) or self.finish_reason

    def note_tier(self, value: object) -> None:
        """Keep the last tier: the first may be the one asked for, the last is the one given."""
        self.service_tier = known_label(value) or self.service_tier

    def note_request_id(self, value: object) -> None:
        """Keep the first id."""
        if not self.request_id:
            self.request_id = label(value)

    def note_text(self, value: object) -> None:
        """Count visible text."""
        if isinstance(value, str) and value:
            self.text_bytes += utf8_bytes(value)
            self.token_seen = True

    def note_reasoning(self, value: object) -> None:
        """Count reasoning text."""
        if isinstance(value, str) and value:
            self.reasoning_bytes += utf8_bytes(value)
            self.token_seen = True

    def note_arguments(self, value: object) -> None:
        """Count a tool call's arguments that came as JSON instead of text."""
        if value:
            try:
                self.note_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
            except RecursionError:
                self.token_seen = True  # nested beyond reason: the call is seen, its size is not


def utf8_bytes(text: str) -> int:
    """Return the size of text, lone surrogates included."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
