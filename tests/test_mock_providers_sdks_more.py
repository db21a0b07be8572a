"""Promise of the mock providers, continued: Groq's and Google's SDKs."""

from collections.abc import Iterator

import groq
import openai
import pytest
from google import genai
from google.genai import types

from deploy.local.providers import ANSWER_MARKER
from deploy.local.providers.tokens import TokenCounts, count_tokens
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
def groq_client(mock: MockProcess) -> Iterator[groq.Groq]:
    with groq.Groq(base_url=f"{mock.url}/groq", api_key="gsk_test", max_retries=0) as client:
        yield client


@pytest.fixture
def genai_client(mock: MockProcess) -> Iterator[genai.Client]:
    client = genai.Client(api_key="AIzaTest", http_options=types.HttpOptions(base_url=f"{mock.url}/gemini"))
    yield client
    client.close()


def expected(mock: MockProcess, model: str) -> TokenCounts:
    """Compute what the last request must have used, from its body as received."""
    return count_tokens(mock.last_body(), model)


def test_groq_chat(mock: MockProcess, groq_client: groq.Groq) -> None:
    """Usage has OpenAI's names among float timings."""
    answer = groq_client.chat.completions.create(
        model="openai/gpt-oss-120b",
        messages=[{"role": "user", "content": PROMPT}],
    )
    counts = expected(mock, "openai/gpt-oss-120b")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (counts.input_tokens, counts.output_tokens)
    assert isinstance(answer.usage.total_time, float)


def test_groq_chat_stream(mock: MockProcess, groq_client: groq.Groq) -> None:
    """The finish chunk carries x_groq.usage without having been asked."""
    chunks = list(
        groq_client.chat.completions.create(
            model="llama-3.3-70b-versatile",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
        ),
    )
    counts = expected(mock, "llama-3.3-70b-versatile")
    last = chunks[-1]
    assert last.choices[0].finish_reason == "stop"
    assert last.x_groq is not None
    assert last.x_groq.usage is not None
    assert last.x_groq.usage.completion_tokens == counts.output_tokens


def test_groq_transcription_has_no_usage(groq_client: groq.Groq) -> None:
    """Groq transcribes without usage."""
    answer = groq_client.audio.transcriptions.create(model="whisper-large-v3", file=("a.wav", b"x" * 100))
    assert answer.text.startswith(ANSWER_MARKER)
    assert not hasattr(answer, "usage")


def test_gemini_generate(mock: MockProcess, genai_client: genai.Client) -> None:
    """Thoughts are counted beside the candidates and inside the total."""
    answer = genai_client.models.generate_content(model="gemini-3.8-flash", contents=PROMPT)
    counts = expected(mock, "gemini-3.8-flash")
    assert (answer.text or "").startswith(ANSWER_MARKER)
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count) == (counts.input_tokens, counts.visible_tokens)
    assert (usage.thoughts_token_count, usage.total_token_count) == (counts.reasoning_tokens, counts.total_tokens)


def test_gemini_generate_stream(mock: MockProcess, genai_client: genai.Client) -> None:
    """Every chunk has usage; the last one is the formula's."""
    chunks = list(genai_client.models.generate_content_stream(model="gemini-2.0-flash", contents=PROMPT))
    counts = expected(mock, "gemini-2.0-flash")
    assert len(chunks) == counts.visible_tokens
    assert all(chunk.usage_metadata for chunk in chunks)
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.total_token_count == counts.total_tokens


def test_gemini_other_verbs(mock: MockProcess, genai_client: genai.Client) -> None:
    """countTokens, embeddings and models are answered."""
    counted = genai_client.models.count_tokens(model="gemini-3.8-flash", contents=PROMPT)
    assert counted.total_tokens == expected(mock, "gemini-3.8-flash").input_tokens
    embedded = genai_client.models.embed_content(model="gemini-embedding-2", contents=["a", "b"])
    assert embedded.embeddings
    assert next(model.name for model in genai_client.models.list()) == "models/gemini-3.8-flash"


def test_gemini_openai_layer(mock: MockProcess) -> None:
    """Thinking stands in the total only; a stream has usage in every chunk and the last one counts."""
    with openai.OpenAI(base_url=f"{mock.url}/gemini/v1beta/openai", api_key="AIzaTest", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model="gemini-2.5-flash",
                messages=[{"role": "user", "content": PROMPT}],
                stream=True,
            ),
        )
        counts = expected(mock, "gemini-2.5-flash")
        assert client.embeddings.create(model="gemini-embedding-2", input="x").data
    assert all(chunk.usage for chunk in chunks)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == counts.visible_tokens
    assert usage.total_tokens - usage.prompt_tokens == counts.output_tokens > usage.completion_tokens
