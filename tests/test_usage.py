"""Usage meters: what they promise whatever a provider sends."""

import gzip
import json
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage import Call, Meter, Reading, estimate, open_meter, request_id_of
from gateway.usage.bounded import HEAD_BYTES, TAIL_BYTES, WHOLE_LIMIT_BYTES
from gateway.usage.counts import MAX_COUNT
from gateway.usage.encodings import FREE_BYTES, MAX_RATIO, EncodingFault, open_decoder
from gateway.usage.reading import MAX_LABEL_BYTES, label
from shared.event import NO_USAGE, Usage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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


def call(path: str = CHAT, provider: str = "openai", method: str = "POST") -> Call:
    return Call(provider=provider, method=method, path=path, content_bytes=80, message_count=2)


def meter_for(path: str = CHAT, content_type: str = SSE, *, status: int = 200, encoding: str = "") -> Meter:
    return open_meter(call(path, ENDPOINTS.get(path, "openai")), status, content_type, encoding)


def read(body: bytes, path: str = CHAT, content_type: str = JSON, provider: str = "openai") -> Reading:
    meter = open_meter(call(path, provider), 200, content_type, "")
    for at in range(0, len(body), 65536):
        meter.feed(body[at : at + 65536])
    return meter.finish(complete=True)


def total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens


# -- never raises, never lies about signs ------------------------------------------------------------------------------

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


@settings(max_examples=150, deadline=None)
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
    assert status == 200 or reading.usage == NO_USAGE


@settings(max_examples=400, deadline=None)
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


# -- sums --------------------------------------------------------------------------------------------------------------

TOKENS = st.integers(0, 10**6)
MAYBE = st.none() | TOKENS


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
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


# -- time to first token -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "before", "token"),
    [
        (CHAT, '{"choices":[{"delta":{"role":"assistant","content":""}}]}', '{"choices":[{"delta":{"content":"a"}}]}'),
        (CHAT, '{"choices":[]}', '{"choices":[{"delta":{"reasoning":"a"}}]}'),
        (CHAT, '{"choices":[]}', '{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}'),
        (
            "/v1/responses",
            '{"type":"response.created","response":{}}',
            '{"type":"response.reasoning_text.delta","delta":"a"}',
        ),
        (
            "/v1/messages",
            '{"type":"message_start","message":{"usage":{"output_tokens":1}}}',
            '{"type":"content_block_delta","delta":{"thinking":"a"}}',
        ),
        (
            "/v1beta/models/gemini-3-flash:streamGenerateContent",
            '{"usageMetadata":{"promptTokenCount":1}}',
            '{"candidates":[{"content":{"parts":[{"inlineData":{"data":"aGk="}}]}}]}',
        ),
    ],
)
def test_the_first_token_is_the_first_content(path: str, before: str, token: str) -> None:
    """Frames around the content are not tokens; text, reasoning, tool calls and pictures are."""
    meter = meter_for(path)
    meter.feed(f"data: {before}\n\n".encode())
    assert not meter.token_seen
    meter.feed(f"data: {token}\n\n".encode())
    assert meter.token_seen


@pytest.mark.parametrize(
    ("path", "status", "content_type", "expected"),
    [
        (CHAT, 200, JSON, True),
        ("/v1/audio/speech", 200, "audio/mpeg", True),
        (CHAT, 429, JSON, False),
        ("/v1/files", 200, JSON, False),
    ],
)
def test_a_plain_answer_has_its_first_token_with_its_first_byte(
    path: str, status: int, content_type: str, expected: bool
) -> None:
    """Only answers of a model have tokens."""
    meter = meter_for(path, content_type, status=status)
    assert not meter.token_seen
    meter.feed(b"{")
    assert meter.token_seen == expected


# -- too large ---------------------------------------------------------------------------------------------------------


def parts(head: str, filler: str, tail: str, size: int = 3 * WHOLE_LIMIT_BYTES) -> bytes:
    return (head + filler * (size // len(filler)) + tail).encode()


NESTED = '{"usage":{"prompt_tokens":666,"completion_tokens":666,"total_tokens":1332},"model":"evil"}'
LARGE = {
    "embeddings": (
        "/v1/embeddings",
        JSON,
        parts(
            '{"object":"list","data":[{"embedding":[0.5',
            ",-0.0123",
            ']}],"model":"text-embedding-3-large","usage":{"prompt_tokens":9,"total_tokens":9}}',
        ),
        ("text-embedding-3-large", "", 9),
    ),
    "picture": (
        "/v1/images/generations",
        JSON,
        parts(
            '{"created":1,"data":[{"b64_json":"',
            "aGVsbG8h",
            '"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}',
        ),
        ("", "", 3),
    ),
    "chat with tool arguments that look like usage": (
        CHAT,
        JSON,
        parts(
            '{"id":"c","model":"gpt-4o","choices":[{"message":{"content":"',
            'say \\"usage\\":{} ',
            f'","x":{NESTED},"tool":{json.dumps(NESTED)}}},"finish_reason":"stop"}}],'
            '"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}',
        ),
        ("gpt-4o", "stop", 12),
    ),
    "message": (
        "/v1/messages",
        JSON,
        parts(
            '{"model":"claude-x","content":[{"text":"',
            "la ",
            f'"}},{{"input":{NESTED}}}],"stop_reason":"end_turn","usage":{{"input_tokens":5,"output_tokens":7}}}}',
        ),
        ("claude-x", "end_turn", 12),
    ),
    "last event of a response": (
        "/v1/responses",
        SSE,
        parts(
            'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed",'
            '"model":"gpt-5","output":[{"result":"',
            "aGVsbG8h",
            '"}],"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}},"sequence_number":9}\n\n',
        ),
        ("gpt-5", "completed", 12),
    ),
    "array of pieces": (
        "/v1beta/models/gemini-3-flash:streamGenerateContent",
        JSON,
        parts(
            '[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"',
            "aGVsbG8h",
            '"}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7,'
            '"totalTokenCount":12},"modelVersion":"gemini-3-flash"}\n]\n',
        ),
        ("gemini-3-flash", "STOP", 12),
    ),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("chunk_bytes", [1021, 65536, 10**9])
def test_figures_are_found_in_what_is_too_large_to_keep(name: str, chunk_bytes: int) -> None:
    """The ends of a large answer tell its usage and its model, and nothing inside it can pretend to be them."""
    path, content_type, body, (model, finish_reason, tokens) = LARGE[name]
    meter = meter_for(path, content_type)
    for at in range(0, len(body), chunk_bytes):
        meter.feed(body[at : at + chunk_bytes])
    reading = meter.finish(complete=True)
    assert (reading.model, reading.finish_reason, total(reading.usage)) == (model, finish_reason, tokens)
    assert reading.usage_source == "provider"
    assert not meter.faulted


def test_what_is_too_large_and_says_nothing_is_a_fault() -> None:
    """Without figures at its ends, a large answer has no usage, and is counted as unread."""
    meter = meter_for(CHAT, JSON)
    for _ in range(40):
        meter.feed(b"[" * 65536)
    assert meter.finish(complete=True).usage_source == "absent"
    assert meter.faulted


def endless(kind: str) -> Iterator[bytes]:
    piece = {
        "line": b"data: " + b"x" * 65530,
        "event": b"data: x\n" * 8192,
        "comment": b":" + b"x" * 65534 + b"\n",
        "document": b'{"a":"' + b"x" * 65530,
        "fields": b"",
        "tiny": b"xy",
    }[kind]
    for number in range(300_000 if kind == "tiny" else 256):
        if kind == "fields":
            members = ",".join(f'"f{number}_{index}":1' for index in range(2000))
            yield f'data: {{"type":"message_delta","usage":{{{members},"output_tokens":1}}}}\n\n'.encode()
        else:
            yield piece


@pytest.mark.parametrize(
    ("kind", "path", "content_type"),
    [
        ("line", CHAT, SSE),
        ("event", CHAT, SSE),
        ("comment", CHAT, SSE),
        ("document", CHAT, JSON),
        ("fields", "/v1/messages", SSE),
        ("tiny", CHAT, JSON),
        ("tiny", CHAT, SSE),
    ],
)
def test_memory_is_bounded(kind: str, path: str, content_type: str) -> None:
    """Lines, events and documents without end, and names without end, take a few megabytes and no more."""
    meter = meter_for(path, content_type)
    tracemalloc.start()
    try:
        for chunk in endless(kind):
            meter.feed(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
        meter.finish(complete=True)
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * WHOLE_LIMIT_BYTES + HEAD_BYTES + 4 * TAIL_BYTES


# -- encodings ---------------------------------------------------------------------------------------------------------

BOMB = bytes(64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(BOMB)),
        ("br", brotli.compress(BOMB, quality=5)),
        ("zstd", zstd.compress(BOMB)),
        ("gzip, gzip", gzip.compress(gzip.compress(BOMB))),
    ],
)
def test_a_bomb_is_not_decoded_to_its_end(encoding: str, bomb: bytes) -> None:
    """Decoding stops where no plausible answer could be, and the answer counts as unread."""
    decoder = open_decoder(encoding)
    assert decoder is not None
    decoded = 0
    with pytest.raises(EncodingFault):
        for piece in decoder.decode(bomb):
            decoded += len(piece)
    assert decoded <= FREE_BYTES + MAX_RATIO * len(bomb)
    meter = meter_for(CHAT, JSON, encoding=encoding)
    meter.feed(bomb)
    meter.feed(bomb)
    reading = meter.finish(complete=True)
    assert (reading.usage_source, reading.error_category) == ("absent", "")
    assert meter.faulted


def test_a_window_beyond_the_standard_is_refused() -> None:
    """A zstd frame cannot make the gateway set aside more than RFC 9659's 8 MiB."""
    options = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.content_size_flag: 0,
        zstd.CompressionParameter.compression_level: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(b"data: [DONE]\n\n") + packer.flush()
    decoder = open_decoder("zstd")
    assert decoder is not None
    with pytest.raises(EncodingFault):
        list(decoder.decode(frame))


def test_what_was_read_before_the_damage_still_counts() -> None:
    """A stream whose encoding breaks keeps the figures that were already there, as partial ones."""
    event = b'data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":10,"output_tokens":2}}}\n\n'
    packed = gzip.compress(event + bytes(range(256)) * 40)
    meter = meter_for("/v1/messages", SSE, encoding="gzip")
    meter.feed(packed[:-200] + b"\xff" * 200)
    reading = meter.finish(complete=True)
    assert (reading.usage_source, reading.usage.input_tokens, reading.model) == ("provider_partial", 10, "m")
    assert meter.faulted


# -- names and ids -----------------------------------------------------------------------------------------------------


def test_the_request_id_is_taken_in_a_fixed_order() -> None:
    """x-request-id before request-id before Azure's own, in any case, empty ones skipped, bounded."""
    headers = [("Apim-Request-Id", "a"), ("REQUEST-ID", " r "), ("X-Request-Id", "x"), ("x-request-id", "second")]
    assert request_id_of(headers) == "x"
    assert request_id_of(headers[:2]) == "r"
    assert request_id_of([("x-request-id", " "), ("apim-request-id", "a\x00b")]) == "ab"
    assert request_id_of([("content-type", "x")]) == ""
    assert len(request_id_of([("x-request-id", "é" * 500)]).encode()) == MAX_LABEL_BYTES


@given(st.text() | SCALARS)
def test_a_label_is_short_and_printable(value: object) -> None:
    """Whatever a provider names, it fits and can be shown."""
    text = label(value)
    assert len(text.encode()) <= MAX_LABEL_BYTES
    assert text.isprintable()


def test_an_estimate_counts_bytes_and_messages() -> None:
    """Four bytes a token, rounded up, and four tokens around each message."""
    usage = estimate.estimated(content_bytes=9, message_count=3, text_bytes=5, reasoning_bytes=4)
    assert usage == Usage(input_uncached_tokens=15, output_text_tokens=2, output_reasoning_tokens=1)


def test_an_estimate_counts_bytes_not_characters() -> None:
    """Four Chinese characters are twelve bytes, which is three tokens."""
    body = '{"model":"m","choices":[{"message":{"content":"早上好啊"},"finish_reason":"stop"}]}'
    assert read(body.encode()).usage.output_text_tokens == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CHAT),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/responses/input_tokens"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/messages/batches/b/results"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/models/gemini-3-flash:countTokens"),
        ("POST", "/v1/threads/t/messages"),
        ("POST", "/v1/models/chat/completions"),
        ("POST", "/openai/deployments"),
        ("POST", "/"),
        ("HEAD", CHAT),
    ],
)
def test_endpoints_that_cost_nothing_count_nothing(method: str, path: str) -> None:
    """A usage object seen elsewhere than in the answer that created it is not counted again."""
    meter = open_meter(call(path, method=method), 200, JSON, "")
    meter.feed(b'{"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"input_tokens":1}}')
    reading = meter.finish(complete=True)
    assert (reading.usage, reading.usage_source, reading.error_category) == (NO_USAGE, "absent", "")
    assert not meter.faulted
