"""Responses and their kin: OpenAI, Azure, Groq.

In: parsed events or the whole answer. Out: notes. Usage stands in the last event only, together with the whole
response. A response that failed is HTTP 200; one that runs in the background is a receipt without usage.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.usage.counts import first_count, mapping, mappings
from gateway.usage.errors import SERVER_ERROR, STREAM_ERROR, category_of_error
from gateway.usage.openai_usage import usage_of
from gateway.usage.tally import Tally
from shared.event import Usage

_LAST_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_WAITING: Final = ("queued", "in_progress")
"""A tuple: the status may be anything, a list too, and a set would want to hash it."""
_TEXTS: Final = ("text", "refusal", "arguments", "input", "code")


class Responses:
    """POST /responses; with `estimable` off POST /responses/compact and POST /decisions."""

    marks_end = True

    def __init__(self, *, estimable: bool) -> None:
        self.estimable = estimable

    def reads(self, _media_type: str) -> bool:
        """Read everything: a gateway in front may have lost the type."""
        return True

    def ignores(self, event_name: bytes) -> bool:
        """Pass over what repeats the deltas or frames them."""
        return event_name.endswith((b".done", b".added")) and event_name.startswith(b"response.")

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note an event."""
        kind = event.get("type")
        if not isinstance(kind, str):
            kind = ""
        if kind.endswith(".delta"):
            if "reasoning" in kind:
                tally.note_reasoning(event.get("delta"))
            elif kind == "response.audio.delta":
                tally.token_seen = True
            else:
                tally.note_text(event.get("delta"))
        elif kind == "error" or event.get("error"):
            error = event.get("error")
            tally.error_category = category_of_error(error or event, otherwise=STREAM_ERROR)
            tally.ended = True
        elif "response" in event:
            self._read_response(tally, mapping(event["response"]), STREAM_ERROR)
            if kind in _LAST_EVENTS:
                tally.ended = True

    def usual_events(self, _tally: Tally) -> None:
        """Read every event as a whole."""

    def read_usual_document(self, _tally: Tally, _data: bytes) -> bool:
        """Read every document as a whole."""
        return False

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole response."""
        self._read_response(tally, document, SERVER_ERROR)
        tally.pending = document.get("status") in _WAITING
        if tally.reported is None:
            for item in mappings(document.get("output")):
                _read_item(tally, item)

    def usage(self, tally: Tally) -> Usage | None:
        """Return the usage of the response."""
        usage = None if tally.reported is None else usage_of(tally.reported)
        if usage is not None and tally.searches:
            usage = msgspec.structs.replace(usage, web_search_requests=tally.searches)
        return usage

    def _read_response(self, tally: Tally, response: Mapping[str, Any], otherwise: str) -> None:
        tally.note_model(response.get("model"))
        tally.note_tier(response.get("service_tier"))
        status = response.get("status")
        if status not in _WAITING:
            tally.note_finish(mapping(response.get("incomplete_details")).get("reason") or status)
        if status == "failed" or response.get("error"):
            tally.error_category = category_of_error(response.get("error"), otherwise=otherwise)
        usage = response.get("usage")
        if usage and isinstance(usage, dict):
            tally.reported = usage
            tally.reported_is_final = status not in _WAITING
        searches = first_count(mapping(mapping(response.get("tool_usage")).get("web_search")), "num_requests")
        tally.searches = searches or tally.searches


def _read_item(tally: Tally, item: Mapping[str, Any]) -> None:
    """Count an output item's text: its own and its parts'."""
    reasoning = item.get("type") == "reasoning"
    for part in (item, *mappings(item.get("content")), *mappings(item.get("summary"))):
        for name in _TEXTS:
            if reasoning:
                tally.note_reasoning(part.get(name))
            else:
                tally.note_text(part.get(name))
