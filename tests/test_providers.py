"""The catalogue of model names: every family and every ambiguity, one row each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers import DEFAULT_BASES, PROVIDERS, Catalogue, CatalogueFault, Family

CATALOGUE = Catalogue.load()

MODELS = {
    "openai": [
        "gpt-6-astra",
        "gpt-6.2-astra",
        "gpt-6.2-sol",
        "gpt-6.1-sol",
        "gpt-6.1-terra",
        "gpt-6-luna",
        "gpt-5.6-sol",
        "gpt-5.6-terra",
        "gpt-5.6-luna",
        "gpt-5.5",
        "gpt-5.4",
        "gpt-5.4-mini",
        "gpt-5-2025-08-07",
        "gpt-4o",
        "gpt-4o-mini-2024-07-18",
        "gpt-4.1-nano",
        "gpt-3.5-turbo",
        "gpt-35-turbo",
        "gpt-realtime-2",
        "gpt-live-1",
        "gpt-transcribe",
        "gpt-4o-mini-tts",
        "gpt-image-1",
        "gpt-image-2.6-sunburst",
        "o1",
        "o1-mini",
        "o3",
        "o3-mini-2025-01-31",
        "o4",
        "o4-mini",
        "chatgpt-4o-latest",
        "codex-mini-latest",
        "computer-use-preview",
        "text-embedding-3-small",
        "text-embedding-3-large",
        "text-embedding-ada-002",
        "omni-moderation-latest",
        "text-moderation-stable",
        "dall-e-3",
        "sora-2",
        "whisper-1",
        "tts-1",
        "tts-1-hd",
        "babbage-002",
        "davinci-002",
        "ft:gpt-4o-mini-2024-07-18:acme::9aBcDeFg",
        "ft:gpt-4o:acme:claude-helper:9aBcDeFg",
        "openai/gpt-4o",
    ],
    "anthropic": [
        "claude-fable-5-2",
        "claude-mythos-5-2",
        "claude-opus-5-5",
        "claude-sonnet-5-5",
        "claude-haiku-5-5",
        "claude-opus-4-8",
        "claude-haiku-4-5-20251001",
        "claude-instant-1.2",
        "claude-sonnet-4-5@20250929",
        "anthropic.claude-3-haiku-20240307-v1:0",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic/claude-sonnet-4.5",
    ],
    "groq": [
        "llama-3.3-70b-versatile",
        "llama3-8b-8192",
        "llama-guard-3-8b",
        "meta-llama/llama-4-scout-17b-16e-instruct",
        "mixtral-8x7b-32768",
        "gemma2-9b-it",
        "gemma-7b-it",
        "qwen/qwen3-32b",
        "qwen/qwen3.8-27b",
        "qwen-qwq-32b",
        "moonshotai/kimi-k2-instruct-0905",
        "kimi-k2",
        "deepseek-r1-distill-llama-70b",
        "openai/gpt-oss-120b",
        "openai/gpt-oss-20b",
        "gpt-oss-120b",
        "whisper-large-v3",
        "whisper-large-v3-turbo",
        "distil-whisper-large-v3-en",
        "groq/compound",
        "groq/compound-mini",
        "compound-beta",
        "playai-tts",
        "canopylabs/orpheus-v1-english",
        "allam-2-7b",
        "mistral-saba-24b",
    ],
    "gemini": [
        "gemini-3.8-flash",
        "gemini-3.5-flash-lite",
        "gemini-4-argon",
        "gemini-flash-latest",
        "gemini-embedding-2",
        "models/gemini-2.5-pro",
        "models/text-embedding-004",
        "gemma-3-27b-it",
        "gemma-3n-e4b-it",
        "imagen-4.0-generate-001",
        "veo-3.0-generate-001",
        "text-embedding-004",
        "text-embedding-005",
        "tunedModels/my-model-1",
    ],
}


@pytest.mark.parametrize(("provider", "model"), [(p, m) for p, models in MODELS.items() for m in models])
def test_every_family_is_recognised(provider: str, model: str) -> None:
    """Each pattern and current example of a provider's families leads to that provider, in any letter case."""
    assert CATALOGUE.provider_of_model(model) == provider
    assert CATALOGUE.provider_of_model(f" {model.upper()} ") == provider


@pytest.mark.parametrize(
    "model", ["", " ", "my-deployment", "o5", "o11-x", "whisper-2", "text-embedding-9", "gp", "ft"]
)
def test_other_names_are_unknown(model: str) -> None:
    """A name that no family covers, like an Azure deployment's, is unknown rather than guessed."""
    assert CATALOGUE.provider_of_model(model) is None


@given(st.text(max_size=300))
def test_any_text_may_be_asked(model: str) -> None:
    """No text raises, Azure is never guessed, and what is remembered of the names has a bound."""
    assert CATALOGUE.provider_of_model(model) in {*DEFAULT_BASES, None}
    known = CATALOGUE._provider_of_name.cache_info()
    assert known.maxsize is not None
    assert known.currsize <= known.maxsize


@pytest.mark.parametrize(
    ("families", "said"),
    [
        ({"mistral": Family()}, "no such provider"),
        ({"openai": Family(prefixes=("a",)), "groq": Family(prefixes=("a",))}, "already belongs to openai"),
        ({"openai": Family(exact=("GPT",))}, "lower case"),
        ({"openai": Family(contains=("",))}, "empty"),
    ],
)
def test_a_contradictory_file_is_refused(families: dict[str, Family], said: str) -> None:
    """A model file that claims a name twice, or one that could never match, does not start a gateway."""
    with pytest.raises(CatalogueFault, match=said):
        Catalogue(families)


def test_every_provider_but_azure_has_a_default_base() -> None:
    """Azure lives where each organisation says; the other four have a public address."""
    assert {*DEFAULT_BASES, "azure"} == set(PROVIDERS)
    assert all(base.startswith("https://") and not base.endswith("/") for base in DEFAULT_BASES.values())
