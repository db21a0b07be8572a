"""Heads on their way through: what is forwarded, what is not, and what they tell about the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.headers import (
    RequestFields,
    check_head,
    clean_value,
    response_headers,
    retry_count_of,
    sdk_of,
    upstream_headers,
)

Head = list[tuple[bytes, bytes]]
ENTRA = b"eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJ4In0.c2ln"


def sent(*fields: tuple[bytes, bytes], provider: str = "openai", **options: bool) -> Head:
    """What is forwarded of these fields, Host left out."""
    return upstream_headers(RequestFields([(b"Host", b"gw"), *fields]), provider, "up.example", **options)[1:]


def test_order_case_and_duplicates_survive() -> None:
    """End-to-end fields reach the provider as they were written, only Host is rewritten in its place."""
    raw = [
        (b"accept", b"*/*"),
        (b"HOST", b"gateway:8080"),
        (b"X-Custom", b"1"),
        (b"Cookie", b"a=b"),
        (b"x-custom", b"2"),
        (b"Accept-Encoding", b"gzip, br"),
        (b"anthropic-version", b"2026-10-21"),
        (b"Empty", b""),
        (b"Bytes", b"\xff\xfe"),
        (b"Content-Length", b"12"),
    ]
    expected = [(name, b"up.example:8443" if name == b"HOST" else value) for name, value in raw]
    assert upstream_headers(RequestFields(raw), "openai", "up.example:8443") == expected


def test_a_missing_host_is_added() -> None:
    """HTTP/1.0 clients may leave Host out; providers need one."""
    fields = RequestFields([(b"A", b"1")])
    assert upstream_headers(fields, "openai", "up.example") == [(b"Host", b"up.example"), (b"A", b"1")]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Proxy-Connection",
        b"Keep-Alive",
        b"TE",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Trailer",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"Expect",
    ],
)
def test_hop_by_hop_fields_stay_on_their_hop(name: bytes) -> None:
    """No field that belongs to the client's connection reaches the provider, in any letter case."""
    assert sent((name, b"x"), (name.lower(), b"x"), (name.upper(), b"x"), (b"Kept", b"1")) == [(b"Kept", b"1")]


def test_fields_that_connection_names_stay_on_their_hop() -> None:
    """Connection is read first, wherever it stands, over several fields; it cannot unframe the request."""
    fields = [
        (b"X-Trace", b"1"),
        (b"Connection", b"close , x-trace"),
        (b"x-other", b"2"),
        (b"connection", b"X-OTHER,, host, content-length"),
        (b"Content-Length", b"3"),
    ]
    assert sent(*fields) == [(b"Content-Length", b"3")]


@pytest.mark.parametrize("name", [b"X-Lectr-Key", b"x-lectr-feature", b"X-LECTR-TASK", b"X-Lectr-", b"x-lectr-new"])
def test_no_lectr_field_reaches_a_provider(name: bytes) -> None:
    """The whole prefix is the gateway's own, known names or not."""
    assert sent((name, b"v"), (b"X-Lectrical", b"kept")) == [(b"X-Lectrical", b"kept")]


@pytest.mark.parametrize("provider", ["openai", "groq", "gemini"])
def test_bearer_keys_stay_where_the_provider_reads_them(provider: str) -> None:
    """OpenAI, Groq and Gemini take the Authorization field as it is."""
    fields = [(b"authorization", b"Bearer sk-1")]
    assert sent(*fields, provider=provider) == fields


@pytest.mark.parametrize(("provider", "field"), [("anthropic", b"x-api-key"), ("azure", b"api-key")])
@pytest.mark.parametrize("value", [b"Bearer sk-1", b"bearer   sk-1", b"BEARER sk-1 "])
def test_bearer_keys_move_to_the_providers_field(provider: str, field: bytes, value: bytes) -> None:
    """Anthropic and Azure get the key in their own field, at the same place, and no Authorization."""
    fields = ((b"A", b"1"), (b"Authorization", value), (b"B", b"2"))
    assert sent(*fields, provider=provider) == [(b"A", b"1"), (field, b"sk-1"), (b"B", b"2")]


@pytest.mark.parametrize(
    ("provider", "value"),
    [
        ("azure", b"Bearer " + ENTRA),  # Entra ID: refused as an api-key
        ("anthropic", b"Bearer " + ENTRA),  # workload identity federation
        ("anthropic", b"Bearer sk-ant-oat01-x"),  # OAuth, refused as an x-api-key
        ("anthropic", b"Basic dXNlcjpwYXNz"),
        ("azure", b"Basic dXNlcjpwYXNz"),
        ("anthropic", b"Bearer"),
        ("azure", b"Bearer a b"),
        ("azure", b""),
    ],
)
def test_what_is_no_bearer_key_stays(provider: str, value: bytes) -> None:
    """Access tokens are only valid as bearer tokens, and other schemes are the provider's to judge."""
    assert sent((b"Authorization", value), provider=provider) == [(b"Authorization", value)]


@pytest.mark.parametrize(
    ("provider", "native"),
    [
        ("anthropic", b"x-api-key"),
        ("anthropic", b"X-Api-Key"),
        ("azure", b"api-key"),
        ("azure", b"x-api-key"),
        ("gemini", b"x-goog-api-key"),
    ],
)
def test_native_authentication_is_forwarded_as_sent(provider: str, native: bytes) -> None:
    """A client that sends the provider's own field is not second-guessed, even if it sends Authorization too."""
    fields = [(b"Authorization", b"Bearer other"), (native, b"key")]
    assert sent(*fields, provider=provider) == fields


def test_claude_on_azure_reads_two_names() -> None:
    """The bearer key is sent under both names, as Anthropic's client for Azure does."""
    fields = sent((b"Authorization", b"Bearer k"), provider="azure", azure_claude=True)
    assert fields == [(b"api-key", b"k"), (b"x-api-key", b"k")]
    assert sent((b"Authorization", b"Bearer " + ENTRA), provider="azure", azure_claude=True) == [
        (b"Authorization", b"Bearer " + ENTRA)
    ]


def test_the_answer_keeps_all_but_the_hop() -> None:
    """Order, case, duplicates and odd fields of the provider's head reach the client."""
    kept = [
        (b"Date", b"x"),
        (b"set-cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"Vary", b"Origin"),
        (b"vary", b"Referer"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"5"),
        (b"Trailer", b"x-checksum"),
        (b"strict-transport-security", b"max-age=1"),
        (b"X-Lectr-Looking", b"provider's own"),
    ]
    hop = [
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"x-hop", b"1"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"close"),
    ]
    assert response_headers([*hop, *kept]) == kept


def test_the_answers_chunking_is_the_hops() -> None:
    """With Transfer-Encoding, a Content-Length means nothing and is left out too."""
    raw = [(b"transfer-encoding", b"chunked"), (b"content-length", b"5"), (b"a", b"1")]
    assert response_headers(raw) == [(b"a", b"1")]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ([(b"a", b"1\r\nb: 2")], "CR, LF or NUL"),
        ([(b"a", b"1\n")], "CR, LF or NUL"),
        ([(b"a", b"\x00")], "CR, LF or NUL"),
        ([(b"a\n", b"1")], "CR, LF or NUL"),
        ([(b"X-Lectr-Key", b"lc_key_1"), (b"x-lectr-key", b"lc_key_2")], "x-lectr-key"),
        ([(b"Authorization", b"Bearer 1"), (b"authorization", b"Bearer 2")], "authorization"),
        ([(b"Host", b"a"), (b"host", b"b")], "host"),
        ([(b"Content-Length", b"1"), (b"content-length", b"2")], "content-length"),
        ([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], "transfer-encoding"),
        ([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")], "transfer-encoding"),
    ],
)
def test_malformed_heads_are_refused(head: Head, reason: str) -> None:
    """Heads that two parsers could read differently are refused, and the reason quotes no value."""
    said = check_head(RequestFields(head))
    assert said is not None
    assert reason in said
    assert "lc_key" not in said
    assert "Bearer" not in said


@pytest.mark.parametrize(
    "head",
    [
        [],
        [(b"X-Lectr-Key", b"k"), (b"X-Lectr-Key", b"k")],
        [(b"X-Lectr-Feature", b"a"), (b"X-Lectr-Feature", b"b")],
        [(b"Cookie", b"a"), (b"Cookie", b"b"), (b"Content-Length", b"1"), (b"content-length", b"1")],
        [(b"a", b"\xff\x01\t")],
    ],
)
def test_odd_heads_are_served(head: Head) -> None:
    """Repeats that say the same, repeated tags and odd bytes are no reason to refuse."""
    assert check_head(RequestFields(head)) is None


@pytest.mark.parametrize(
    ("raw", "stored", "cut"),
    [
        ("onboarding", "onboarding", False),
        ("", "", False),
        ("a" * 1024, "a" * 1024, False),
        ("a" * 1025, "a" * 1024, True),
        ("ü" * 512, "ü" * 512, False),
        ("ü" * 513, "ü" * 512, True),
        ("a" + "ü" * 600, "a" + "ü" * 511, True),
        ("a" + "😀" * 256, "a" + "😀" * 255, True),
        ("x\udcff\ud83dy", "x\ufffd\ufffdy", False),
        ("\udcff" * 342, "\ufffd" * 341, True),
        ("\x1b[31m\r\n\x00", "\x1b[31m\r\n\x00", False),
    ],
)
def test_values_are_cut_on_a_character(raw: str, stored: str, cut: bool) -> None:
    """At most 1 KiB of valid UTF-8, no half characters, nothing else changed, and it says when it cut."""
    assert clean_value(raw) == (stored, cut)


@given(st.text(st.characters(exclude_categories=()), max_size=80), st.integers(0, 60))
def test_any_value_becomes_bounded_text(raw: str, limit_bytes: int) -> None:
    """Whatever text comes in, what goes out fits, encodes, and is all of it or a beginning of it."""
    stored, cut = clean_value(raw, limit_bytes)
    assert len(stored.encode()) <= limit_bytes
    assert clean_value(stored, limit_bytes) == (stored, False)
    whole = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in raw)
    assert whole.startswith(stored)
    assert cut == (stored != whole)


@pytest.mark.parametrize(
    ("headers", "sdk"),
    [
        ({"user-agent": "OpenAI/Python 3.54.0"}, "openai-python/3.54.0"),
        ({"user-agent": "AsyncOpenAI/Python 1.109.1"}, "openai-python/1.109.1"),
        ({"user-agent": "AzureOpenAI/Python 3.54.0"}, "openai-python/3.54.0"),
        ({"user-agent": "AsyncAzureOpenAI/Python 3.54.0"}, "openai-python/3.54.0"),
        ({"user-agent": "OpenAI/JS 6.49.0"}, "openai-js/6.49.0"),
        ({"user-agent": "Anthropic/Python 2.12.0"}, "anthropic-python/2.12.0"),
        ({"user-agent": "AsyncAnthropic/Python 0.125.0"}, "anthropic-python/0.125.0"),
        ({"user-agent": "Groq/Python 0.37.1"}, "groq-python/0.37.1"),
        ({"user-agent": "google-genai-sdk/3.4.0 gl-python/3.11.7"}, "google-genai-sdk/3.4.0"),
        ({"user-agent": "node", "x-goog-api-client": "google-genai-sdk/2.32.0 gl-node/v20"}, "google-genai-sdk/2.32.0"),
        ({"user-agent": "ai-sdk/openai/2.0.1 ai/5.0"}, "ai-sdk/openai/2.0.1"),
        ({"user-agent": "litellm/1.70.0"}, "litellm/1.70.0"),
        (
            {"user-agent": "acme/1", "x-stainless-lang": "js", "x-stainless-package-version": "6.0.1"},
            "stainless-js/6.0.1",
        ),
        ({"user-agent": "curl/7.88.1"}, ""),
        ({"user-agent": "OpenAI/Cobol 1.0"}, ""),
        ({"user-agent": "acme", "x-stainless-lang": "\x00", "x-stainless-package-version": "1"}, ""),
        ({"user-agent": "OpenAI/Python " + "9" * 500}, "openai-python/" + "9" * 32),
        ({}, ""),
    ],
)
def test_sdks_are_named_from_a_closed_set(headers: dict[str, str], sdk: str) -> None:
    """Known SDKs have a name and a short version, everything else has none."""
    assert sdk_of(headers) == sdk


@pytest.mark.parametrize(
    ("value", "count"), [("0", 0), ("2", 2), ("999", 999), ("1000", 0), ("-1", 0), ("²", 0), ("", 0), ("NOT_GIVEN", 0)]
)
def test_retry_counts_are_bounded(value: str, count: int) -> None:
    """Only a small whole number counts as the client's retry count."""
    assert retry_count_of({"x-stainless-retry-count": value}) == count
    assert retry_count_of({}) == 0


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=8))
def test_any_fields_can_be_forwarded(raw: Head) -> None:
    """Nothing a parser lets through raises, and what is kept is what was sent."""
    check_head(RequestFields(raw))
    forwarded = upstream_headers(RequestFields(raw), "openai", "h")
    assert all(field in raw or field[1] == b"h" for field in forwarded)
    assert [field for field in raw if field in forwarded] == [field for field in forwarded if field in raw]
    assert all(field in raw for field in response_headers(raw))
