"""Usage meters: first tokens, ids, names, estimates, and what is not counted."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import Call, Meter, Reading, estimate, open_meter, request_id_of
from gateway.usage.reading import MAX_LABEL_BYTES, label
from shared.event import NO_USAGE, Usage

if sys.version_info >= (3, 14):
    pass
else:
    pass

SSE = "text/event-stream"
JSON = "application/json"
CHAT = "/v1/chat/completions"


def call(path: str = CHAT, provider: str = "openai", method: str = "POST") -> Call:
    return Call(provider=provider, method=method, path=path, content_bytes=80, message_count=2)


def meter_for(path: str = CHAT, content_type: str = SSE, *, status: int = 200) -> Meter:
    return open_meter(call(path), status, content_type, "")


def read(body: bytes, path: str = CHAT, content_type: str = JSON, provider: str = "openai") -> Reading:
    meter = open_meter(call(path, provider), 200, content_type, "")
    for at in range(0, len(body), 65536):
        meter.feed(body[at : at + 65536])
    return meter.finish(complete=True)


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


def test_the_request_id_is_taken_in_a_fixed_order() -> None:
    """x-request-id before request-id before Azure's own, empty ones skipped, bounded."""
    fields = {b"apim-request-id": b"a", b"request-id": b"r", b"x-request-id": b"x"}
    assert request_id_of(fields) == "x"
    assert request_id_of({b"apim-request-id": b"a", b"request-id": b"r"}) == "r"
    assert request_id_of({b"x-request-id": b"", b"apim-request-id": b"a\x01b"}) == "ab"
    assert request_id_of({b"content-type": b"x"}) == ""
    assert len(request_id_of({b"x-request-id": b"\xe9" * 500}).encode()) == MAX_LABEL_BYTES


@given(st.text() | st.none() | st.integers() | st.just("\ud83d") | st.lists(st.text()))
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
