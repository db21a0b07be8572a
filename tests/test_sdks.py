"""The providers' own SDKs, pointed at the gateway: right upstream path, right credential, right answer, right row."""

from collections.abc import Iterator
from typing import Any

import anthropic
import groq
import openai
import pytest
from google import genai
from google.genai import types

from deploy.local.providers import ANSWER_MARKER
from deploy.local.providers.tokens import TokenCounts, count_audio, count_tokens
from tests.canaries import PROMPT, provider_key
from tests.lectr import Lectr, quoted
from tests.mock_process import MockProcess

KEY = provider_key("sdk")
STREAMS = 15
TEXT = f"{PROMPT}: what is quartz, façade and 東京?"


@pytest.fixture
def tags(lectr: Lectr, feature: str) -> dict[str, str]:
    return {"X-Lectr-Key": lectr.key, "X-Lectr-Feature": feature}


@pytest.fixture
def openai_client(lectr: Lectr, tags: dict[str, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{lectr.url}/v1", api_key=KEY, default_headers=tags, max_retries=0) as client:
        yield client


def received(mock: MockProcess) -> tuple[str, dict[str, str]]:
    """Path and header fields of the last request that a provider got."""
    last = mock.requests()[-1]
    fields = {name.lower(): value for name, value in last["headers"]}
    assert not [name for name in fields if name.startswith("x-lectr")]
    return last["path"], fields


def expected(mock: MockProcess, model: str) -> TokenCounts:
    return count_tokens(mock.last_body(), model)


def test_openai_closes_streams_at_their_end(
    lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str
) -> None:
    """The SDK closes the connection at [DONE], before or after the last chunk's end: that is no disconnect."""
    mock.behave(chunk_delay_ms=5)
    question: Any = [{"role": "user", "content": "Hi"}]
    for _ in range(STREAMS):
        assert list(openai_client.chat.completions.create(model="gpt-4o-mini", messages=question, stream=True))
    rows = lectr.rows(f"feature = {quoted(feature)}", count=STREAMS)
    assert [(row["error_category"], row["finish_reason"]) for row in rows] == [("", "stop")] * STREAMS


def test_openai_chat(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """Chat: the answer of the SDK is the provider's, the row has the dated model and the exact tokens."""
    answer = openai_client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": TEXT}])
    assert (answer.choices[0].message.content or "").startswith(ANSWER_MARKER)
    path, fields = received(mock)
    assert path == "/openai/v1/chat/completions"
    assert fields["authorization"] == f"Bearer {KEY}"
    counts = expected(mock, "gpt-5")
    row = lectr.row_of(
        feature,
        provider="openai",
        endpoint="/v1/chat/completions",
        method="POST",
        model_requested="gpt-5",
        model_actual="gpt-5-2025-08-07",
        status=200,
        streaming=False,
        usage_source="provider",
        finish_reason="stop",
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        output_reasoning_tokens=counts.reasoning_tokens,
        output_text_tokens=counts.visible_tokens,
        sdk=f"openai-python/{openai.__version__}",
        message_count=1,
        content_bytes=len(TEXT.encode()),
        error_category="",
    )
    assert float(row["cost"]) > 0
    assert row["latency_ms"] >= row["ttfb_ms"] > 0


@pytest.mark.parametrize(("include_usage", "source"), [(True, "provider"), (False, "estimated")])
def test_openai_chat_stream(
    lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str, include_usage: bool, source: str
) -> None:
    """A stream with include_usage is exact; one without is estimated and says so."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = openai_client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": TEXT}], stream=True, **options
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.startswith(ANSWER_MARKER)
    row = lectr.row_of(feature, streaming=True, usage_source=source, model_actual="gpt-4o-2024-08-06", status=200)
    counts = expected(mock, "gpt-4o")
    if include_usage:
        assert (row["input_tokens"], row["output_tokens"]) == (counts.input_tokens, counts.output_tokens)
    else:
        assert row["input_tokens"] > 0
        assert row["output_tokens"] > 0
    assert 0 < row["ttfb_ms"] <= row["ttft_ms"] <= row["latency_ms"]
    assert float(row["cost"]) > 0


def test_openai_responses(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """Responses: creating one is counted, reading it again is a row without usage."""
    answer = openai_client.responses.create(model="gpt-5", input=TEXT)
    assert answer.output_text.startswith(ANSWER_MARKER)
    counts = expected(mock, "gpt-5")
    assert received(mock)[0] == "/openai/v1/responses"
    openai_client.responses.retrieve(answer.id)
    created, read = lectr.rows(f"feature = {quoted(feature)}", count=2)
    assert (created["input_tokens"], created["output_tokens"]) == (counts.input_tokens, counts.output_tokens)
    assert created["usage_source"] == "provider"
    assert (read["method"], read["usage_source"], read["input_tokens"]) == ("GET", "absent", 0)


def test_openai_responses_stream(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """Responses stream: usage comes from the terminal event."""
    events = list(openai_client.responses.create(model="gpt-4o", input=TEXT, stream=True))
    assert events[-1].type == "response.completed"
    counts = expected(mock, "gpt-4o")
    lectr.row_of(
        feature,
        streaming=True,
        usage_source="provider",
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
    )


def test_openai_embeddings(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """Embeddings: input tokens only, priced."""
    answer = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", TEXT])
    assert len(answer.data) == 2
    counts = expected(mock, "text-embedding-3-small")
    row = lectr.row_of(feature, input_tokens=counts.input_tokens, output_tokens=0, usage_source="provider")
    assert received(mock)[0] == "/openai/v1/embeddings"
    assert float(row["cost"]) > 0


def test_openai_transcription(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """Multipart upload: the model is found in the form, the file arrives byte for byte, the tokens are stored."""
    file = ("speech.wav", b"\r\n--x\x00RIFF" * 20_000)
    answer = openai_client.audio.transcriptions.create(model="gpt-4o-transcribe", file=file)
    assert answer.text
    last = mock.requests()[-1]
    assert last["path"] == "/openai/v1/audio/transcriptions"
    assert last["body_bytes"] > len(file[1])
    counts = count_audio(len(file[1]))
    lectr.row_of(
        feature,
        provider="openai",
        provider_source="model",
        model_requested="gpt-4o-transcribe",
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        request_bytes=last["body_bytes"],
    )


def test_openai_models(lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str) -> None:
    """A path with an escaped slash arrives escaped, and a list without usage is a row without usage."""
    assert openai_client.models.list().data
    assert received(mock)[0] == "/openai/v1/models"
    mock.behave(status=404, times=1)
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("openai/gpt-nothing")
    assert "openai%2Fgpt-nothing" in mock.requests()[-1]["path"]
    listed, missing = lectr.rows(f"feature = {quoted(feature)}", count=2)
    assert (listed["status"], listed["usage_source"], listed["model_requested"]) == (200, "absent", "")
    assert (missing["status"], missing["error_source"]) == (404, "provider")


def test_azure_openai(lectr: Lectr, mock: MockProcess, tags: dict[str, str], feature: str) -> None:
    """AzureOpenAI pointed at the gateway: its deployments path and api-key go to the organisation's endpoint."""
    with openai.AzureOpenAI(
        azure_endpoint=lectr.url, api_version="2024-10-21", api_key=KEY, default_headers=tags, max_retries=0
    ) as client:
        answer = client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": TEXT}])
        stream = client.chat.completions.create(
            model="gpt-5-mini", messages=[{"role": "user", "content": TEXT}], stream=True
        )
        assert [chunk for chunk in stream if chunk.choices]
    assert (answer.choices[0].message.content or "").startswith(ANSWER_MARKER)
    path, fields = received(mock)
    assert path == "/azure/openai/deployments/gpt-5-mini/chat/completions?api-version=2024-10-21"
    assert fields["api-key"] == KEY
    whole, streamed = lectr.rows(f"feature = {quoted(feature)}", count=2)
    for row in (whole, streamed):
        assert (row["provider"], row["provider_source"], row["status"]) == ("azure", "path", 200)
        assert row["model_actual"].startswith("gpt-5-mini-")
    assert whole["usage_source"] == "provider"
    assert float(whole["cost"]) > 0


def test_openai_client_to_azure_by_header(
    lectr: Lectr, mock: MockProcess, openai_client: openai.OpenAI, feature: str
) -> None:
    """X-Lectr-Provider: azure with a plain OpenAI client: deployments path, api-version and api-key are made."""
    client = openai_client.with_options(default_headers={"X-Lectr-Provider": "azure"})
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": TEXT}])
    path, fields = received(mock)
    assert path == "/azure/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert fields["api-key"] == KEY
    assert "authorization" not in fields
    lectr.row_of(feature, provider="azure", provider_source="header", status=200)


def test_anthropic(lectr: Lectr, mock: MockProcess, tags: dict[str, str], feature: str) -> None:
    """Messages, native: found by its path; caches are counted apart; streams are cumulative, never added up."""
    with anthropic.Anthropic(base_url=lectr.url, api_key=KEY, default_headers=tags, max_retries=0) as client:
        system: Any = [{"type": "text", "text": TEXT * 40, "cache_control": {"type": "ephemeral"}}]
        answer = client.messages.create(
            model="claude-sonnet-5-5", max_tokens=100, system=system, messages=[{"role": "user", "content": TEXT}]
        )
        counts = expected(mock, "claude-sonnet-5-5")
        path, fields = received(mock)
        with client.messages.stream(
            model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": TEXT}]
        ) as stream:
            text = "".join(stream.text_stream)
        streamed_counts = expected(mock, "claude-sonnet-5-5")
    assert text.startswith(ANSWER_MARKER)
    assert answer.usage.cache_read_input_tokens == counts.cache_read_tokens > 0
    assert path == "/anthropic/v1/messages"
    assert fields["x-api-key"] == KEY
    assert fields["anthropic-version"]
    whole, streamed = lectr.rows(f"feature = {quoted(feature)}", count=2)
    assert whole["provider"] == streamed["provider"] == "anthropic"
    assert whole["provider_source"] == "path"
    assert whole["input_uncached_tokens"] == counts.uncached_input_tokens
    assert whole["input_cache_read_tokens"] == counts.cache_read_tokens
    assert whole["input_cache_write_5m_tokens"] == counts.cache_write_tokens
    assert whole["input_tokens"] == counts.input_tokens
    assert whole["output_tokens"] == counts.output_tokens
    assert streamed["input_tokens"] == streamed_counts.input_tokens
    assert streamed["output_tokens"] == streamed_counts.output_tokens
    assert streamed["usage_source"] == whole["usage_source"] == "provider"
    assert float(whole["cost"]) > 0


def test_anthropic_error_shape(lectr: Lectr, mock: MockProcess) -> None:
    """The gateway's own refusal on /v1/messages has the shape that Anthropic's SDK turns into its typed error."""
    with (
        anthropic.Anthropic(base_url=lectr.url, api_key=KEY, max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as refusal,
    ):
        client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=[{"role": "user", "content": TEXT}])
    body: Any = refusal.value.body
    assert body["type"] == "error"
    assert body["error"]["code"] == "missing_lectr_key"
    assert mock.requests() == []


def test_groq(lectr: Lectr, mock: MockProcess, tags: dict[str, str], feature: str) -> None:
    """Groq's SDK path, usage three times in a stream and counted once."""
    with groq.Groq(base_url=lectr.url, api_key=KEY, default_headers=tags, max_retries=0) as client:
        client.chat.completions.create(model="llama-3.3-70b-versatile", messages=[{"role": "user", "content": TEXT}])
        path, fields = received(mock)
        stream = client.chat.completions.create(
            model="llama-3.3-70b-versatile", messages=[{"role": "user", "content": TEXT}], stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.startswith(ANSWER_MARKER)
    assert path == "/groq/openai/v1/chat/completions"
    assert fields["authorization"] == f"Bearer {KEY}"
    counts = expected(mock, "llama-3.3-70b-versatile")
    for row in lectr.rows(f"feature = {quoted(feature)}", count=2):
        assert (row["provider"], row["usage_source"]) == ("groq", "provider")
        assert (row["input_tokens"], row["output_tokens"]) == (counts.input_tokens, counts.output_tokens)
        assert float(row["cost"]) > 0


def test_google_genai(lectr: Lectr, mock: MockProcess, tags: dict[str, str], feature: str) -> None:
    """Google's SDK: model in the path, thoughts counted as output, key in its own header."""
    options = types.HttpOptions(base_url=lectr.url, headers=tags)
    client = genai.Client(api_key=KEY, http_options=options)
    try:
        answer = client.models.generate_content(model="gemini-2.5-flash", contents=TEXT)
        assert (answer.text or "").startswith(ANSWER_MARKER)
        path, fields = received(mock)
        counts = expected(mock, "gemini-2.5-flash")
        pieces = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents=TEXT))
    finally:
        client.close()
    assert "".join(piece.text or "" for piece in pieces).startswith(ANSWER_MARKER)
    assert path == "/gemini/v1/models/gemini-2.5-flash:generateContent"
    assert fields["x-goog-api-key"] == KEY
    whole, streamed = lectr.rows(f"feature = {quoted(feature)}", count=2)
    for row in (whole, streamed):
        assert (row["provider"], row["model_requested"]) == ("gemini", "gemini-2.5-flash")
        assert (row["input_tokens"], row["output_tokens"]) == (counts.input_tokens, counts.output_tokens)
        assert row["output_reasoning_tokens"] == counts.reasoning_tokens
        assert row["usage_source"] == "provider"
        assert float(row["cost"]) > 0
    assert streamed["streaming"] is True
