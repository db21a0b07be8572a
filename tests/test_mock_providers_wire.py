"""Promises about the mock's literal wire: streams with their traps, refusals, paths, headers, framing."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.providers import PROVIDERS, WRONG_KEY_MARK
from deploy.local.providers.routing import Route, find_route
from tests.mock_process import MockProcess, mock_process

USER = [{"role": "user", "content": "hello"}]
NATIVE = {"contents": [{"parts": [{"text": "hello"}]}]}
BEARER = {"Authorization": "Bearer test"}
VERSION = {"anthropic-version": "2023-06-01"}
GOOGLE = {"x-goog-api-key": "AIza"}
USAGE = {"include_usage": True}


@pytest.fixture(scope="module")
def running() -> Iterator[MockProcess]:
    with mock_process() as process:
        yield process


@pytest.fixture
def mock(running: MockProcess) -> MockProcess:
    running.reset()
    return running


def send(
    mock: MockProcess,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(*mock.address, timeout=10)
    try:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def chat_events(mock: MockProcess, path: str, **fields: Any) -> list[Any]:
    """Return the JSON of each data line of a chat stream, after checking that [DONE] ends it."""
    body = {"model": "gpt-4o", "messages": USER, "stream": True, **fields}
    _, _, stream = send(mock, "POST", path, body, BEARER)
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n") if line]
    assert lines.pop() == b"[DONE]"
    return [json.loads(line) for line in lines]


def test_openai_stream_has_null_usage_and_padding(mock: MockProcess) -> None:
    """With include_usage every earlier chunk says usage null; without it the word usage does not occur."""
    events = chat_events(mock, "/openai/v1/chat/completions", stream_options=USAGE)
    assert all(event["usage"] is None and "obfuscation" in event for event in events[:-1])
    assert (events[-1]["choices"], events[-1]["obfuscation"]) == ([], "")
    assert not any("usage" in event for event in chat_events(mock, "/openai/v1/chat/completions"))


def test_groq_stream_has_three_copies_of_usage(mock: MockProcess) -> None:
    """Finish chunk twice, and a third copy in an empty-choices chunk with include_usage; always the same numbers."""
    path = "/groq/openai/v1/chat/completions"
    asked, unasked = chat_events(mock, path, stream_options=USAGE), chat_events(mock, path)
    copies = [asked[-2]["x_groq"]["usage"], asked[-2]["usage"], asked[-1]["usage"]]
    assert copies[0] == copies[1] == copies[2]
    assert isinstance(copies[0]["queue_time"], float)
    assert asked[-1]["choices"] == []
    assert unasked[-1]["x_groq"]["usage"] == unasked[-1]["usage"] == copies[0]


def test_gemini_layer_stream_has_running_totals(mock: MockProcess) -> None:
    """Every chunk has usage, prompt_tokens changes once, and there is no id."""
    events = chat_events(mock, "/gemini/v1beta/openai/chat/completions", model="gemini-2.5-flash")
    prompts = [event["usage"]["prompt_tokens"] for event in events]
    assert set(prompts[:-1]) == {prompts[-1] + 1}
    assert [event["usage"]["completion_tokens"] for event in events[:-1]] == list(range(len(events) - 1))
    last = events[-1]["usage"]
    assert last["total_tokens"] > last["prompt_tokens"] + last["completion_tokens"]
    assert not any("id" in event for event in events)


def test_azure_stream_starts_empty(mock: MockProcess) -> None:
    """The first chunk has neither id, model, object nor choices, with or without include_usage."""
    for fields in ({}, {"stream_options": USAGE}):
        first, second = chat_events(mock, "/azure/openai/v1/chat/completions", **fields)[:2]
        assert (first["id"], first["model"], first["object"], first["choices"]) == ("", "", "", [])
        assert "prompt_filter_results" in first
        assert second["model"] == "gpt-4o-2024-08-06"


def test_anthropic_stream_is_padded_and_cumulative(mock: MockProcess) -> None:
    """JSON has spaces before its last brace, a ping comes early, message_delta has the final usage, unsplit."""
    body = {"model": "claude-haiku-4-5", "messages": USER, "max_tokens": 50, "stream": True}
    _, headers, stream = send(mock, "POST", "/anthropic/v1/messages", body, {"x-api-key": "sk-ant", **VERSION})
    assert ("Content-Type", "text/event-stream; charset=utf-8") in headers
    assert b"             }\n\n" in stream
    assert b'event: ping\ndata: {"type": "ping"}\n\n' in stream
    events = [json.loads(event.partition(b"\ndata: ")[2]) for event in stream.split(b"\n\n") if event]
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert "cache_creation" in events[0]["message"]["usage"]
    delta = next(event for event in events if event["type"] == "message_delta")
    assert delta["usage"]["output_tokens"] > 1
    assert "cache_creation" not in delta["usage"]
    assert events[-1] == {"type": "message_stop"}


def test_gemini_stream_without_sse_is_one_json_array(mock: MockProcess) -> None:
    """Without alt=sse the elements make up one JSON array; with it SSE without [DONE]; an error closes the array."""
    path = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    _, headers, body = send(mock, "POST", path, NATIVE, GOOGLE)
    assert ("Content-Type", "application/json; charset=UTF-8") in headers
    elements = json.loads(body)
    assert all("usageMetadata" in element for element in elements)
    _, headers, body = send(mock, "POST", f"{path}?alt=sse", NATIVE, GOOGLE)
    assert ("Content-Type", "text/event-stream") in headers
    events = [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n") if event]
    assert len(events) == len(elements)
    mock.behave(error_event_after=2)
    assert json.loads(send(mock, "POST", path, NATIVE, GOOGLE)[2])[2]["error"]["status"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/openai/v1/chat/completions", BEARER),
        ("/groq/openai/v1/chat/completions", BEARER),
        ("/gemini/v1beta/openai/chat/completions", BEARER),
        ("/gemini/v1/models/gemini-x:generateContent", GOOGLE),
        ("/gemini/v1/models/gemini-x:generateContent?key=AIza", {}),
        ("/anthropic/v1/chat/completions", BEARER),
        ("/anthropic/v1/messages", {"x-api-key": "sk-ant", **VERSION}),
        ("/anthropic/v1/messages", {**BEARER, **VERSION}),
        ("/azure/openai/deployments/d/chat/completions?api-version=2024-10-21", {"api-key": "0"}),
        ("/azure/openai/v1/chat/completions", BEARER),
    ],
)
def test_each_provider_takes_its_own_credentials(mock: MockProcess, path: str, headers: dict[str, str]) -> None:
    """The provider's credential is accepted; without it, or with a refused one, the answer is its own 401."""
    body = {"model": "m", "messages": USER, "max_tokens": 5, **NATIVE}
    assert send(mock, "POST", path, body, headers)[0] == 200
    bare = {name: value for name, value in headers.items() if name in VERSION}
    status, _, refusal = send(mock, "POST", path.removesuffix("?key=AIza"), body, bare)
    assert status == 401
    assert b"error" in refusal
    wrong = dict.fromkeys(headers, f"Bearer {WRONG_KEY_MARK}")
    assert send(mock, "POST", path.replace("AIza", WRONG_KEY_MARK), body, wrong)[0] == 401


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/openai/v1/nothing", BEARER),
        ("/groq/openai/v1/completions", BEARER),
        ("/groq/v1/chat/completions", BEARER),
        ("/gemini/v1beta/openai/responses", BEARER),
        ("/anthropic/v1/embeddings", {**BEARER, **VERSION}),
        ("/azure/openai/chat/completions?api-version=1", BEARER),
        ("/azure/openai/deployments/d/responses?api-version=1", BEARER),
        ("/azure/openai/deployments/d/chat/completions", BEARER),
        ("/other/v1/chat/completions", BEARER),
    ],
)
def test_a_path_the_provider_lacks_is_404(mock: MockProcess, path: str, headers: dict[str, str]) -> None:
    """Endpoints another provider has, a missing api-version and unknown prefixes are 404 with an error body."""
    status, _, body = send(mock, "POST", path, {"model": "m", "messages": USER}, headers)
    assert status == 404
    assert b"error" in body


@pytest.mark.parametrize(
    ("fields", "headers", "message"),
    [
        ({}, {}, "anthropic-version: header is required"),
        ({"stream_options": USAGE}, VERSION, "stream_options: Extra inputs are not permitted"),
        ({"temperature": 1}, {"anthropic-version": "2026-10-21"}, "temperature"),
        ({"model": None}, VERSION, "model: Field required"),
        ({"max_tokens": None}, VERSION, "max_tokens: Field required"),
    ],
)
def test_anthropic_refuses_what_it_refuses(
    mock: MockProcess,
    fields: dict[str, Any],
    headers: dict[str, str],
    message: str,
) -> None:
    """Anthropic's own 400s: version header, stream_options, sampling in the newest version, required fields."""
    body = {"model": "claude-x", "messages": USER, "max_tokens": 5, **fields}
    status, _, answer = send(mock, "POST", "/anthropic/v1/messages", body, {**BEARER, **headers})
    error = json.loads(answer)["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"[1]", {}),
        (b"\xff\xfe", {}),
        (b"{}", {}),
        (b'{"model":["x"],"stream":[1],"stream_options":3}', {}),
        (b"[" * 100_000, {}),
        (b"{}", {"Content-Encoding": "gzip"}),
        (b"--x\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"x", {"Content-Type": "multipart/form-data"}),
    ],
)
def test_unreadable_bodies_are_400(mock: MockProcess, body: bytes, headers: dict[str, str]) -> None:
    """Bodies that are not what they claim get the provider's 400, never a crash."""
    status, _, answer = send(mock, "POST", "/openai/v1/chat/completions", body, {**BEARER, **headers})
    assert status == 400
    assert json.loads(answer)["error"]["type"] == "invalid_request_error"


def test_odd_but_readable_bodies_are_answered(mock: MockProcess) -> None:
    """Lone surrogates, a null stream and compressed requests are fine."""
    lone = b'{"model":"gpt-\\ud83d","messages":[{"content":"\\ud83d"}],"stream":null}'
    assert send(mock, "POST", "/openai/v1/chat/completions", lone, BEARER)[0] == 200


def test_response_headers_keep_case_and_duplicates(mock: MockProcess) -> None:
    """Set-Cookie twice at OpenAI, Vary three times at Gemini, odd case, and the request id under its own name."""
    seen = {}
    for provider in PROVIDERS:
        path = {"groq": "/groq/openai/v1/models", "gemini": "/gemini/v1beta/openai/models"}.get(provider)
        path = path or {"azure": "/azure/openai/v1/models"}.get(provider, f"/{provider}/v1/models")
        status, headers, _ = send(mock, "GET", path, headers={**BEARER, **VERSION})
        assert status == 200
        seen[provider] = [name for name, _ in headers]
    assert seen["openai"].count("Set-Cookie") == 2
    assert seen["openai"].count("access-control-expose-headers") == 2
    assert seen["gemini"].count("Vary") == 3
    assert "CF-RAY" in seen["openai"]
    assert "x-request-id" in seen["openai"]
    assert "request-id" in seen["anthropic"]
    assert "apim-request-id" in seen["azure"]
    assert not any("request-id" in name.lower() for name in seen["gemini"])
    assert "Transfer-Encoding" in seen["openai"]
    assert "Content-Length" in seen["anthropic"]


def test_head_and_websocket(mock: MockProcess) -> None:
    """HEAD answers like GET without a body; a WebSocket upgrade gets a plain 426 or 404 and never 101."""
    assert send(mock, "HEAD", "/openai/v1/models", headers=BEARER)[::2] == (200, b"")
    upgrade = {**BEARER, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert send(mock, "GET", "/openai/v1/realtime?model=x", headers=upgrade)[0] == 426
    assert send(mock, "GET", "/groq/openai/v1/realtime2", headers=upgrade)[0] == 404


def test_expect_continue_is_answered(mock: MockProcess) -> None:
    """A client that waits for 100 Continue gets it before it sends the body."""
    body = json.dumps({"model": "gpt-4o", "messages": USER}).encode()
    connection = http.client.HTTPConnection(*mock.address, timeout=10)
    connection.putrequest("POST", "/openai/v1/chat/completions")
    for name, value in {**BEARER, "Expect": "100-continue", "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.sock is not None
    assert connection.sock.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.send(body)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/openai/v1/models/a%2Fb?x=%20", Route(provider="openai", endpoint="models", item="a/b", query={"x": " "})),
        ("/openai/v1/responses/input_tokens", Route(provider="openai", endpoint="responses/input_tokens")),
        ("/openai/v1/responses/resp_1", Route(provider="openai", endpoint="responses", item="resp_1")),
        (
            "/gemini/v1beta/models/a:b:countTokens",
            Route(provider="gemini", endpoint=":countTokens", model="a:b", native=True),
        ),
        (
            "/azure/openai/deployments/my%2Fown/embeddings?api-version=1",
            Route(provider="azure", endpoint="embeddings", model="my/own", legacy=True, query={"api-version": "1"}),
        ),
        ("/nobody/v1/models", None),
    ],
)
def test_routes(target: str, expected: Route | None) -> None:
    """Raw targets are read segment by segment; only ids and models are decoded."""
    assert find_route(target) == expected
