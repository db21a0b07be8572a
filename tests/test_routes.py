"""Which URL a request target means at each provider, and that no target reaches another host."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers import DEFAULT_BASES, PROVIDERS
from gateway.routes import request_target
from shared.organisation import Azure

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GROQ = "https://api.groq.com/openai/v1"
GOOGLE = "https://generativelanguage.googleapis.com"
RESOURCE = "https://acme.openai.azure.com"
DATED = Azure(endpoint=RESOURCE, api_version="2024-10-21")
V1 = Azure(endpoint=f"{RESOURCE}/")
PREVIEW = Azure(endpoint=RESOURCE, api_version="preview")


@pytest.mark.parametrize(
    ("provider", "target", "url"),
    [
        ("openai", "/v1/chat/completions", f"{OPENAI}/chat/completions"),
        ("openai", "/v1/responses", f"{OPENAI}/responses"),
        ("openai", "/v1", OPENAI),
        ("openai", "/v1?x", f"{OPENAI}?x"),
        ("openai", "/v1/", f"{OPENAI}/"),
        ("openai", "/v1/models/ft:gpt-4o:acme::predict1", f"{OPENAI}/models/ft:gpt-4o:acme::predict1"),
        ("openai", "/v1/files?limit=2&after=a%2Fb&", f"{OPENAI}/files?limit=2&after=a%2Fb&"),
        ("openai", "/v1/models?", f"{OPENAI}/models?"),
        ("openai", "/v1/realtime?model=gpt-realtime", f"{OPENAI}/realtime?model=gpt-realtime"),
        ("openai", "/v1/v1/chat/completions", f"{OPENAI}/chat/completions"),
        ("openai", "/v1//x/./y/..%2e/z", f"{OPENAI}//x/./y/..%2e/z"),
        ("openai", "/openai/v1/chat/completions", f"{OPENAI}/chat/completions"),
        ("openai", "/openai/deployments/d/chat/completions?api-version=1", f"{OPENAI}/chat/completions?api-version=1"),
        ("openai", "/v1beta/models/m:generateContent", "https://api.openai.com/v1beta/models/m:generateContent"),
        ("anthropic", "/v1/chat/completions", f"{ANTHROPIC}/chat/completions"),
        ("anthropic", "/v1/messages", f"{ANTHROPIC}/messages"),
        ("anthropic", "/v1/messages?beta=true", f"{ANTHROPIC}/messages?beta=true"),
        ("anthropic", "/v1/messages/count_tokens", f"{ANTHROPIC}/messages/count_tokens"),
        ("anthropic", "/v1/messages/batches", f"{ANTHROPIC}/messages/batches"),
        ("anthropic", "/v1/v1/messages", f"{ANTHROPIC}/messages"),
        ("anthropic", "/v1/models", f"{ANTHROPIC}/models"),
        ("anthropic", "/v1/skills", f"{ANTHROPIC}/skills"),
        ("groq", "/v1/chat/completions", f"{GROQ}/chat/completions"),
        ("groq", "/openai/v1/chat/completions", f"{GROQ}/chat/completions"),
        ("groq", "/v1/openai/v1/chat/completions", f"{GROQ}/chat/completions"),
        ("groq", "/openai/v1/audio/transcriptions", f"{GROQ}/audio/transcriptions"),
        ("groq", "/v1/models/openai%2Fgpt-oss-120b", f"{GROQ}/models/openai%2Fgpt-oss-120b"),
        ("gemini", "/v1/chat/completions", f"{GOOGLE}/v1beta/openai/chat/completions"),
        ("gemini", "/v1/embeddings", f"{GOOGLE}/v1beta/openai/embeddings"),
        ("gemini", "/v1/models", f"{GOOGLE}/v1beta/openai/models"),
        ("gemini", "/v1beta/openai/chat/completions", f"{GOOGLE}/v1beta/openai/chat/completions"),
        ("gemini", "/v1/models/m:generateContent", f"{GOOGLE}/v1/models/m:generateContent"),
        ("gemini", "/v1/v1/models/m:generateContent", f"{GOOGLE}/v1/models/m:generateContent"),
        (
            "gemini",
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            f"{GOOGLE}/v1beta/models/m:streamGenerateContent?alt=sse",
        ),
        ("gemini", "/v1beta/models/m:countTokens", f"{GOOGLE}/v1beta/models/m:countTokens"),
        ("gemini", "/v1/models/m%3AembedContent", f"{GOOGLE}/v1/models/m%3AembedContent"),
        ("gemini", "/upload/v1/files", f"{GOOGLE}/upload/v1/files"),
    ],
)
def test_a_target_is_mapped_to_the_providers_url(provider: str, target: str, url: str) -> None:
    """The mapped prefix changes, every other byte of path and query stays."""
    assert request_target(provider, target, DEFAULT_BASES, None, model="m") == url


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/v1/models", f"{GOOGLE}/v1/models"),
        ("/v1/models?pageSize=5", f"{GOOGLE}/v1/models?pageSize=5"),
        ("/v1/files", f"{GOOGLE}/v1/files"),
        ("/v1/cachedContents", f"{GOOGLE}/v1/cachedContents"),
        ("/v1/chat/completions", f"{GOOGLE}/v1beta/openai/chat/completions"),
        ("/v1/embeddings", f"{GOOGLE}/v1beta/openai/embeddings"),
    ],
)
def test_googles_own_sdk_gets_googles_own_api(target: str, url: str) -> None:
    """google-genai lists models and files below /v1; its key tells them from the compatible side's."""
    assert request_target("gemini", target, DEFAULT_BASES, None, google_key=True) == url


@pytest.mark.parametrize(
    ("azure", "target", "model", "url"),
    [
        (DATED, "/v1/chat/completions", "d1", "/openai/deployments/d1/chat/completions?api-version=2024-10-21"),
        (DATED, "/v1/completions", "d1", "/openai/deployments/d1/completions?api-version=2024-10-21"),
        (DATED, "/v1/embeddings", "d1", "/openai/deployments/d1/embeddings?api-version=2024-10-21"),
        (DATED, "/v1/audio/transcriptions", "w", "/openai/deployments/w/audio/transcriptions?api-version=2024-10-21"),
        (DATED, "/v1/audio/translations", "w", "/openai/deployments/w/audio/translations?api-version=2024-10-21"),
        (DATED, "/v1/audio/speech", "t", "/openai/deployments/t/audio/speech?api-version=2024-10-21"),
        (DATED, "/v1/images/generations", "i", "/openai/deployments/i/images/generations?api-version=2024-10-21"),
        (DATED, "/v1/images/edits", "i", "/openai/deployments/i/images/edits?api-version=2024-10-21"),
        (DATED, "/v1/responses", "d1", "/openai/responses?api-version=2024-10-21"),
        (DATED, "/v1/models", "", "/openai/models?api-version=2024-10-21"),
        (DATED, "/v1/files?limit=2", "", "/openai/files?limit=2&api-version=2024-10-21"),
        (DATED, "/v1/files?", "", "/openai/files?api-version=2024-10-21"),
        (DATED, "/v1/chat/completions", "", "/openai/chat/completions?api-version=2024-10-21"),
        (
            DATED,
            "/v1/embeddings?api-version=2025-01-01-preview",
            "d1",
            "/openai/deployments/d1/embeddings?api-version=2025-01-01-preview",
        ),
        (DATED, "/v1/chat/completions?api-version=preview", "d1", "/openai/v1/chat/completions?api-version=preview"),
        (
            DATED,
            "/openai/deployments/d%2F1/chat/completions?api-version=2024-06-01",
            "x",
            "/openai/deployments/d%2F1/chat/completions?api-version=2024-06-01",
        ),
        (
            V1,
            "/openai/deployments/d1/embeddings?api-version=2024-06-01",
            "x",
            "/openai/deployments/d1/embeddings?api-version=2024-06-01",
        ),
        (V1, "/openai/responses?api-version=2024-06-01", "x", "/openai/responses?api-version=2024-06-01"),
        (V1, "/openai/models?api-version=2024-06-01", "", "/openai/models?api-version=2024-06-01"),
        (
            V1,
            "/v1/deployments/d1/chat/completions?api-version=2024-06-01",
            "x",
            "/openai/deployments/d1/chat/completions?api-version=2024-06-01",
        ),
        (
            DATED,
            "/v1/deployments/d1/chat/completions",
            "x",
            "/openai/deployments/d1/chat/completions?api-version=2024-10-21",
        ),
        (V1, "/v1/responses?api-version=2025-03-01", "d", "/openai/responses?api-version=2025-03-01"),
        (V1, "/v1/chat/completions", "d1", "/openai/v1/chat/completions"),
        (V1, "/v1/responses", "d1", "/openai/v1/responses"),
        (V1, "/openai/v1/chat/completions", "d1", "/openai/v1/chat/completions"),
        (DATED, "/openai/v1/chat/completions", "d1", "/openai/v1/chat/completions"),
        (PREVIEW, "/v1/responses", "d1", "/openai/v1/responses?api-version=preview"),
        (DATED, "/v1/messages", "claude-opus-5-5", "/anthropic/v1/messages"),
        (V1, "/v1/messages?beta=true", "claude-opus-5-5", "/anthropic/v1/messages?beta=true"),
    ],
)
def test_azure_has_three_surfaces(azure: Azure, target: str, model: str, url: str) -> None:
    """Dated versions use deployments, others the v1 surface, Claude its own; SDK-native paths stay as they are."""
    assert request_target("azure", target, DEFAULT_BASES, azure, model=model) == RESOURCE + url


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("a?b#c", "a%3Fb%23c"),
        ("@evil.example", "%40evil.example"),
        ("ü\ud83d", "%C3%BC%3F"),
    ],
)
def test_a_deployment_name_stays_one_segment(model: str, segment: str) -> None:
    """The body's model cannot add a path, a query or anything else to an Azure URL."""
    url = request_target("azure", "/v1/embeddings", DEFAULT_BASES, DATED, model=model)
    assert url == f"{RESOURCE}/openai/deployments/{segment}/embeddings?api-version=2024-10-21"


@pytest.mark.parametrize("model", [".", ".."])
def test_dots_are_no_deployment(model: str) -> None:
    """A model of dots would lead up the path, so Azure is asked without a deployment and refuses itself."""
    url = request_target("azure", "/v1/embeddings", DEFAULT_BASES, DATED, model=model)
    assert url == f"{RESOURCE}/openai/embeddings?api-version=2024-10-21"


def test_azure_needs_a_configuration() -> None:
    """Without an endpoint there is no URL; the caller is expected to have refused the request."""
    with pytest.raises(ValueError, match="no endpoint"):
        request_target("azure", "/v1/models", DEFAULT_BASES, None)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "",
        "*",
        "/chat/completions",
        "/v1x/chat/completions",
        "/v1@evil.example/",
        "/V1/chat/completions",
        "/%76%31/chat",
        "/v1%2Fchat",
        "/metrics",
        "/anthropic/v1/messages",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
        "//evil.example/v1/chat",
        "http://evil.example/v1/chat",
        "evil.example:443",
        "@evil.example/v1/chat",
        "\\\\evil.example/v1",
        "/openai",
        "/v1beta",
        "/v1/x#fragment",
        "/v1/x\r\nHost: evil.example",
        "/v1/x y",
        "/v1/x\x00",
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_other_targets_are_not_served(provider: str, target: str) -> None:
    """Neither below /v1 nor an SDK's own path, or nothing that a request line may hold: no URL."""
    assert request_target(provider, target, DEFAULT_BASES, DATED) is None


@pytest.mark.parametrize(
    ("base", "compatible", "native"),
    [
        ("http://127.0.0.1:9/v1beta/openai", "http://127.0.0.1:9/v1beta/openai", "http://127.0.0.1:9"),
        ("http://127.0.0.1:9/mock/v1beta/openai/", "http://127.0.0.1:9/mock/v1beta/openai", "http://127.0.0.1:9/mock"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1", "http://127.0.0.1:9"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_replaced_bases_serve_both_sides(base: str, compatible: str, native: str) -> None:
    """A base from the settings replaces the default up to its version prefix; native paths go beside it."""
    bases = {"gemini": base}
    assert request_target("gemini", "/v1/chat/completions", bases, None) == f"{compatible}/chat/completions"
    assert (
        request_target("gemini", "/v1beta/models/m:generateContent", bases, None)
        == f"{native}/v1beta/models/m:generateContent"
    )


def test_high_bytes_become_percent_encoded() -> None:
    """Bytes that no URL may hold reach the provider in the form that every client library can send."""
    assert request_target("openai", "/v1/x/ü\udcff?q=é", DEFAULT_BASES, None) == f"{OPENAI}/x/%C3%BC%FF?q=%C3%A9"


PREFIXES = ("/v1", "/v1/", "/openai/", "/v1beta/", "//", "/", "v1", "deployments/", "models/", "messages")
PIECES = (
    "@",
    "evil.example",
    ":",
    "?",
    "\\",
    "..",
    "%2F",
    "%00",
    "http://",
    ":generateContent",
    "&",
    "api-version=",
    "#",
)
TARGETS = st.lists(st.sampled_from(PREFIXES) | st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)


@given(st.sampled_from(PROVIDERS), TARGETS, st.sampled_from([DATED, V1]), st.text(max_size=5), st.booleans())
def test_no_target_reaches_another_host(provider: str, target: str, azure: Azure, model: str, google_key: bool) -> None:
    """However hostile the target, the URL is ASCII and its scheme and host are the configured ones."""
    bases = {**DEFAULT_BASES, "openai": "http://127.0.0.1:9"}
    url = request_target(provider, target, bases, azure, model=model, google_key=google_key)
    if url is None:
        return
    expected = urlsplit(azure.endpoint if provider == "azure" else bases[provider])
    parts = urlsplit(url)
    assert url.isascii()
    assert (parts.scheme, parts.netloc) == (expected.scheme, expected.netloc)
    assert parts.path == "" or parts.path.startswith("/")
    assert not parts.fragment
