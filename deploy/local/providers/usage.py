"""Usage objects: TokenCounts -> the field names of each dialect.

In: counts and provider. Out: JSON-ready dicts. Never invents a number that tokens.py did not give (Groq's and Azure's
timings are the exception: they are derived from the counts, so they are stable too).
"""

from typing import Any

from deploy.local.providers.tokens import TokenCounts


def chat_usage(provider: str, counts: TokenCounts) -> dict[str, Any]:
    """Return `usage` of chat and legacy completions in the provider's variant."""
    if provider == "groq":
        return groq_usage(counts)
    if provider == "gemini":
        # Thinking is in the total only.
        return {
            "completion_tokens": counts.visible_tokens,
            "prompt_tokens": counts.input_tokens,
            "total_tokens": counts.total_tokens,
        }
    sums: dict[str, Any] = {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.total_tokens,
    }
    if provider == "anthropic":
        # The OpenAI layer has these two always empty.
        return {**sums, "prompt_tokens_details": {}, "completion_tokens_details": {}}
    prompt_details = {"cached_tokens": counts.cache_read_tokens, "audio_tokens": 0}
    if provider == "openai":
        prompt_details["cache_write_tokens"] = counts.cache_write_tokens
    return {
        **sums,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def groq_usage(counts: TokenCounts) -> dict[str, Any]:
    """Return Groq's usage: OpenAI's names among seconds as floats."""
    prompt_time, completion_time = counts.input_tokens / 8192, counts.output_tokens / 512
    return {
        "queue_time": 0.19,
        "prompt_tokens": counts.input_tokens,
        "prompt_time": prompt_time,
        "completion_tokens": counts.output_tokens,
        "completion_time": completion_time,
        "total_tokens": counts.total_tokens,
        "total_time": prompt_time + completion_time,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read_tokens} if counts.cache_read_tokens else None,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens} if counts.reasoning_tokens else None,
    }


def latency_checkpoint(counts: TokenCounts) -> dict[str, int]:
    """Return Azure's timings in ms."""
    return {"engine_ttft_ms": 33, "service_ttft_ms": 230, "total_duration_ms": 230 + 10 * counts.output_tokens}


def responses_usage(provider: str, counts: TokenCounts) -> dict[str, Any]:
    """Return `usage` of the Responses API."""
    input_details = {"cached_tokens": counts.cache_read_tokens}
    if provider == "openai":
        input_details = {"cache_write_tokens": counts.cache_write_tokens, **input_details}
    return {
        "input_tokens": counts.input_tokens,
        "input_tokens_details": input_details,
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.total_tokens,
    }


def messages_usage(counts: TokenCounts) -> dict[str, Any]:
    """Return Anthropic's final usage without the cache split: what message_delta carries. Input excludes the cache."""
    usage: dict[str, Any] = {
        "input_tokens": counts.uncached_input_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_read_input_tokens": counts.cache_read_tokens,
        "output_tokens": counts.output_tokens,
    }
    if counts.reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning_tokens}
    return usage


def messages_cache_split(counts: TokenCounts) -> dict[str, Any]:
    """Return the fields that message_start and whole messages have besides messages_usage."""
    written, lasting = counts.cache_write_tokens, counts.cache_write_is_1h
    return {
        "cache_creation": {
            "ephemeral_5m_input_tokens": 0 if lasting else written,
            "ephemeral_1h_input_tokens": written if lasting else 0,
        },
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


def gemini_usage(counts: TokenCounts, visible_tokens: int) -> dict[str, Any]:
    """Return `usageMetadata` after that many visible tokens (running totals; thoughts stand beside candidates)."""
    usage: dict[str, Any] = {
        "promptTokenCount": counts.input_tokens,
        "candidatesTokenCount": visible_tokens,
        "totalTokenCount": counts.input_tokens + visible_tokens + counts.reasoning_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": counts.input_tokens}],
    }
    if counts.cache_read_tokens:
        usage["cachedContentTokenCount"] = counts.cache_read_tokens
    if counts.reasoning_tokens:
        usage["thoughtsTokenCount"] = counts.reasoning_tokens
    return usage


def media_usage(counts: TokenCounts, *, input_kind: str, output_kind: str) -> dict[str, Any]:
    """Return `usage` of image generation: Responses names, split by modality (`text_tokens`, `image_tokens`)."""
    return {
        "input_tokens": counts.input_tokens,
        "output_tokens": counts.visible_tokens,
        "total_tokens": counts.input_tokens + counts.visible_tokens,
        "input_tokens_details": _split(input_kind, counts.input_tokens),
        "output_tokens_details": _split(output_kind, counts.visible_tokens),
    }


def _split(kind: str, tokens: int) -> dict[str, int]:
    return {"text_tokens": tokens if kind == "text" else 0, "image_tokens": tokens if kind == "image" else 0}
