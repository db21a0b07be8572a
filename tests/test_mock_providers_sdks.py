"""Promise of the mock providers: the vendors' SDKs read them without error, and the numbers are those of tokens.py."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from deploy.local.providers import ANSWER_MARKER, WRONG_KEY_MARK
from deploy.local.providers.tokens import TokenCounts, count_audio, count_tokens
from tests.mock_process import MockProcess, mock_process

PROMPT = "Tell me about quartz, façade and 東京."


@pytest.fixture(scope="module")
def running() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as process:
        yield process


@pytest.fixture
def mock(running: MockProcess) -> MockProcess:
    running.reset()
    return running


@pytest.fixture
def openai_client(mock: MockProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mock.url}/openai/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
def azure_client(mock: MockProcess) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=f"{mock.url}/azure",
        api_version="2024-10-21",
        api_key="0123",
        max_retries=0,
    ) as client:
        yield client


@pytest.fixture
def anthropic_client(mock: MockProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=f"{mock.url}/anthropic", api_key="sk-ant-test", max_retries=0) as client:
        yield client


def expected(mock: MockProcess, model: str) -> TokenCounts:
    """Compute what the last request must have used, from its body as received."""
    return count_tokens(mock.last_body(), model)


def test_openai_chat(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """A chat completion shows the dated model, the marker and the formula's usage."""
    answer = openai_client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": PROMPT}])
    counts = expected(mock, "gpt-5")
    assert answer.model == "gpt-5-2025-08-07"
    assert (answer.choices[0].message.content or "").startswith(ANSWER_MARKER)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (counts.input_tokens, counts.output_tokens)
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == counts.reasoning_tokens


def test_openai_chat_stream_with_usage(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """With include_usage exactly one chunk, the last, has usage and no choices; text pieces equal visible tokens."""
    chunks = list(
        openai_client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        ),
    )
    counts = expected(mock, "gpt-4o")
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == 1
    assert chunks[-1].usage is usages[0]
    assert chunks[-1].choices == []
    assert (usages[0].prompt_tokens, usages[0].completion_tokens) == (counts.input_tokens, counts.output_tokens)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) == counts.visible_tokens
    assert texts[0] == ANSWER_MARKER


def test_openai_chat_stream_without_usage(openai_client: openai.OpenAI) -> None:
    """Without include_usage there is no usage anywhere."""
    stream = openai_client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
    )
    chunks = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_openai_output_limit(openai_client: openai.OpenAI) -> None:
    """A limit of the request cuts the answer and is named as the finish reason."""
    answer = openai_client.chat.completions.create(model="gpt-4o", messages=[], max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_openai_legacy_completions(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """Text completions work whole and streamed, with chat's usage names."""
    answer = openai_client.completions.create(model="babbage-002", prompt=PROMPT)
    assert answer.usage is not None
    assert answer.usage.total_tokens == expected(mock, "babbage-002").total_tokens
    stream = openai_client.completions.create(model="babbage-002", prompt=PROMPT, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_openai_responses(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """A response has usage in its own names, and a GET of its id shows the same usage again."""
    answer = openai_client.responses.create(model="gpt-5", input=PROMPT)
    counts = expected(mock, "gpt-5")
    assert answer.status == "completed"
    assert answer.output_text.startswith(ANSWER_MARKER)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (counts.input_tokens, counts.output_tokens)
    again = openai_client.responses.retrieve(answer.id)
    assert again.usage == answer.usage
    replayed = list(openai_client.responses.retrieve(answer.id, stream=True))
    assert replayed[-1].type == "response.completed"
    assert replayed[-1].response.usage == answer.usage


def test_openai_responses_stream(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """Only the terminal event has usage; the events are numbered; the text arrives piece by piece."""
    events = list(openai_client.responses.create(model="gpt-4o", input=PROMPT, stream=True))
    counts = expected(mock, "gpt-4o")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[0].response.usage is None
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage is not None
    assert events[-1].response.usage.output_tokens == counts.output_tokens
    assert sum(event.type == "response.output_text.delta" for event in events) == counts.visible_tokens


def test_openai_responses_incomplete_and_background(openai_client: openai.OpenAI) -> None:
    """A limit makes the response incomplete; a background one has its usage only on a later GET."""
    limited = openai_client.responses.create(model="gpt-4o", input=PROMPT, max_output_tokens=1)
    assert limited.status == "incomplete"
    queued = openai_client.responses.create(model="gpt-4o", input=PROMPT, background=True)
    assert (queued.status, queued.usage) == ("queued", None)
    assert openai_client.responses.retrieve(queued.id).usage is not None
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve("resp_unknown")


def test_openai_embeddings(mock: MockProcess, openai_client: openai.OpenAI) -> None:
    """The SDK's base64 default is decoded to the same vector as the number form; usage has input only."""
    packed = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", PROMPT], dimensions=16)
    assert mock.last_body()["encoding_format"] == "base64"
    plain = openai_client.embeddings.create(
        model="text-embedding-3-small",
        input=["a", PROMPT],
        dimensions=16,
        encoding_format="float",
    )
    counts = expected(mock, "text-embedding-3-small")
    assert [row.embedding for row in packed.data] == [row.embedding for row in plain.data]
    assert len(packed.data[1].embedding) == 16
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == counts.input_tokens


def test_openai_transcription(openai_client: openai.OpenAI) -> None:
    """Multipart uploads are read: tokens for token models, a duration for whisper, plain text on request."""
    file = ("speech.wav", b"\r\n--x\x00" * 10_000)
    tokens = openai_client.audio.transcriptions.create(model="gpt-4o-transcribe", file=file)
    counts = count_audio(len(file[1]))
    assert tokens.usage is not None
    assert tokens.usage.type == "tokens"
    assert (tokens.usage.input_tokens, tokens.usage.output_tokens) == (counts.input_tokens, counts.visible_tokens)
    duration = openai_client.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json")
    assert duration.duration == counts.input_tokens / 10
    assert duration.usage is not None
    assert duration.usage.seconds == counts.input_tokens / 10
    text = openai_client.audio.transcriptions.create(model="whisper-1", file=file, response_format="text")
    assert str(text).startswith(ANSWER_MARKER)
    events = list(openai_client.audio.transcriptions.create(model="gpt-4o-transcribe", file=file, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == tokens.usage.total_tokens


def test_openai_other_endpoints(openai_client: openai.OpenAI) -> None:
    """Models, moderations, speech, images, files and batches are answered."""
    assert "gpt-4o" in [model.id for model in openai_client.models.list()]
    assert openai_client.models.retrieve("openai/gpt-oss-120b").id == "openai/gpt-oss-120b"
    assert openai_client.moderations.create(input="x").results[0].flagged is False
    assert openai_client.audio.speech.create(model="tts-1", voice="alloy", input="x").content.startswith(b"ID3")
    picture = openai_client.images.generate(model="gpt-image-2", prompt="x", n=2)
    assert picture.data is not None
    assert len(picture.data) == 2
    assert picture.usage is not None
    assert picture.usage.output_tokens == 544
    assert openai_client.files.create(file=("a.jsonl", b"{}"), purpose="batch").bytes == 2
    assert openai_client.files.list().data
    batch = openai_client.batches.create(
        input_file_id="file-1",
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    assert openai_client.batches.retrieve(batch.id).status == "completed"


def test_azure_chat(mock: MockProcess, azure_client: openai.AzureOpenAI) -> None:
    """A deployment in the path answers with the model behind it and Azure's filter results."""
    answer = azure_client.chat.completions.create(model="prod gpt-4o", messages=[{"role": "user", "content": PROMPT}])
    assert mock.requests()[-1]["path"].startswith(
        "/azure/openai/deployments/prod%20gpt-4o/chat/completions?api-version="
    )
    counts = expected(mock, "prod gpt-4o")
    assert answer.model == "gpt-4o-2024-08-06"
    assert answer.usage is not None
    assert answer.usage.total_tokens == counts.total_tokens
    assert "prompt_filter_results" in (answer.model_extra or {})


def test_azure_chat_stream(mock: MockProcess, azure_client: openai.AzureOpenAI) -> None:
    """The first chunk is empty in id, model and choices; the last has usage and latency_checkpoint."""
    chunks = list(
        azure_client.chat.completions.create(
            model="gpt-5-mini-eu",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        ),
    )
    counts = expected(mock, "gpt-5-mini-eu")
    assert (chunks[0].id, chunks[0].model, chunks[0].choices) == ("", "", [])
    assert chunks[1].model == "gpt-5-mini-2025-08-07"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == counts.output_tokens
    assert "latency_checkpoint" in (chunks[-1].model_extra or {})


def test_azure_other_surfaces(mock: MockProcess, azure_client: openai.AzureOpenAI) -> None:
    """Responses and models work without a deployment in the path; the v1 surface takes the plain OpenAI client."""
    assert azure_client.responses.create(model="any", input=PROMPT).usage is not None
    assert azure_client.models.list().data
    with openai.OpenAI(base_url=f"{mock.url}/azure/openai/v1", api_key="0123", max_retries=0) as client:
        assert client.chat.completions.create(model="any", messages=[]).model == "gpt-5-mini-2025-08-07"


def test_anthropic_messages(mock: MockProcess, anthropic_client: anthropic.Anthropic) -> None:
    """Input excludes the cache parts, which stand beside it with their split."""
    answer = anthropic_client.messages.create(
        model="claude-haiku-4-5",
        max_tokens=100,
        system=[{"type": "text", "text": PROMPT * 10, "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": PROMPT}],
    )
    counts = expected(mock, "claude-haiku-4-5")
    assert answer.model == "claude-haiku-4-5-20251001"
    assert answer.usage.input_tokens == counts.uncached_input_tokens
    assert answer.usage.cache_read_input_tokens == counts.cache_read_tokens > 0
    assert answer.usage.cache_creation is not None
    assert answer.usage.cache_creation.ephemeral_5m_input_tokens == counts.cache_write_tokens > 0
    assert answer.usage.output_tokens == counts.output_tokens


def test_anthropic_messages_stream(mock: MockProcess, anthropic_client: anthropic.Anthropic) -> None:
    """The accumulated stream has the final usage, thinking included, and not the provisional one."""
    with anthropic_client.messages.stream(
        model="claude-opus-5-5",
        max_tokens=2_000,
        thinking={"type": "enabled", "budget_tokens": 1_024},
        messages=[{"role": "user", "content": PROMPT}],
    ) as stream:
        final = stream.get_final_message()
    counts = expected(mock, "claude-opus-5-5")
    assert counts.reasoning_tokens > 0
    assert (final.usage.input_tokens, final.usage.output_tokens) == (counts.input_tokens, counts.output_tokens)
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.stop_reason == "end_turn"


def test_anthropic_count_tokens_and_models(mock: MockProcess, anthropic_client: anthropic.Anthropic) -> None:
    """count_tokens gives the formula's input; models are listed in Anthropic's own shape."""
    counted = anthropic_client.messages.count_tokens(model="claude-x", messages=[{"role": "user", "content": PROMPT}])
    assert counted.input_tokens == expected(mock, "claude-x").input_tokens
    assert anthropic_client.models.list().data[0].type == "model"


def test_anthropic_wrong_key(mock: MockProcess) -> None:
    """A refused key is Anthropic's own 401, and the SDK raises its own error for it."""
    with (
        anthropic.Anthropic(base_url=f"{mock.url}/anthropic", api_key=WRONG_KEY_MARK, max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as raised,
    ):
        client.messages.create(model="claude-x", max_tokens=1, messages=[])
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["error"]["type"] == "authentication_error"
    assert raised.value.request_id is not None


def test_anthropic_openai_layer(mock: MockProcess) -> None:
    """The OpenAI client works against chat/completions; the details are empty."""
    with openai.OpenAI(base_url=f"{mock.url}/anthropic/v1", api_key="sk-ant-test", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="claude-haiku-5-5", messages=[{"role": "user", "content": PROMPT}]
        )
    assert answer.usage is not None
    assert answer.usage.total_tokens == expected(mock, "claude-haiku-5-5").total_tokens
