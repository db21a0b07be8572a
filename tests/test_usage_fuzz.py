"""Usage meters under arbitrary input: no exception, no negative count, sums that add up."""

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage import Call, Meter, Reading, estimate, open_meter
from gateway.usage.counts import MAX_COUNT
from gateway.usage.reading import MAX_LABEL_BYTES
from shared.event import NO_USAGE, Usage

if sys.version_info >= (3, 14):
    pass
else:
    pass

SSE = "text/event-stream"
JSON = "application/json"
CHAT = "/v1/chat/completions"
ENDPOINTS = {
    CHAT: "openai",
    "/openai/v1/chat/completions": "groq",
    "/v1beta/openai/chat/completions": "gemini",
    "/v1/responses": "openai",
    "/v1/messages": "anthropic",
    "/v1beta/models/gemini-3-flash:streamGenerateContent": "gemini",
    "/v1beta/models/gemini-embedding-2:embedContent": "gemini",
    "/v1/embeddings": "openai",
    "/v1/images/generations": "openai",
    "/v1/audio/transcriptions": "openai",
    "/v1/files": "openai",
}


def call(path: str = CHAT, provider: str = "openai") -> Call:
    return Call(provider=provider, method="POST", path=path, content_bytes=80, message_count=2)


def meter_for(path: str = CHAT, content_type: str = SSE, *, status: int = 200, encoding: str = "") -> Meter:
    return open_meter(call(path, ENDPOINTS.get(path, "openai")), status, content_type, encoding)


def read(body: bytes, path: str = CHAT, content_type: str = JSON, provider: str = "openai") -> Reading:
    meter = open_meter(call(path, provider), 200, content_type, "")
    for at in range(0, len(body), 65536):
        meter.feed(body[at : at + 65536])
    return meter.finish(complete=True)


def total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens


NAMES = st.sampled_from(
    [
        *(
            "type",
            "usage",
            "usageMetadata",
            "choices",
            "delta",
            "message",
            "response",
            "error",
            "code",
            "status",
            "model",
        ),
        *("content", "text", "tool_calls", "function", "arguments", "finish_reason", "stop_reason", "index", "x_groq"),
        *("id", "input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "total_tokens", "seconds"),
        *("prompt_tokens_details", "cached_tokens", "output_tokens_details", "reasoning_tokens", "cache_creation"),
        *("iterations", "candidates", "parts", "functionCall", "args", "promptTokenCount", "totalTokenCount"),
        *("promptTokensDetails", "modality", "tokenCount", "details", "reason", "innererror", "service_tier", "speed"),
        *("output", "summary", "incomplete_details", "tool_usage", "web_search", "num_requests", "duration", "audio"),
        *("content_block", "input", "thinking", "partial_json", "server_tool_use", "promptFeedback", "blockReason"),
    ]
)
WORDS = st.sampled_from(
    [
        *(
            "response.completed",
            "response.failed",
            "response.output_text.delta",
            "error",
            "message_start",
            "compaction",
        ),
        *("message_delta", "message_stop", "content_block_delta", "content_block_start", "tool_use", "AUDIO", "fast"),
        *("failed", "queued", "stop", "\ud83d", "\x00", "429", "٤٢٩", "²²²", "models/x", "", "nan", "1e999"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=150)
@given(
    path=st.sampled_from(sorted(ENDPOINTS)),
    status=st.sampled_from([200, 204, 302, 400, 429, 500, 999, 0]),
    content_type=st.sampled_from([SSE, JSON, "", "audio/mpeg", "text/event-stream;;=", "\x00"]),
    encoding=st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, br", "x, y, z, w", ",", "identity"]),
    chunks=st.lists(st.binary(max_size=64), max_size=8),
    complete=st.booleans(),
)
def test_no_bytes_make_a_meter_raise(
    path: str, status: int, content_type: str, encoding: str, chunks: list[bytes], complete: bool
) -> None:
    """Whatever comes under whatever head, there is a reading."""
    meter = meter_for(path, content_type, status=status, encoding=encoding)
    for chunk in chunks:
        meter.feed(chunk)
    reading = meter.finish(complete=complete)
    assert (reading.error_category == "") == (reading.error_source == "")
    assert 200 <= status < 300 or reading.usage == NO_USAGE


@settings(max_examples=400)
@given(
    path=st.sampled_from(sorted(ENDPOINTS)),
    status=st.sampled_from([200, 200, 429]),
    values=st.lists(st.dictionaries(NAMES, VALUES, max_size=6) | VALUES, max_size=4),
    is_stream=st.booleans(),
    complete=st.booleans(),
)
@example(path="/v1/responses", status=200, values=[{"status": [], "response": {}}], is_stream=False, complete=True)
def test_no_json_makes_a_meter_raise(
    path: str, status: int, values: list[Any], is_stream: bool, complete: bool
) -> None:
    """Known names with values of any kind are read or passed over; no count is ever negative, no name ever long."""
    texts = [json.dumps(value) for value in values]
    body = "".join(f"data: {text}\n\n" for text in texts) if is_stream else texts[0] if texts else ""
    meter = meter_for(path, SSE if is_stream else JSON, status=status)
    meter.feed(body.encode())
    reading = meter.finish(complete=complete)
    counts = [getattr(reading.usage, name) for name in Usage.__struct_fields__]
    assert all(0 <= number < 10 * MAX_COUNT for number in counts)
    for text in (reading.model, reading.finish_reason, reading.service_tier, reading.provider_request_id):
        assert len(text.encode()) <= MAX_LABEL_BYTES
        assert text.isprintable()


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"choices":[', '{"usage":{"x":'])
@pytest.mark.parametrize("content_type", [SSE, JSON])
def test_nesting_beyond_reason_is_unreadable_not_fatal(opening: str, content_type: str) -> None:
    """A document nested a hundred thousand deep costs a fault, not the request."""
    meter = meter_for(CHAT, content_type)
    meter.feed(b"data: " * (content_type == SSE) + opening.encode() * 100_000 + b"\n\n")
    assert meter.finish(complete=True).usage_source == "absent"
    assert meter.faulted


TOKENS = st.integers(0, 10**6)
MAYBE = st.none() | TOKENS


@settings(max_examples=200)
@given(inward=TOKENS, outward=TOKENS, parts=st.lists(MAYBE, min_size=7, max_size=7), is_responses=st.booleans())
def test_openai_counts_add_up_to_the_providers_own(
    inward: int, outward: int, parts: list[int | None], is_responses: bool
) -> None:
    """Input and output keep their totals even when the details exceed them."""
    names = ("input", "output") if is_responses else ("prompt", "completion")
    usage = {
        f"{names[0]}_tokens": inward,
        f"{names[1]}_tokens": outward,
        "total_tokens": inward + outward,
        f"{names[0]}_tokens_details": dict(
            zip(("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"), parts[:4], strict=True)
        ),
        f"{names[1]}_tokens_details": dict(
            zip(("reasoning_tokens", "audio_tokens", "image_tokens"), parts[4:], strict=True)
        ),
    }
    reading = read(json.dumps({"model": "m", "usage": usage}).encode(), "/v1/responses" if is_responses else CHAT)
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (inward, outward)


@settings(max_examples=200)
@given(prompt=TOKENS, completion=TOKENS, hidden=TOKENS, reasoning=MAYBE)
def test_gemini_compat_counts_add_up_to_the_total(prompt: int, completion: int, hidden: int, reasoning: int) -> None:
    """Thinking that only the total knows is output."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + hidden,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    reading = read(json.dumps({"usage": usage}).encode(), provider="gemini")
    assert total(reading.usage) == prompt + completion + hidden
    assert reading.usage.output_reasoning_tokens >= hidden


@settings(max_examples=200)
@given(counts=st.lists(TOKENS, min_size=7, max_size=7), sound=MAYBE, cached_sound=MAYBE)
def test_gemini_native_counts_add_up_to_the_total(counts: list[int], sound: int, cached_sound: int) -> None:
    """Prompt, tools, candidates and thoughts together are the total."""
    prompt, cached, candidates, thoughts, tools, picture, unnamed = counts
    raw = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": tools,
        "totalTokenCount": prompt + candidates + thoughts + tools + unnamed,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": sound}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": cached_sound}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": picture}],
    }
    reading = read(json.dumps({"usageMetadata": raw}).encode(), "/v1beta/models/g:generateContent", provider="gemini")
    assert total(reading.usage) == raw["totalTokenCount"]
    assert reading.usage.input_tokens == prompt + tools


@settings(max_examples=200)
@given(uncached=TOKENS, cached=TOKENS, written=TOKENS, output=TOKENS, split=st.lists(MAYBE, min_size=3, max_size=3))
def test_anthropic_counts_add_up(
    uncached: int, cached: int, written: int, output: int, split: list[int | None]
) -> None:
    """Input is what was not cached plus what was read plus what was written, however the writes are split."""
    raw = {
        "input_tokens": uncached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": split[0], "ephemeral_1h_input_tokens": split[1]},
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": split[2]},
    }
    usage = read(json.dumps({"usage": raw}).encode(), "/v1/messages", provider="anthropic").usage
    assert usage.input_tokens == uncached + cached + written
    assert usage.output_tokens == output


@given(
    reported=st.builds(Usage, output_text_tokens=TOKENS, output_reasoning_tokens=TOKENS, output_image_tokens=TOKENS),
    text_bytes=TOKENS,
    reasoning_bytes=TOKENS,
)
def test_a_provisional_output_is_raised_never_lowered(reported: Usage, text_bytes: int, reasoning_bytes: int) -> None:
    """The output of a broken answer is at least what was reported and at least what was seen."""
    raised = estimate.completed(reported, text_bytes=text_bytes, reasoning_bytes=reasoning_bytes)
    seen = estimate.tokens_of(text_bytes) + estimate.tokens_of(reasoning_bytes)
    assert raised.output_tokens >= max(reported.output_tokens, seen)
    assert raised.output_reasoning_tokens >= reported.output_reasoning_tokens
    assert raised.output_text_tokens >= 0
    assert raised.input_tokens == reported.input_tokens
