"""What a request says about itself: model and signals from any body or target, and never an exception."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.request_body import (
    RequestFacts,
    _any_facts,
    body_kind,
    json_facts,
    model_in_path,
    path_streams,
)

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 999}}


def facts(**fields: Any) -> RequestFacts:
    return json_facts(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # OpenAI chat: text, parts, images that are no text, tool calls and their results.
        (
            {
                "messages": [
                    {"role": "system", "content": "four"},
                    {"role": "user", "content": [{"type": "text", "text": "three"}, IMAGE]},
                    {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "äöü"},
                ],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_completion_tokens": 50,
                "tools": [TOOL],
                "response_format": {"type": "json_schema", "json_schema": {}},
                "model": "gpt-4o",
            },
            RequestFacts(
                readable=True,
                model="gpt-4o",
                stream=True,
                include_usage=True,
                message_count=4,
                content_bytes=4 + 5 + 2 + 6,
                max_tokens=50,
                tools_present=True,
                structured_output=True,
            ),
        ),
        # LangChain's explicit nulls.
        (
            {"model": "m", "messages": [], "stop": None, "tools": None, "max_tokens": None, "response_format": None},
            RequestFacts(readable=True, model="m"),
        ),
        (
            {"model": "davinci-002", "prompt": ["ab", "c"], "max_tokens": 7},
            RequestFacts(readable=True, model="davinci-002", content_bytes=3, max_tokens=7),
        ),
        # Speech has two ways to stream, of which one is a stream of events.
        (
            {"model": "gpt-4o-mini-tts", "input": "hello", "voice": "alloy", "stream_format": "sse"},
            RequestFacts(readable=True, model="gpt-4o-mini-tts", stream=True, message_count=1, content_bytes=5),
        ),
        (
            {"model": "gpt-4o-mini-tts", "input": "hello", "voice": "alloy", "stream_format": "audio"},
            RequestFacts(readable=True, model="gpt-4o-mini-tts", message_count=1, content_bytes=5),
        ),
        # Responses, with a string and with items.
        (
            {"model": "gpt-5.4", "input": "hello", "instructions": "be brief", "text": {"format": {"type": "text"}}},
            RequestFacts(readable=True, model="gpt-5.4", message_count=1, content_bytes=13),
        ),
        (
            {
                "model": "gpt-5.4",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                    {"type": "function_call", "call_id": "c", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "42"},
                ],
                "text": {"format": {"type": "json_schema"}},
                "max_output_tokens": 9,
            },
            RequestFacts(
                readable=True,
                model="gpt-5.4",
                message_count=3,
                content_bytes=6,
                max_tokens=9,
                structured_output=True,
            ),
        ),
        ({"prompt": {"id": "pmpt_1"}}, RequestFacts(readable=True)),
        # Anthropic.
        (
            {
                "max_tokens": 3,
                "system": [{"type": "text", "text": "sys"}],
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x" * 99}]},
                    {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "r"}]}]},
                ],
                "output_config": {"format": {"type": "json_schema"}},
                "model": "claude-opus-5-5",
            },
            RequestFacts(
                readable=True,
                model="claude-opus-5-5",
                message_count=3,
                content_bytes=3 + 2 + 2 + 1,
                max_tokens=3,
                structured_output=True,
            ),
        ),
        # Google.
        (
            {
                "contents": [{"role": "user", "parts": [{"text": "hey"}, {"inlineData": {"data": "A" * 99}}]}],
                "systemInstruction": {"parts": [{"text": "s"}]},
                "generationConfig": {"maxOutputTokens": 5, "responseMimeType": "application/json"},
                "tools": [{"functionDeclarations": []}],
            },
            RequestFacts(
                readable=True,
                message_count=1,
                content_bytes=4,
                max_tokens=5,
                tools_present=True,
                structured_output=True,
            ),
        ),
        ({"requests": [{"content": {"parts": [{"text": "ab"}]}}]}, RequestFacts(readable=True, content_bytes=2)),
        # Embeddings, moderations, speech, images.
        (
            {"model": "text-embedding-3-small", "input": ["ab", "cd"], "encoding_format": "base64"},
            RequestFacts(readable=True, model="text-embedding-3-small", content_bytes=4),
        ),
        ({"model": "e", "input": [[1, 2], [3]]}, RequestFacts(readable=True, model="e")),
        ({"input": "x"}, RequestFacts(readable=True, message_count=1, content_bytes=1)),
        (
            {"model": "tts-1", "input": "say", "voice": "v", "response_format": "mp3"},
            RequestFacts(readable=True, model="tts-1", message_count=1, content_bytes=3),
        ),
    ],
)
def test_every_dialect_is_read(body: dict[str, Any], expected: RequestFacts) -> None:
    """Each provider's request shape gives the same kind of facts, escaped or not, strictly parsed or leniently."""
    assert json_facts(json.dumps(body).encode()) == expected
    assert json_facts(json.dumps(body, ensure_ascii=False, indent=2).encode()) == expected
    assert json_facts(json.dumps({"seed": float("nan"), **body}).encode()) == expected


@pytest.mark.parametrize(
    ("odd", "field"),
    [
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"model": ["gpt-4o"]}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": [True]}, "include_usage"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"tools": "all"}, "tools_present"),
        ({"tools": {}}, "tools_present"),
        ({"response_format": 7}, "structured_output"),
        ({"messages": {"a": 1}}, "message_count"),
    ],
)
def test_odd_fields_cost_only_themselves(odd: dict[str, Any], field: str) -> None:
    """A field of the wrong type is as good as absent, and the others are still read."""
    whole = {
        "model": "gpt-4o",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"content": "abc"}],
        "max_tokens": 4,
        "tools": [TOOL],
        "response_format": {"type": "json_object"},
    }
    expected, got = facts(**whole), facts(**whole | odd)
    empty = getattr(RequestFacts(), field)
    assert getattr(expected, field) != empty
    assert getattr(got, field) == empty
    others = {name for name in RequestFacts.__struct_fields__ if name not in {field, "content_bytes"}}
    assert {name: getattr(got, name) for name in others} == {name: getattr(expected, name) for name in others}


def test_messages_as_text_are_one_message() -> None:
    """A string where a list belongs is counted as what it is."""
    assert facts(messages="x") == RequestFacts(readable=True, message_count=1, content_bytes=1)


@pytest.mark.parametrize("body", [b"", b" ", b"5", b"[]", b'"{}"', b"{", b'{"a"', b"\x1f\x8b\x08", b"\xef\xbb\xbf{}"])
def test_other_bodies_are_unreadable(body: bytes) -> None:
    """Anything but a JSON object, compressed bodies included, gives no facts."""
    assert json_facts(body) == RequestFacts()


@pytest.mark.parametrize(
    ("body", "model", "content_bytes"),
    [
        (b'{"model":"a","messages":[{"content":"x\\ud83d"}]}', "a", 4),
        (b'{"model":"\\ud83dx"}', "\ufffdx", 0),
        (b'{"model":"a","temperature":NaN,"top_p":-Infinity}', "a", 0),
        (b'{"model":"a","prompt":"\xff"}', "a", 3),
        (b'{"model":1,"model":"b"}', "b", 0),
        (b'{"seed":' + b"9" * 9_000 + b',"model":"a"}', "a", 0),
        (b'{"max_tokens":' + b"9" * 9_000 + b',"model":"a"}', "a", 0),
        (b' \r\n\t{"model":"a"}\n', "a", 0),
        (b" " * 5_000 + b'{"model":"a"}', "a", 0),
    ],
)
def test_what_clients_really_send_is_read(body: bytes, model: str, content_bytes: int) -> None:
    """Half surrogate pairs, NaN, broken UTF-8, duplicates and endless numbers do not hide the model."""
    got = json_facts(body)
    assert (got.readable, got.model, got.content_bytes) == (True, model, content_bytes)
    got.model.encode()


def test_a_long_model_name_is_cut_and_marked() -> None:
    """A model name is stored with at most 1 KiB, and the event says that it was cut."""
    assert facts(model="m" * 1024).marks == ()
    got = facts(model="m" * 1025)
    assert (len(got.model), got.marks) == (1024, ("model_truncated",))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"messages":', b'[{"content":'])
@pytest.mark.parametrize("prefix", [b'{"messages":', b'{"x":', b'{"tools":', b'{"temperature":NaN,"messages":'])
def test_nesting_bombs_do_no_harm(prefix: bytes, opening: bytes) -> None:
    """Nesting beyond any parser's depth is unreadable, not a crash."""
    closing = {91: b"]", 123: b"}"}
    closed = (
        prefix + opening * 200_000 + b"1" + b"".join(closing[c] for c in reversed(opening) if c in closing) * 200_000
    )
    assert json_facts(prefix + opening * 200_000) == RequestFacts()
    assert json_facts(closed + b"}") == RequestFacts()


@pytest.mark.parametrize("item", [b'"",', b"[],", b"{},", b"1,", b'{"content":"x"},'])
def test_only_so_many_values_are_looked_at(item: bytes) -> None:
    """Of two MiB of tiny values no more than 20,000 are counted: the rest would hold up every other request."""
    body = b'{"model":"a","messages":[' + item * (2_097_152 // len(item)) + b"0]}"
    got = json_facts(body)
    assert got.model == "a"
    assert got.message_count <= 20_000
    assert got.content_bytes <= 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["content", "text", "parts", "type", "format", "function", "x"]), inner)
    ),
    max_leaves=12,
)
FIELDS = (
    ["model", "stream", "stream_options", "messages", "input", "contents", "system", "prompt", "tools"],
    ["functions", "text", "max_tokens", "generationConfig", "response_format", "output_config", "requests"],
)
BODIES = st.dictionaries(st.sampled_from(FIELDS[0]) | st.sampled_from(FIELDS[1]), JSON)


@given(BODIES)
def test_any_json_object_is_readable(body: dict[str, Any]) -> None:
    """Whatever stands in the fields, facts come out: storable text and counts within bounds."""
    got = json_facts(json.dumps(body).encode())
    assert got.readable
    got.model.encode()
    assert 0 <= got.max_tokens < 2**31
    assert got.message_count >= 0


CHATS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "model": st.text(max_size=3),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=5)}, optional={"name": JSON})
            | JSON,
            max_size=4,
        ),
    },
    optional={
        **{name: JSON for name in (*FIELDS[0], *FIELDS[1]) if name not in {"model", "messages"}},
        "stream": st.booleans(),
        "stream_options": st.just({"include_usage": True}),
        "max_tokens": st.integers(-3, 2**40),
        "max_completion_tokens": st.integers(),
        "tools": st.lists(st.just({}), max_size=2),
        "response_format": st.sampled_from([None, {"type": "text"}, {"type": "json_object"}, "mp3"]),
        "temperature": JSON,
    },
)


@settings(max_examples=500)
@given(CHATS)
def test_the_short_way_and_the_long_one_agree(body: dict[str, Any]) -> None:
    """A usual chat request is read into typed fields; what comes out is what the general reader finds."""
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert json_facts(data) == _any_facts(data)


@given(st.binary() | st.binary().map(lambda tail: b"{" + tail))
def test_any_bytes_may_be_a_body(body: bytes) -> None:
    """No bytes raise."""
    json_facts(body)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "json"),
        ("", "json"),
        ("text/plain; charset=utf-8", "json"),
        ("application/x-www-form-urlencoded", "json"),
        ("Multipart/Form-Data; boundary=x", "multipart"),
        ("application/octet-stream", "opaque"),
        ("audio/mpeg", "opaque"),
        ("multipart/mixed; boundary=x", "opaque"),
    ],
)
def test_the_kind_of_body_is_told_by_its_type(content_type: str, kind: str) -> None:
    """Forms are searched, binary bodies are not held, anything else may be JSON."""
    assert body_kind(content_type) == kind


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/openai%2Fgpt-oss-120b", "openai/gpt-oss-120b"),
        ("/v1/models/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("/v1/models/ft:gpt-4o:acme::9aBc", "ft:gpt-4o:acme::9aBc"),
        ("/v1/models/gemini-3-flash:generateContent", "gemini-3-flash"),
        ("/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse", "gemini-3-flash"),
        ("/v1beta/models/gemini-embedding-2%3AbatchEmbedContents", "gemini-embedding-2"),
        ("/v1beta/models/veo-3.0/operations/abc", "veo-3.0"),
        ("/v1beta/tunedModels/mine:generateContent", "tunedModels/mine"),
        ("/openai/deployments/my%20gpt/chat/completions?api-version=1", "my gpt"),
        ("/v1/deployments/d%2F1/embeddings", "d/1"),
        ("/v1/realtime?model=gpt-realtime", "gpt-realtime"),
        ("/v1/realtime?x=1&model=a%2Fb", "a/b"),
        ("/v1/models", ""),
        ("/v1/models/", ""),
        ("/v1/models?x=/models/y", ""),
        ("/v1/chat/completions", ""),
        ("/v1/models/%FF", "\ufffd"),
        ("/v1/models/" + "m" * 3_000, "m" * 1_024),
    ],
)
def test_the_model_is_found_in_a_target(target: str, model: str) -> None:
    """Google, Azure, realtime and the model endpoints name the model outside the body; it is stored decoded."""
    assert model_in_path(target) == model


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=20).filter(lambda name: "?" not in name))
def test_any_target_may_be_read(name: str) -> None:
    """No target raises, and what comes out can be stored."""
    model_in_path(f"/v1/models/{name}").encode()
    quoted = quote(name, safe="", errors="replace")
    model_in_path(f"/openai/deployments/{quoted}/chat").encode()


def test_google_says_in_the_path_that_it_streams() -> None:
    """`:streamGenerateContent` is a stream, with or without SSE; a query cannot pretend to be one."""
    assert path_streams("/v1beta/models/m:streamGenerateContent?alt=sse")
    assert path_streams("/v1/models/m%3AstreamGenerateContent")
    assert not path_streams("/v1/models/m:generateContent")
    assert not path_streams("/v1/models?x=:streamGenerateContent")
