"""Promises of the mock's control interface: every field of an order does what it says, and nothing else."""

import gzip
import http.client
import json
import socket
import sys
import time
import urllib.error
import zlib
from collections.abc import Iterator
from typing import Any

import brotli  # type: ignore[import-untyped]  # the wheel ships no stubs
import pytest

from tests.mock_process import MockProcess, mock_process

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATHS = {
    "openai": "/openai/v1/chat/completions",
    "anthropic": "/anthropic/v1/messages",
    "groq": "/groq/openai/v1/chat/completions",
    "gemini": "/gemini/v1beta/openai/chat/completions",
    "azure": "/azure/openai/v1/chat/completions",
}
HEADERS = {"Authorization": "Bearer test", "anthropic-version": "2023-06-01", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running() -> Iterator[MockProcess]:
    with mock_process() as process:
        yield process


@pytest.fixture
def mock(running: MockProcess) -> MockProcess:
    running.reset()
    return running


class Answer:
    """A whole HTTP answer with its headers in order."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.reason = response.status, response.reason
        self.headers = response.getheaders()
        self.body = response.read()

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


def ask(mock: MockProcess, provider: str = "openai", body: Any = CHAT, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(*mock.address, timeout=10)
    try:
        document = {"max_tokens": 50, **body} if provider == "anthropic" else body
        connection.request("POST", PATHS[provider], json.dumps(document), {**HEADERS, **(headers or {})})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def raw_answer(mock: MockProcess, body: Any, *, provider: str = "openai") -> tuple[bytes, list[bytes]]:
    """Return everything the connection gave until it ended, and the single reads."""
    content = json.dumps(body).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    head += f"Connection: close\r\nContent-Length: {len(content)}\r\n"
    request = f"POST {PATHS[provider]} HTTP/1.1\r\nHost: x\r\n{head}\r\n"
    reads: list[bytes] = []
    with socket.create_connection(mock.address, timeout=10) as client:
        client.sendall(request.encode() + content)
        while data := client.recv(65_536):
            reads.append(data)
    return b"".join(reads), reads


def test_an_order_fits_by_provider_and_path_and_vanishes_after_its_times(mock: MockProcess) -> None:
    """The oldest fitting order applies, for its provider and path only, so many times; DELETE forgets the rest."""
    first = mock.behave(provider="groq", path_contains="chat", status=503, times=2)
    second = mock.behave(provider="groq", status=429)
    assert second > first
    assert ask(mock).status == 200
    assert [ask(mock, "groq").status for _ in range(3)] == [503, 503, 429]
    mock.reset()
    assert ask(mock, "groq").status == 200


@pytest.mark.parametrize("order", [{"statsu": 500}, {"status": "500"}, {"encoding": "rot13"}, {"times": 0}])
def test_a_wrong_order_is_refused(mock: MockProcess, order: dict[str, Any]) -> None:
    """Unknown fields and bad values are a 400 that names the field, and no order is put in force."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        mock.behave(**order)
    with raised.value as refusal:
        assert refusal.code == 400
        assert next(iter(order)) in json.load(refusal)["error"]
    assert ask(mock).status == 200


@pytest.mark.parametrize(
    ("provider", "status", "shape"),
    [
        ("openai", 429, {"message", "type", "param", "code"}),
        ("groq", 498, {"message", "type", "code"}),
        ("azure", 429, {"message", "code"}),
        ("anthropic", 529, {"type", "message"}),
        ("gemini", 429, {"code", "message", "status", "details"}),
    ],
)
def test_a_status_comes_in_the_providers_shape(
    mock: MockProcess,
    provider: str,
    status: int,
    shape: set[str],
) -> None:
    """Without a body an error status has the provider's own error, array-wrapped on Gemini's OpenAI layer."""
    mock.behave(status=status)
    answer = ask(mock, provider)
    document = json.loads(answer.body)
    if provider == "gemini":
        (document,) = document
    assert answer.status == status
    assert set(document["error"]) == shape
    assert ("request_id" in document) is (provider == "anthropic")
    assert bool(answer.values("retry-after")) is (provider != "gemini" and status != 498)


def test_bodiless_statuses_and_reason(mock: MockProcess) -> None:
    """204 and 304 have no body and no framing; a reason phrase is sent as ordered; other statuses keep the answer."""
    for status in (204, 304):
        mock.reset()
        mock.behave(status=status)
        answer = ask(mock)
        assert (answer.status, answer.body) == (status, b"")
        assert not answer.values("transfer-encoding")
        assert not answer.values("content-type")
    mock.reset()
    mock.behave(status=201, reason="Very Created")
    answer = ask(mock)
    assert (answer.status, answer.reason) == (201, "Very Created")
    assert json.loads(answer.body)["object"] == "chat.completion"


def test_body_content_type_and_headers(mock: MockProcess) -> None:
    """A body replaces the answer byte for byte; headers keep order, case and duplicates and replace same names."""
    mock.behave(
        status=502,
        body="<html>bad gateway</html>",
        content_type="text/html",
        headers=[["X-oDD", "1"], ["x-Odd", "2"], ["Server", "balancer"]],
    )
    answer = ask(mock)
    assert (answer.status, answer.body) == (502, b"<html>bad gateway</html>")
    assert answer.values("content-type") == ["text/html"]
    assert [(name, value) for name, value in answer.headers if name.lower() == "x-odd"] == [
        ("X-oDD", "1"),
        ("x-Odd", "2"),
    ]
    assert answer.values("server") == ["balancer"]
    mock.reset()
    mock.behave(body={"ordered": True})
    assert json.loads(ask(mock).body) == {"ordered": True}


def test_an_ordered_event_stream_is_sent_event_by_event(mock: MockProcess) -> None:
    """A body with an event-stream type arrives unchanged, CRLF too, with the pause between its events."""
    text = "data: one\r\n\r\ndata: two\n\n: comment\n\ndata: cut"
    mock.behave(body=text, content_type="text/event-stream", chunk_delay_ms=30)
    started = time.monotonic()
    assert ask(mock).body == text.encode()
    assert time.monotonic() - started >= 0.09


def test_delay_comes_before_the_head(mock: MockProcess) -> None:
    """delay_ms holds the head back."""
    mock.behave(delay_ms=120)
    started = time.monotonic()
    assert ask(mock).status == 200
    assert time.monotonic() - started >= 0.12


def test_chunk_bytes_ignores_event_bounds(mock: MockProcess) -> None:
    """The body arrives in HTTP chunks of exactly that many bytes, and is the same body."""
    whole = ask(mock, body=STREAM).body
    mock.behave(chunk_bytes=7)
    raw, _ = raw_answer(mock, STREAM)
    chunks = raw.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert set(chunks[0:-5:2]) == {b"7"}
    assert len(ask(mock, body=STREAM).body) == len(whole)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["json", "sse"])
def test_encoding_when_accepted(mock: MockProcess, coding: str, body: dict[str, Any]) -> None:
    """The body is encoded only when ordered and accepted, and decodes to the provider's answer."""
    decoders = {"gzip": gzip.decompress, "deflate": zlib.decompress, "br": brotli.decompress, "zstd": zstd.decompress}
    accepted = {"Accept-Encoding": f"identity, {coding};q=0.9"}
    assert ask(mock, body=body, headers=accepted).values("content-encoding") == []
    mock.behave(encoding=coding)
    assert ask(mock, body=body, headers={"Accept-Encoding": f"{coding};q=0"}).values("content-encoding") == []
    for provider in ("openai", "azure"):
        answer = ask(mock, provider, body=body, headers=accepted)
        assert answer.values("content-encoding") == [coding]
        assert b"mock-answer-quartz" in decoders[coding](answer.body)


def test_encoded_streams_are_flushed_per_event(mock: MockProcess) -> None:
    """The first event of a compressed stream is decodable long before the stream ends."""
    mock.behave(encoding="gzip", chunk_delay_ms=600_000)
    connection = http.client.HTTPConnection(*mock.address, timeout=10)
    connection.request("POST", PATHS["openai"], json.dumps(STREAM), {**HEADERS, "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    event = zlib.decompressobj(wbits=31).decompress(response.read1(65_536))
    assert event.startswith(b"data: {")
    assert event.endswith(b"\n\n")
    connection.close()


@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_cut_after_bytes_breaks_off(mock: MockProcess, provider: str) -> None:
    """After so many body bytes the connection ends without a proper end, framed by chunks or by length."""
    for cut in (0, 10):
        mock.reset()
        mock.behave(cut_after_bytes=cut)
        with pytest.raises(http.client.IncompleteRead) as raised:
            ask(mock, provider)
        assert len(raised.value.partial) == cut
        (record,) = mock.requests()
        assert (record["finished"], record["cancelled"]) == (False, False)


def test_drop_before_head(mock: MockProcess) -> None:
    """The connection ends without a byte of an answer."""
    mock.behave(drop_before_head=True)
    assert raw_answer(mock, CHAT)[0] == b""


@pytest.mark.parametrize(
    ("provider", "ending"),
    [
        ("openai", b'data: {"error":{'),
        ("azure", b'data: {"error":{'),
        ("groq", b'event: error\ndata: {"error":{'),
        ("gemini", b'data: [{"error":{"code":503'),
        ("anthropic", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"'),
    ],
)
def test_error_event_after_some_events(mock: MockProcess, provider: str, ending: bytes) -> None:
    """A stream ends after N events with the provider's own error event and without a terminator."""
    mock.behave(error_event_after=2)
    events = ask(mock, provider, body=STREAM).body.split(b"\n\n")
    assert len(events) == 4
    assert events[2].startswith(ending)
    assert events[3] == b""


def test_answer_and_tokens(mock: MockProcess) -> None:
    """The answer's text and the usage numbers are as ordered; words of the text count where no number is given."""
    mock.behave(answer="two words", tokens={"input": 1_000_000, "cache_read": 900, "reasoning": 5})
    document = json.loads(ask(mock).body)
    assert document["choices"][0]["message"]["content"] == "two words"
    assert document["usage"]["prompt_tokens"] == 1_000_000
    assert document["usage"]["prompt_tokens_details"]["cached_tokens"] == 900
    assert document["usage"]["completion_tokens"] == 7
    mock.reset()
    mock.behave(tokens={"input": 10, "cache_read": 4, "cache_write": 3, "output": 77})
    usage = json.loads(ask(mock, "anthropic").body)["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (3, 4, 77)
