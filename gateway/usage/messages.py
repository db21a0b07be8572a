"""Anthropic's own dialect, also spoken by Azure's Claude.

In: parsed events or the whole message. Out: notes. Usage is cumulative and comes twice: `message_start` has the input
and a provisional output, `message_delta` the final figures but not how cache writes were split. So fields are merged,
the last value of each wins, and nothing is added up. `input_tokens` does not contain what was read from or written to
the cache.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.usage.counts import MAX_COUNT, allot, first_count, mapping, mappings
from gateway.usage.errors import SERVER_ERROR, STREAM_ERROR, category_of_error
from gateway.usage.tally import Tally
from shared.event import Usage

_MERGED: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
)


class Messages:
    """POST /messages."""

    estimable = True
    marks_end = True

    def reads(self, _media_type: str) -> bool:
        """Read everything: a gateway in front may have lost the type."""
        return True

    def ignores(self, event_name: bytes) -> bool:
        """Pass over heartbeats and ends of blocks."""
        return event_name in {b"ping", b"content_block_stop"}

    def read_event(self, tally: Tally, event: Mapping[str, Any]) -> None:
        """Note an event."""
        match event.get("type"):
            case "content_block_delta":
                delta = mapping(event.get("delta"))
                tally.note_text(delta.get("text"))
                tally.note_text(delta.get("partial_json"))
                tally.note_reasoning(delta.get("thinking"))
            case "content_block_start":
                _read_block(tally, mapping(event.get("content_block")))
            case "message_start":
                message = mapping(event.get("message"))
                tally.note_model(message.get("model"))
                _merge(tally, message.get("usage"))
            case "message_delta":
                tally.note_finish(mapping(event.get("delta")).get("stop_reason"))
                _merge(tally, event.get("usage"))
                tally.reported_is_final = bool(tally.finish_reason)
            case "message_stop":
                tally.ended = True
            case kind if kind == "error" or event.get("error"):
                tally.error_category = category_of_error(event.get("error"), otherwise=STREAM_ERROR)
                tally.note_request_id(event.get("request_id"))
                tally.ended = True

    def usual_events(self, _tally: Tally) -> None:
        """Read every event as a whole."""

    def read_usual_document(self, _tally: Tally, _data: bytes) -> bool:
        """Read every document as a whole."""
        return False

    def read_document(self, tally: Tally, document: Mapping[str, Any]) -> None:
        """Note a whole message."""
        tally.note_model(document.get("model"))
        tally.note_finish(document.get("stop_reason"))
        _merge(tally, document.get("usage"))
        tally.reported_is_final = True
        if document.get("error"):
            tally.error_category = category_of_error(document["error"], otherwise=SERVER_ERROR)
            tally.note_request_id(document.get("request_id"))
        if tally.reported is None:
            for block in mappings(document.get("content")):
                _read_block(tally, block)

    def usage(self, tally: Tally) -> Usage | None:
        """Return the merged usage. Compactions are billed but stand apart in `iterations`, so they are added."""
        if tally.reported is None:
            return None
        main = _counts(tally.reported)
        if main is None:
            return None
        total = list(main)
        for iteration in mappings(tally.reported.get("iterations")):
            if iteration.get("type") == "compaction":
                extra = _counts(iteration) or (0,) * len(total)
                total = [min(one + other, MAX_COUNT) for one, other in zip(total, extra, strict=True)]
        uncached, read, written_5m, written_1h, written_other, text, thinking = total
        return Usage(
            input_uncached_tokens=uncached,
            input_cache_read_tokens=read,
            input_cache_write_5m_tokens=written_5m,
            input_cache_write_1h_tokens=written_1h,
            input_cache_write_other_tokens=written_other,
            output_text_tokens=text,
            output_reasoning_tokens=thinking,
            web_search_requests=first_count(mapping(tally.reported.get("server_tool_use")), "web_search_requests") or 0,
        )


def _counts(raw: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return uncached, read, written for 5 m, for 1 h, for an unknown time; text, thinking. None without figures."""
    uncached = first_count(raw, "input_tokens")
    output = first_count(raw, "output_tokens")
    if uncached is None and output is None:
        return None
    split = mapping(raw.get("cache_creation"))
    short = first_count(split, "ephemeral_5m_input_tokens") or 0
    long = first_count(split, "ephemeral_1h_input_tokens") or 0
    written = first_count(raw, "cache_creation_input_tokens")
    other, short, long = allot(short + long if written is None else written, short, long)
    details = mapping(raw.get("output_tokens_details"))
    text, thinking = allot(output or 0, first_count(details, "thinking_tokens") or 0)
    return (
        uncached or 0,
        first_count(raw, "cache_read_input_tokens") or 0,
        short,
        long,
        other,
        text,
        thinking,
    )


def _merge(tally: Tally, usage: object) -> None:
    if not isinstance(usage, dict) or not usage:
        return
    given = {name: usage[name] for name in _MERGED if usage.get(name) is not None}
    tally.reported = {**(tally.reported or {}), **given}
    if tally.service_tier != "fast":
        tally.note_tier("fast" if usage.get("speed") == "fast" else usage.get("service_tier"))


def _read_block(tally: Tally, block: Mapping[str, Any]) -> None:
    tally.note_text(block.get("text"))
    tally.note_reasoning(block.get("thinking"))
    kind = block.get("type")
    if isinstance(kind, str) and kind.endswith("tool_use"):
        tally.note_text(block.get("name"))
        tally.note_arguments(block.get("input"))
