"""How a request's provider is found: the order of evidence, and what each client's own way of calling leads to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.detection import Detection, detect, has_google_key
from gateway.providers import PROVIDERS, Catalogue

CATALOGUE = Catalogue.load()


def found(
    target: str = "/v1/chat/completions",
    *,
    header: str | None = None,
    headers: dict[str, str] | None = None,
    model: str = "",
) -> Detection:
    path, _, query = target.partition("?")
    return detect(CATALOGUE, provider_header=header, path=path, query=query, headers=headers or {}, model=model)


@pytest.mark.parametrize("value", [*PROVIDERS, "Azure", "  GROQ\t"])
def test_the_header_beats_everything(value: str) -> None:
    """A valid X-Lectr-Provider decides, whatever path, authentication and model say."""
    detection = found("/v1/messages", header=value, headers={"x-goog-api-key": "k"}, model="gpt-4o")
    assert detection == Detection(value.strip().lower(), "header")


@pytest.mark.parametrize("value", ["mistral", "open ai", "gpt-4o", "azure,openai", "\x00", "\uff4fpenai"])
def test_an_invalid_header_means_openai_and_is_noted(value: str) -> None:
    """Any other value is treated as openai, even where the path says otherwise, and leaves a mark."""
    assert found("/v1/messages", header=value) == Detection("openai", "header", ("provider_header_invalid",))


@pytest.mark.parametrize("value", [None, "", "  \t"])
def test_an_empty_header_is_a_missing_one(value: str | None) -> None:
    """An empty X-Lectr-Provider leaves detection to the rest of the request."""
    assert found("/v1/messages", header=value) == Detection("anthropic", "path")


@pytest.mark.parametrize(
    ("target", "provider"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages?beta=true", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/v1/messages", "anthropic"),
        ("/openai/v1/chat/completions", "groq"),
        ("/openai/v1/audio/transcriptions", "groq"),
        ("/v1/openai/v1/chat/completions", "groq"),
        ("/v1/models/gemini-3-flash:generateContent", "gemini"),
        ("/v1/models/gemini-3-flash:streamGenerateContent?alt=sse", "gemini"),
        ("/v1/v1/models/gemini-3-flash:generateContent", "gemini"),
        ("/v1beta/models/gemini-3-flash:generateContent", "gemini"),
        ("/v1beta/models", "gemini"),
        ("/v1beta/openai/chat/completions", "gemini"),
        ("/upload/v1/files", "gemini"),
        ("/v1/models/gemini-embedding-2:batchEmbedContents", "gemini"),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "azure"),
        ("/openai/responses?api-version=2024-10-21", "azure"),
        ("/openai/models?api-version=2024-10-21", "azure"),
        ("/v1/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "azure"),
        ("/v1/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "azure"),
        ("/v1/responses?api-version=2024-10-21", "azure"),
    ],
)
def test_a_native_path_tells_the_provider(target: str, provider: str) -> None:
    """A path that only one provider's SDK uses decides before authentication and model do."""
    assert found(target, headers={"authorization": "Bearer k"}, model="o3") == Detection(provider, "path")
    if "/openai/v1/" not in target:
        assert found(target, headers={"api-key": "k"}, model="o3") == Detection(provider, "path")


@pytest.mark.parametrize(
    ("headers", "provider"),
    [
        ({"anthropic-version": "2026-10-21", "authorization": "Bearer k"}, "anthropic"),
        ({"anthropic-version": "2023-06-01", "x-api-key": "k"}, "anthropic"),
        ({"x-api-key": "k"}, "anthropic"),
        ({"x-goog-api-key": "k"}, "gemini"),
        ({"api-key": "k"}, "azure"),
        ({"api-key": "k", "x-api-key": "k", "anthropic-version": "2026-10-21"}, "anthropic"),
    ],
)
@pytest.mark.parametrize("target", ["/v1/models", "/v1/files", "/v1/chat/completions"])
def test_native_authentication_tells_the_provider(target: str, headers: dict[str, str], provider: str) -> None:
    """Where several providers share a path, the client's own auth header decides before the model does."""
    assert found(target, headers=headers, model="o3") == Detection(provider, "auth_header")


def test_google_keys_in_the_query_count_as_authentication() -> None:
    """`?key=` is Google's; an empty one, or a parameter that only ends so, is not."""
    assert found("/v1/models?key=AIza") == Detection("gemini", "auth_header")
    assert found("/v1/models?x=1&key=AIza") == Detection("gemini", "auth_header")
    assert found("/v1/models?key=&monkey=1").provider_source == "default"
    assert has_google_key({}, "key=AIza")
    assert not has_google_key({"authorization": "Bearer k"}, "")


def test_azure_keys_on_the_v1_surface_are_not_groqs() -> None:
    """An OpenAI client moved from Azure's v1 surface keeps its path, which Groq's SDK has too, and its `api-key`."""
    assert found("/openai/v1/chat/completions", headers={"api-key": "k"}) == Detection("azure", "auth_header")


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("claude-sonnet-5-5", "anthropic"),
        ("llama-3.3-70b-versatile", "groq"),
        ("openai/gpt-oss-120b", "groq"),
        ("models/gemini-2.5-pro", "gemini"),
        ("ft:gpt-4o:acme::predict", "openai"),
    ],
)
def test_the_model_tells_the_provider(model: str, provider: str) -> None:
    """Without native evidence the catalogue decides."""
    assert found(headers={"authorization": "Bearer k"}, model=model) == Detection(provider, "model")


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/models", "/nowhere"])
@pytest.mark.parametrize("model", ["", "my-deployment"])
def test_anything_else_is_openai_and_noted(target: str, model: str) -> None:
    """The default is openai, and the event says that it was one."""
    assert found(target, model=model) == Detection("openai", "default", ("provider_unknown",))


def test_fine_tuned_models_are_not_googles_verbs() -> None:
    """`/v1/models/ft:…` has colons without being a call of Google's."""
    target = "/v1/models/ft:gpt-4o-mini:acme::9aBcDeFg"
    assert found(target, model="ft:gpt-4o-mini:acme::9aBcDeFg") == Detection("openai", "model")


@given(
    st.text() | st.sampled_from(["/v1/", "/openai/", "/v1beta/"]).flatmap(lambda p: st.text().map(lambda t: p + t)),
    st.text(),
    st.none() | st.text(),
    st.text(),
)
def test_any_head_gets_a_provider(path: str, query: str, header: str | None, model: str) -> None:
    """Whatever a client sends, exactly one known provider comes out."""
    detection = detect(CATALOGUE, provider_header=header, path=path, query=query, headers={}, model=model)
    assert detection.provider in PROVIDERS
