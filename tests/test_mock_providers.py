"""Promises of the mock providers as a process: start, stop, record, notice a client that leaves, carry load."""

import asyncio
import hashlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from deploy.local.providers import ANSWER_MARKER, PROVIDERS
from deploy.local.providers.profile import MAY_FAIL, Profile
from deploy.local.providers.recording import MAX_RECORDS, Recorder
from deploy.local.providers.tokens import (
    TokenOverride,
    answer_pieces,
    count_tokens,
    override_counts,
    prompt_bytes,
    split_text,
)
from tests.mock_process import MockProcess, mock_process
from tests.parts import ROOT, fetch

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
AUTH = {"Authorization": "Bearer sk-test"}


@pytest.fixture(scope="module")
def running() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as process:
        yield process


@pytest.fixture
def mock(running: MockProcess) -> MockProcess:
    running.reset()
    return running


def raw_request(body: bytes, head: bytes = b"") -> bytes:
    return (
        b"POST /openai/v1/chat/completions?a=%2F&b HTTP/1.1\r\n"
        b"Host: x\r\nauthorization: Bearer sk\r\nX-Two: 1\r\nx-tWO: 2\r\n"
        b"Content-Type: application/json\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


def test_a_taken_port_is_one_clear_line_and_exit_2(mock: MockProcess) -> None:
    """A second process on the same port says so on stderr and exits with 2."""
    host, port = mock.address
    command = [sys.executable, "-m", "deploy.local.providers", "--listen", f"{host}:{port}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"mock providers cannot listen on {host}:{port}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("listen", ["8100", "localhost:", ":80", "localhost:http", "localhost:70000"])
def test_a_bad_address_is_refused(listen: str) -> None:
    """--listen must be HOST:PORT; anything else exits with 2 and names the option."""
    command = [sys.executable, "-m", "deploy.local.providers", "--listen", listen]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "--listen" in ended.stderr


def test_it_stops_cleanly_with_an_open_stream() -> None:
    """SIGTERM ends the process with exit 0 although a client still waits (checked by mock_process)."""
    with mock_process() as process, socket.create_connection(process.address) as client:
        process.behave(delay_ms=600_000)
        client.sendall(raw_request(json.dumps(CHAT).encode()))
        process.wait_for(lambda records: len(records) == 1)


def test_records_show_the_request_as_received(mock: MockProcess) -> None:
    """Raw path and query, header order, case and duplicates, and the body's hash and bytes are kept."""
    body = json.dumps(CHAT).encode()
    with socket.create_connection(mock.address, timeout=10) as client:
        client.sendall(raw_request(body, b"Connection: close\r\n"))
        while client.recv(65_536):
            pass
    (record,) = mock.requests()
    assert (record["provider"], record["method"]) == ("openai", "POST")
    assert record["path"] == "/openai/v1/chat/completions?a=%2F&b"
    assert [name for name, _ in record["headers"][:4]] == ["Host", "authorization", "X-Two", "x-tWO"]
    assert record["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert record["body_bytes"] == len(body)
    assert mock.last_body() == CHAT
    assert (record["status"], record["finished"], record["cancelled"]) == (200, True, False)


def test_hits_count_per_provider_and_clear(mock: MockProcess) -> None:
    """Every provider is listed with its requests, refused ones included, until the records are cleared."""
    connection = http.client.HTTPConnection(*mock.address, timeout=10)
    for path in ("/groq/openai/v1/models", "/groq/openai/v1/models", "/azure/openai/v1/models"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()
    assert mock.hits() == {**dict.fromkeys(PROVIDERS, 0), "groq": 2, "azure": 1}
    mock.reset()
    assert mock.hits() == dict.fromkeys(PROVIDERS, 0)
    assert mock.requests() == []


def test_bodies_are_kept_only_on_request() -> None:
    """Without --keep-bodies a record has the body's hash and size but not the body."""
    with mock_process() as process:
        connection = http.client.HTTPConnection(*process.address, timeout=10)
        connection.request("POST", "/openai/v1/chat/completions", json.dumps(CHAT), AUTH)
        connection.getresponse().read()
        connection.close()
        (record,) = process.requests()
    assert record["body_base64"] is None
    assert record["body_bytes"] == len(json.dumps(CHAT))


def test_records_are_bounded() -> None:
    """The oldest record goes when there are too many; the hits go on counting."""
    recorder = Recorder(keep_bodies=False)
    for _ in range(MAX_RECORDS + 1):
        recorder.open(provider="groq", method="GET", path="/", headers=())
    assert len(recorder.records()) == MAX_RECORDS
    assert recorder.records()[0].id == 2
    assert recorder.hits()["groq"] == MAX_RECORDS + 1


def test_a_client_that_leaves_mid_stream_is_noticed(mock: MockProcess) -> None:
    """A stream whose client disconnects becomes cancelled, not finished, with the time it took."""
    mock.behave(chunk_delay_ms=50)
    body = json.dumps({**CHAT, "stream": True}).encode()
    with socket.create_connection(mock.address, timeout=10) as client:
        client.sendall(raw_request(body))
        assert b"200 OK" in client.recv(65_536)
    mock.wait_for(lambda records: bool(records[-1]["cancelled"]))
    (record,) = mock.requests()
    assert record["finished"] is False
    assert 0 <= record["cancelled_after_ms"] < 5_000


def test_a_client_that_leaves_before_the_head_is_noticed(mock: MockProcess) -> None:
    """A client that gives up during the delay before the head is recorded as cancelled at once."""
    mock.behave(delay_ms=600_000)
    with socket.create_connection(mock.address, timeout=10) as client:
        client.sendall(raw_request(json.dumps(CHAT).encode()))
        mock.wait_for(lambda records: len(records) == 1)
    mock.wait_for(lambda records: bool(records[-1]["cancelled"]))
    assert mock.requests()[-1]["finished"] is False


async def test_fifty_streams_at_once_stay_whole(mock: MockProcess) -> None:
    """50 slow streams run side by side, each complete and finished."""
    mock.behave(chunk_delay_ms=10)
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}

    async def read_stream(session: aiohttp.ClientSession) -> bytes:
        async with session.post(f"{mock.url}/openai/v1/chat/completions", json=body, headers=AUTH) as answer:
            return await answer.read()

    async with asyncio.timeout(20), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:
        answers = await asyncio.gather(*(read_stream(session) for _ in range(50)))
    assert all(answer.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert all(ANSWER_MARKER.encode() in answer for answer in answers)
    assert all(record["finished"] for record in mock.requests())


def test_the_profile_delays_and_fails_by_number() -> None:
    """Latency stays within the jitter, about error_rate of requests fail, and the same number suffers the same."""
    profile = Profile(latency_ms=100, jitter=0.5, error_rate=0.2)
    weathers = [profile.weather(number) for number in range(1000)]
    assert weathers == [profile.weather(number) for number in range(1000)]
    assert all(50 <= weather.delay_ms <= 150 for weather in weathers)
    assert 120 < sum(weather.status is not None for weather in weathers) < 280
    assert all(Profile().weather(number).status is None for number in range(1000))


def test_the_profile_applies_to_a_process() -> None:
    """--error-rate 1 makes every request that may fail do so in the provider's own shape, and no other."""
    with mock_process("--error-rate", "1", "--latency-ms", "1", "--jitter", "0.2") as process:
        url = f"{process.url}/openai/v1/chat/completions"
        options = {"data": json.dumps(CHAT).encode(), "headers": AUTH, "method": "POST"}
        status, body = fetch(f"{url}?{MAY_FAIL}", **options)
        assert status in {429, 500, 503}
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        assert fetch(url, **options)[0] == 200


def test_prompt_bytes_counts_text_and_not_structure() -> None:
    """Strings below the prompt fields count in UTF-8; roles, types and other fields do not; lone surrogates do."""
    text = {"role": "user", "content": [{"type": "text", "text": "héé"}, {"type": "text", "text": "\ud83d"}]}
    assert prompt_bytes({"model": "x" * 99, "messages": [text], "tools": ["zzz"]}) == 5 + 3
    assert prompt_bytes({"input": [[1, 2, 3], [4]]}) == 16


def test_the_formula_of_token_counts() -> None:
    """The documented formula, with limits, reasoning and both kinds of cache."""
    plain = count_tokens({"messages": [{"role": "user", "content": "x" * 40}]}, "gpt-4o")
    assert (plain.input_tokens, plain.visible_tokens, plain.reasoning_tokens) == (14, 9, 0)
    assert (plain.output_tokens, plain.total_tokens, plain.limited) == (9, 23, False)
    assert count_tokens({"input": "x" * 40}, "gpt-5").reasoning_tokens == 16 + 14
    assert count_tokens({"input": "", "reasoning_effort": "low"}, "custom").reasoning_tokens == 20
    assert count_tokens({"input": "", "thinking": {"type": "disabled"}}, "claude").reasoning_tokens == 0
    limited = count_tokens({"contents": "", "generationConfig": {"maxOutputTokens": 3}}, "gemini-2.0-flash")
    assert (limited.visible_tokens, limited.limited) == (3, True)
    assert count_tokens({"input": "x" * 8000}).cache_read_tokens == 2004 // 2 // 128 * 128
    marked = {"system": [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    cached = count_tokens(marked, "claude")
    assert (cached.input_tokens, cached.cache_read_tokens, cached.cache_write_tokens) == (104, 52, 26)
    assert cached.cache_write_is_1h
    assert cached.uncached_input_tokens == 26


def test_token_counts_do_not_fear_deep_nesting() -> None:
    """A body nested deeper than the recursion limit is counted."""
    nested: list[object] = ["abcd"]
    for _ in range(5_000):
        nested = [nested]
    assert prompt_bytes({"input": nested}) == 4


def test_overrides_replace_only_what_they_name() -> None:
    """Absent fields keep the formula; output includes reasoning."""
    counts = count_tokens({"input": "x" * 40}, "gpt-5")
    changed = override_counts(counts, TokenOverride(output=100))
    assert (changed.input_tokens, changed.output_tokens, changed.reasoning_tokens) == (14, 100, 30)
    assert override_counts(counts, TokenOverride(output=0)).output_tokens == 0


def test_an_answer_has_one_piece_per_visible_token() -> None:
    """The invented answer starts with the marker and has visible_tokens pieces; ordered text survives the cutting."""
    counts = count_tokens({"input": "x" * 40})
    pieces = answer_pieces(counts)
    assert len(pieces) == counts.visible_tokens
    assert pieces[0] == ANSWER_MARKER
    for text in ("", " ", "one", " two  words \n", "東京 is\n\nlarge"):
        assert "".join(split_text(text)) == text
