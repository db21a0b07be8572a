"""OpenAI's usage object, in all its spellings, as disjoint counts.

In: the object as it came (chat: prompt_/completion_tokens; responses, images, transcriptions: input_/output_tokens).
Out: a Usage, or None if the object holds no figures. Cached, written, audio and image tokens are inside the input, and
reasoning, audio and image tokens inside the output, so they are taken out of it. Cached sound is counted as cached.
Source: the types that the SDKs publish.
"""

from collections.abc import Mapping
from typing import Any, Literal

from gateway.usage.counts import EMPTY, allot, first_count, mapping, seconds
from shared.event import Usage

OutputKind = Literal["text", "audio", "image"]


def usage_of(
    raw: Mapping[str, Any],
    *,
    hidden_output: bool = False,
    output_kind: OutputKind = "text",
    cached_tokens_hint: int = 0,
) -> Usage | None:
    """Return disjoint counts.

    `hidden_output`: Gemini's compat endpoint leaves thinking out of completion_tokens, only the total has it.
    `output_kind`: what the output is when no detail says so. `cached_tokens_hint`: cache reads reported elsewhere.
    """
    total = first_count(raw, "total_tokens")
    input_tokens = first_count(raw, "prompt_tokens", "input_tokens")
    output_tokens = first_count(raw, "completion_tokens", "output_tokens")
    duration = seconds(raw.get("seconds"))
    if total is None and input_tokens is None and output_tokens is None:
        return None if duration is None else Usage(input_audio_seconds=duration)
    if input_tokens is None:
        input_tokens = max((total or 0) - (output_tokens or 0), 0)
    stated = output_tokens or 0
    # Elsewhere a larger total is not believed: others add what was never billed.
    hidden = max((total or 0) - input_tokens - stated, 0) if hidden_output else 0

    details = _details(raw, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    cached = first_count(details, "cached_tokens")
    uncached, cached, written, audio, image = allot(
        input_tokens,
        cached_tokens_hint if cached is None else cached,
        first_count(details, "cache_write_tokens") or 0,
        first_count(details, "audio_tokens") or 0,
        first_count(details, "image_tokens") or 0,
    )
    made = _details(raw, "completion_tokens_details", "output_tokens_details", "output_token_details")
    text, reasoning, audio_out, image_out = allot(
        stated + hidden,
        max(first_count(made, "reasoning_tokens") or 0, hidden),
        first_count(made, "audio_tokens") or 0,
        first_count(made, "image_tokens") or 0,
    )
    if not made and output_kind == "audio":
        text, audio_out = 0, text
    elif not made and output_kind == "image":
        text, image_out = 0, text
    return Usage(
        input_uncached_tokens=uncached,
        input_cache_read_tokens=cached,
        input_cache_write_other_tokens=written,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_text_tokens=text,
        output_reasoning_tokens=reasoning,
        output_audio_tokens=audio_out,
        output_image_tokens=image_out,
        input_audio_seconds=duration or 0.0,
    )


def _details(raw: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if name in raw and (found := mapping(raw[name])):
            return found
    return EMPTY
