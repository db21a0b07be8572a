"""What the gateway does between client and provider, seen from both sides, with the gateway as a real process."""

import contextlib
import http.client
import json
import socket
import threading
import time
from functools import partial
from typing import Any

import pytest

from tests.canaries import PROMPT, QUERY_SECRET, provider_key
from tests.lectr import Lectr, chat
from tests.mock_process import MockProcess
from tests.parts import admin, fetch, wait_until
from tests.raw_http import connect, head, read_all, read_until

KEY = provider_key("proxy")


ANSWER = (
    b"HTTP/1.1 418 Short And Stout\r\nX-Request-ID: req_1\r\nset-cookie: a=1\r\nSet-Cookie: b=2; HttpOnly\r\n"
    b"Vary: Origin\r\nvary: X-Origin\r\nDATE: Mon, 23 Nov 2026 00:00:00 GMT\r\nServer: cloudflare\r\n"
    b"X-Odd:   caf\xe9 \r\ncontent-LENGTH: 11\r\n"
    b"Keep-Alive: timeout=5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n"
)
RELAYED = (
    b"HTTP/1.1 418 Short And Stout\r\nX-Request-ID: req_1\r\nset-cookie: a=1\r\nSet-Cookie: b=2; HttpOnly\r\n"
    b"Vary: Origin\r\nvary: X-Origin\r\nDATE: Mon, 23 Nov 2026 00:00:00 GMT\r\nServer: cloudflare\r\n"
    b"X-Odd:   caf\xe9 \r\ncontent-LENGTH: 11\r\n\r\n"
)
BODY = b"\x00not json\xff\n"


def answer_once(server: socket.socket) -> None:
    """Be a provider for one request, byte by byte."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        read_until(connection, b"\r\n\r\n")
        connection.sendall(ANSWER + BODY)
        read_all(connection)


def test_answer_is_the_providers_byte_for_byte(lectr: Lectr, own_gateway: Any, feature: str) -> None:
    """Status, reason, names, case, order, duplicates and body arrive as sent; only the hop's own fields are not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        provider = threading.Thread(target=answer_once, args=(server,))
        provider.start()
        base = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        gateway = own_gateway({"LECTR_UPSTREAM_OPENAI": base})
        with connect(gateway.url) as client:
            client.sendall(head(lectr, feature).replace(b"POST", b"GET"))
            received = read_until(client, BODY)
        assert received == RELAYED + BODY
        gateway.terminate()
        provider.join(10)
    lectr.row_of(feature, status=418, error_source="provider", provider_request_id="req_1", response_bytes=11)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_encoded_answers_stay_encoded_and_are_metered(
    lectr: Lectr, mock: MockProcess, feature: str, encoding: str, stream: bool
) -> None:
    """An encoded answer reaches the client encoded, and its usage is still read."""
    mock.behave(encoding=encoding)
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    connection = http.client.HTTPConnection(lectr.url[7:])
    fields = {
        "X-Lectr-Key": lectr.key,
        "X-Lectr-Feature": feature,
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Accept-Encoding": encoding,
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(chat(**options)), fields)
    answer = connection.getresponse()
    assert answer.getheader("Content-Encoding") == encoding
    assert b"choices" not in answer.read()
    connection.close()
    found = lectr.row_of(feature, usage_source="provider", status=200)
    assert found["input_tokens"] > 0
    assert found["output_tokens"] > 0


def test_a_kept_connection_is_no_open_door(lectr: Lectr, feature: str) -> None:
    """A client that repeats its head on one connection is judged anew after each change of its organisation."""
    made = admin(lectr.redis_url, "org", "create", "kept-open")
    fields = {"X-Lectr-Key": made["key"], "X-Lectr-Feature": feature, "Authorization": f"Bearer {KEY}"}
    with contextlib.closing(http.client.HTTPConnection(lectr.url[7:], timeout=30)) as connection:

        def answered(status: int) -> bool:
            connection.request("POST", "/v1/chat/completions", json.dumps(chat()), fields)
            answer = connection.getresponse()
            answer.read()
            return answer.status == status

        wait_until(lambda: answered(200))
        sock = connection.sock
        for command, status in (("disable", 401), ("enable", 200), ("rotate-key", 401)):
            admin(lectr.redis_url, "org", command, "kept-open")
            wait_until(partial(answered, status))
        assert connection.sock is sock


def test_stream_arrives_piece_by_piece(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """The first event reaches the client while the provider still holds back the last."""
    mock.behave(chunk_delay_ms=300)
    body = json.dumps(chat(stream=True)).encode()
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, length=len(body)) + body)
        read_until(client, b"data: ")
        assert not mock.requests()[-1]["finished"]


def test_client_that_leaves_cancels_the_provider(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """When the client leaves mid-stream the provider sees it, and the row says who ended it."""
    mock.behave(chunk_delay_ms=200)
    body = json.dumps(chat(stream=True)).encode()
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, length=len(body)) + body)
        read_until(client, b"data: ")
    mock.wait_for(lambda records: bool(records) and records[-1]["cancelled"])
    found = lectr.row_of(feature, status=200, error_category="client_disconnect", error_source="client")
    assert found["usage_source"] == "estimated"


def test_client_that_leaves_before_the_answer(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A client gone before the head of the answer: the provider's work is cancelled, the row has status 499."""
    mock.behave(delay_ms=20_000)
    body = json.dumps(chat()).encode()
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, length=len(body)) + body)
        mock.wait_for(lambda records: len(records) == 1)
    mock.wait_for(lambda records: records[-1]["cancelled"])
    lectr.row_of(feature, status=499, error_category="client_disconnect", error_source="client")


def test_cut_answer_is_a_cut_connection(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A provider that breaks off mid-body: the client never sees a clean end."""
    mock.behave(cut_after_bytes=300)
    body = json.dumps(chat(stream=True)).encode()
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, length=len(body)) + body)
        received = b""
        try:
            received = read_all(client)
        except ConnectionResetError:
            received += b""
    assert not received.endswith(b"0\r\n\r\n")
    lectr.row_of(feature, status=200, error_category="stream_truncated", error_source="provider")


def test_error_inside_a_stream_is_seen(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A provider's error event after a 200 is an error in the row."""
    mock.behave(error_event_after=3)
    status, _ = lectr.post("/v1/chat/completions", chat(stream=True), X_Lectr_Feature=feature)
    assert status == 200
    found = lectr.row_of(feature, status=200, error_source="provider")
    assert found["error_category"]


@pytest.mark.parametrize(("path", "shape"), [("/v1/chat/completions", "error"), ("/v1/messages", "type")])
def test_body_over_the_limit(lectr: Lectr, mock: MockProcess, feature: str, path: str, shape: str) -> None:
    """JSON over 2 MiB is refused with 413 in the client's error shape; the provider is not contacted; it is a row."""
    status, body = lectr.post(path, b'{"model":"gpt-4o","pad":"' + b"x" * (2 << 20) + b'"}', X_Lectr_Feature=feature)
    assert status == 413
    document = json.loads(body)
    assert shape in document
    assert document["error"]["code"] == "request_too_large"
    assert "LECTR_MAX_BODY_BYTES" in document["error"]["message"]
    assert mock.requests() == []
    lectr.row_of(feature, status=413, error_source="client")


def send_until(client: socket.socket, piece: bytes, end: float) -> None:
    while time.monotonic() < end:
        client.sendall(piece)


def test_chunked_body_over_the_limit_is_cut_off(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A chunked body that goes on after the limit: the connection is closed under it."""
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, "Transfer-Encoding: chunked"))
        piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        end = time.monotonic() + 20
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_until(client, piece, end)
    assert mock.requests() == []
    lectr.row_of(feature, status=413)


def test_body_just_below_the_limit_is_served(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """2 MiB of JSON with the model at the very end is detected and served byte for byte."""
    start, end = b'{"messages":[],"pad":"', b'","model":"claude-sonnet-4-5","max_tokens":1}'
    body = start + b"x" * ((2 << 20) - len(start) - len(end)) + end
    assert lectr.post("/v1/chat/completions", body, X_Lectr_Feature=feature)[0] == 200
    record = mock.requests()[-1]
    assert (record["provider"], record["body_bytes"]) == ("anthropic", 2 << 20)
    lectr.row_of(feature, model_requested="claude-sonnet-4-5", request_bytes=2 << 20)


def test_expect_continue_is_answered(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A client that waits for 100 Continue gets it, and the provider does not see the field."""
    body = json.dumps(chat()).encode()
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, "Expect: 100-continue", length=len(body)))
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert b" 200 " in read_until(client, b"\r\n\r\n")
    fields = {name.lower() for name, _ in mock.requests()[-1]["headers"]}
    assert "expect" not in fields


def test_expect_continue_without_a_key_is_refused_at_once(lectr: Lectr) -> None:
    """No 100 Continue for a stranger: the body is not asked for."""
    with connect(lectr.url) as client:
        client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_redirects_are_relayed(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A redirect is the client's to follow."""
    mock.behave(status=307, headers=[["Location", "/elsewhere"]], body="")
    connection = http.client.HTTPConnection(lectr.url[7:])
    connection.request("GET", "/v1/models", headers={"X-Lectr-Key": lectr.key, "X-Lectr-Feature": feature})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (307, "/elsewhere")
    connection.close()
    assert len(mock.requests()) == 1


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(lectr: Lectr, mock: MockProcess, status: int) -> None:
    """204 and 304 have no body and no framing, and the connection goes on."""
    mock.behave(status=status, body="", times=1)
    connection = http.client.HTTPConnection(lectr.url[7:])
    for expected in (status, 200):
        connection.request("GET", "/v1/models", headers={"X-Lectr-Key": lectr.key, "Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        assert answer.status == expected
        assert answer.read() == b"" if expected == status else answer.read
        answer.read()
    connection.close()


def test_query_and_escapes_are_kept_and_the_key_in_them_is_not_stored(
    lectr: Lectr, mock: MockProcess, feature: str
) -> None:
    """Path and query reach the provider byte for byte; the stored endpoint has no query."""
    target = f"/v1/models/openai%2Fgpt%20x?beta=true&key={QUERY_SECRET}&q=%C3%A9+a%2Bb"
    fetch(
        f"{lectr.url}{target}", headers={"X-Lectr-Key": lectr.key, "X-Lectr-Feature": feature, "anthropic-version": "1"}
    )
    assert mock.requests()[-1]["path"] == "/anthropic" + target
    assert lectr.row_of(feature)["endpoint"] == "/v1/models/openai%2Fgpt%20x"


@pytest.mark.parametrize("path", ["/", "/admin", "/v2/chat/completions", "/metrics", "/healthz"])
def test_unknown_paths_are_refused(lectr: Lectr, mock: MockProcess, path: str) -> None:
    """A path that no provider has is the gateway's 404 with advice, and nobody is contacted."""
    status, body = fetch(f"{lectr.url}{path}", headers={"X-Lectr-Key": lectr.key})
    assert status == 404
    assert json.loads(body)["error"]["code"] == "unknown_path"
    assert mock.requests() == []


def test_azure_without_an_endpoint(lectr: Lectr, mock: MockProcess) -> None:
    """Azure for an organisation without an endpoint: 400 azure_config_missing with the command that sets it."""
    made = admin(lectr.redis_url, "org", "create", "no-azure")

    def refusal() -> bytes:
        status, body = lectr.post("/v1/chat/completions", chat(), X_Lectr_Key=made["key"], X_Lectr_Provider="azure")
        return body if status == 400 else b""

    document = json.loads(wait_until(refusal))
    assert document["error"]["code"] == "azure_config_missing"
    assert "azure set no-azure" in document["error"]["message"]
    assert mock.requests() == []
    assert lectr.rows("org = 'no-azure'")[0]["status"] == 400


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: g\r\nX-A: b\x00c\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: g\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
    ids=["no request", "version", "two lengths", "length and chunked", "NUL", "huge field"],
)
def test_malformed_http_is_refused_as_json(lectr: Lectr, mock: MockProcess, request_bytes: bytes) -> None:
    """Malformed HTTP gets 400 invalid_request as JSON and a closed connection, never a page or a stack trace."""
    with connect(lectr.url) as client:
        client.sendall(request_bytes)
        answer = read_all(client)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    document = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert document["error"]["code"] == "invalid_request"
    assert mock.requests() == []


def test_two_different_keys_are_ambiguous(lectr: Lectr, mock: MockProcess) -> None:
    """Two X-Lectr-Key fields with different values are refused: nobody guesses whose request it is."""
    with connect(lectr.url) as client:
        client.sendall(head(lectr, "two-keys", "X-Lectr-Key: lc_key_other", "Connection: close"))
        answer = read_all(client)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    assert mock.requests() == []


def test_large_upload_streams_through(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A 20 MB file with the model behind it in the form arrives whole at the model's provider."""
    boundary = "b0undary"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    model = f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-large-v3\r\n'
    body = part + PROMPT.encode() * 700_000 + f"{model}--{boundary}--\r\n".encode()
    fields = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, answer = lectr.post("/v1/audio/transcriptions", body, X_Lectr_Feature=feature, **fields)
    assert status == 200, answer
    record = mock.requests()[-1]
    assert (record["provider"], record["body_bytes"]) == ("groq", len(body))
    lectr.row_of(feature, provider="groq", model_requested="whisper-large-v3", request_bytes=len(body))
