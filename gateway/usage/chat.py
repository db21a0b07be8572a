"""Chat completions and the older completions: OpenAI, Azure, Groq, and the compat endpoints of Anthropic and Gemini.

In: parsed chunks or the whole answer. Out: notes. Usage may come in the chunk after the last choice (OpenAI, Azure),
two or three times (Groq) or in every chunk (Gemini): the last one counts.
"""

from collections.abc import Mapping
from typing import Any

from gateway.usage.alike import AlikeChunks
from gateway.usage.chat_answer import read_usual_answer
from gateway.usage.counts import first_count, mapping, mappings
from gateway.usage.errors import SERVER_ERROR, STREAM_ERROR, category_of_error
from gateway.usage.openai_usage import usage_of
from gateway.usage.tally import Tally
from shared.event import Usage


class Chat:
    """POST /chat/completions and POST /completions."""

    estimable = True
    marks_end = True

    def reads(self, _media_type: str) -> bool:
        """Read everything: a gateway in front may have lost the type."""
        return True

    def ignores(self, _event_name: bytes) -> bool:
        """Pass over nothing: chunks have no names."""
        return False

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note a chunk."""
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    _read_choice(tally, choice, choice.get("delta"))
        self._read_around(tally, event, STREAM_ERROR)

    def usual_events(self, tally: Tally) -> AlikeChunks:
        """Chunks that have nothing but text to tell."""
        return AlikeChunks(tally)

    def read_usual_document(self, tally: Tally, data: bytes) -> bool:
        """Note an answer of one text and its usage."""
        return read_usual_answer(tally, data)

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole answer."""
        for choice in mappings(document.get("choices")):
            _read_choice(tally, choice, choice.get("message"))
        self._read_around(tally, document, SERVER_ERROR)

    def usage(self, tally: Tally) -> Usage | None:
        """Return the last usage; Gemini's has thinking in the total only."""
        if tally.reported is None:
            return tally.usage
        return usage_of(
            tally.reported,
            hidden_output=tally.provider == "gemini",
            cached_tokens_hint=tally.cached_tokens_hint,
        )

    def _read_around(self, tally: Tally, event: Mapping[str, Any], otherwise: str) -> None:
        """Note what stands beside the choices."""
        tally.note_model(event.get("model"))
        if "service_tier" in event:
            tally.note_tier(event["service_tier"])
        usage = event.get("usage")
        if "x_groq" in event:
            x_groq = mapping(event["x_groq"])
            tally.note_request_id(x_groq.get("id"))
            if x_groq.get("error"):
                tally.error_category = category_of_error(x_groq["error"], otherwise=otherwise)
            groq_usage = mapping(x_groq.get("usage"))
            tally.cached_tokens_hint = max(
                tally.cached_tokens_hint,
                (first_count(groq_usage, "sram_cached_tokens") or 0)
                + (first_count(groq_usage, "dram_cached_tokens") or 0),
            )
            if not usage and "prompt_tokens" in groq_usage:
                usage = groq_usage
        if usage and isinstance(usage, dict):
            tally.reported = usage
            # OpenAI reports after the last choice, Groq with it; what Gemini reports earlier is a running total.
            tally.reported_is_final = bool(tally.finish_reason)
        if event.get("error"):
            tally.error_category = category_of_error(event["error"], otherwise=otherwise)


def _read_choice(tally: Tally, choice: Mapping[str, Any], message: object) -> None:
    if isinstance(message, dict):
        for name, value in message.items():
            if value:
                _read_member(tally, name, value)
    elif choice.get("text"):
        tally.note_text(choice["text"])
    reason = choice.get("finish_reason")
    if reason and (not tally.finish_reason or choice.get("index", 0) == 0):
        tally.note_finish(reason)


def _read_member(tally: Tally, name: str, value: object) -> None:
    if name in {"content", "refusal"}:
        tally.note_text(value)
    elif name in {"reasoning", "reasoning_content"}:
        tally.note_reasoning(value)
    elif name == "tool_calls":
        for call in mappings(value):
            _read_function(tally, mapping(call.get("function") or call.get("custom")))
    elif name == "function_call":
        _read_function(tally, mapping(value))
    elif name == "audio":
        tally.note_text(mapping(value).get("transcript"))
        tally.token_seen = True


def _read_function(tally: Tally, function: Mapping[str, Any]) -> None:
    tally.note_text(function.get("name"))
    tally.note_text(function.get("arguments") or function.get("input"))
