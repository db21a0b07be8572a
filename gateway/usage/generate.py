"""Gemini's own dialect: generateContent, its streams, and embedContent.

In: parsed events or the whole answer. Out: notes. Every piece repeats a cumulative `usageMetadata`: the last one
counts. Candidates do not contain thoughts, the prompt contains what was cached but not what tools read. A stream
ends with the connection; no marker says so.
"""

from collections.abc import Mapping
from typing import Any

from gateway.usage.counts import allot, count, first_count, mapping, mappings
from gateway.usage.errors import SERVER_ERROR, STREAM_ERROR, category_of_error
from gateway.usage.tally import Tally
from shared.event import Usage


class Generate:
    """models/{model}:generateContent and :streamGenerateContent; with `embeds` :embedContent and its batch."""

    marks_end = False

    def __init__(self, *, embeds: bool = False) -> None:
        self._embeds = embeds
        self.estimable = not embeds

    def reads(self, _media_type: str) -> bool:
        """Read everything: a gateway in front may have lost the type."""
        return True

    def ignores(self, _event_name: bytes) -> bool:
        """Pass over nothing: events have no names."""
        return False

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note a piece of the answer."""
        self._read(tally, event, STREAM_ERROR)

    def usual_events(self, _tally: Tally) -> None:
        """Read every event as a whole."""

    def read_usual_document(self, _tally: Tally, _data: bytes) -> bool:
        """Read every document as a whole."""
        return False

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole answer, or an element of a streamed array."""
        self._read(tally, document, SERVER_ERROR)

    def usage(self, tally: Tally) -> Usage | None:
        """Return disjoint counts; what only the total knows is thinking (older API versions do not name it)."""
        raw = tally.reported
        if raw is None:
            return None
        prompt = first_count(raw, "promptTokenCount")
        total = first_count(raw, "totalTokenCount")
        stated = first_count(raw, "candidatesTokenCount")
        if prompt is None and total is None and stated is None:
            return None
        thoughts = first_count(raw, "thoughtsTokenCount") or 0
        tools = first_count(raw, "toolUsePromptTokenCount") or 0
        known = tools + (stated or 0) + thoughts
        if prompt is None:
            prompt = max((total or 0) - known, 0)
        if not self._embeds:
            thoughts += max((total or 0) - prompt - known, 0)
        cached_by_kind = _by_kind(raw.get("cacheTokensDetails"))
        sent = _by_kind(raw.get("promptTokensDetails"))
        uncached, cached, audio, image = allot(
            prompt,
            first_count(raw, "cachedContentTokenCount") or 0,
            max(sent.get("AUDIO", 0) - cached_by_kind.get("AUDIO", 0), 0),
            max(sent.get("IMAGE", 0) - cached_by_kind.get("IMAGE", 0), 0),
        )
        made = _by_kind(raw.get("candidatesTokensDetails"))
        text, audio_out, image_out = allot(stated or 0, made.get("AUDIO", 0), made.get("IMAGE", 0))
        return Usage(
            input_uncached_tokens=uncached + tools,
            input_cache_read_tokens=cached,
            input_audio_tokens=audio,
            input_image_tokens=image,
            output_text_tokens=text,
            output_reasoning_tokens=thoughts,
            output_audio_tokens=audio_out,
            output_image_tokens=image_out,
        )

    def _read(self, tally: Tally, document: Mapping[str, Any], otherwise: str) -> None:
        tally.note_model(document.get("modelVersion"))
        tally.note_request_id(document.get("responseId"))
        for at, candidate in enumerate(mappings(document.get("candidates"))):
            for part in mappings(mapping(candidate.get("content")).get("parts")):
                _read_part(tally, part)
            if at == 0:
                tally.note_finish(candidate.get("finishReason"))
        blocked = mapping(document.get("promptFeedback")).get("blockReason")
        if not tally.finish_reason:
            tally.note_finish(blocked)
        usage = document.get("usageMetadata")
        if usage and isinstance(usage, dict):
            tally.reported = usage
            tally.note_tier(usage.get("serviceTier"))
        if document.get("error"):
            tally.error_category = category_of_error(document["error"], otherwise=otherwise)
            tally.ended = True


def _read_part(tally: Tally, part: Mapping[str, Any]) -> None:
    if part.get("thought") is True:
        tally.note_reasoning(part.get("text"))
    else:
        tally.note_text(part.get("text"))
    call = mapping(part.get("functionCall"))
    tally.note_text(call.get("name"))
    tally.note_arguments(call.get("args"))
    tally.note_text(mapping(part.get("executableCode")).get("code"))
    if part.get("inlineData"):
        tally.token_seen = True


def _by_kind(details: object) -> dict[str, int]:
    """Return tokens by modality; kinds may repeat."""
    totals: dict[str, int] = {}
    for detail in mappings(details):
        kind = detail.get("modality")
        if isinstance(kind, str):
            totals[kind] = totals.get(kind, 0) + (count(detail.get("tokenCount")) or 0)
    return totals
