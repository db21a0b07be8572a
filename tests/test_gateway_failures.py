"""When a provider fails or the gateway is stopped: what the client gets, and the row that says why."""

import http.client
import json
import threading
from typing import Any

import pytest

from tests.canaries import provider_key
from tests.lectr import Lectr, chat
from tests.mock_process import MockProcess
from tests.parts import Gateway, fetch, free_port, upstreams_of, wait_until
from tests.raw_http import connect, head, read_all

KEY = provider_key("failures")


def ask(
    gateway: Gateway, lectr: Lectr, feature: str, path: str = "/v1/chat/completions", **more: Any
) -> tuple[int, Any]:
    fields = {
        "X-Lectr-Key": lectr.key,
        "X-Lectr-Feature": feature,
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
    }
    status, body = fetch(f"{gateway.url}{path}", data=json.dumps(chat(**more)).encode(), headers=fields)
    return status, json.loads(body)


def test_unreachable_provider(lectr: Lectr, own_gateway: Any, feature: str) -> None:
    """Nobody listens there: 502 provider_unreachable, and a row that blames the connection."""
    gateway = own_gateway({"LECTR_UPSTREAM_OPENAI": f"http://127.0.0.1:{free_port()}/v1"})
    status, document = ask(gateway, lectr, feature)
    assert (status, document["error"]["code"]) == (502, "provider_unreachable")
    lectr.row_of(feature, status=502, error_category="connection", error_source="gateway")


def test_provider_that_drops_the_connection(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A connection closed before the head is a 502, and the request was sent once, not again."""
    mock.behave(drop_before_head=True)
    status, body = lectr.post("/v1/chat/completions", chat(), X_Lectr_Feature=feature)
    assert (status, json.loads(body)["error"]["code"]) == (502, "provider_unreachable")
    assert len(mock.requests()) == 1


def test_silent_provider(lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str) -> None:
    """No first byte in time: 504 provider_timeout."""
    mock.behave(delay_ms=20_000)
    gateway = own_gateway(upstreams_of(mock.url), LECTR_FIRST_BYTE_TIMEOUT_S="0.3")
    status, document = ask(gateway, lectr, feature)
    assert (status, document["error"]["code"]) == (504, "provider_timeout")
    lectr.row_of(feature, status=504, error_category="timeout", error_source="gateway")


def test_stalled_stream(lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str) -> None:
    """A stream that falls silent for too long is broken off, not ended."""
    mock.behave(chunk_delay_ms=20_000)
    gateway = own_gateway(upstreams_of(mock.url), LECTR_IDLE_TIMEOUT_S="0.3")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(gateway, lectr, feature, stream=True)
    lectr.row_of(feature, status=200, error_category="timeout", error_source="provider")


def test_drain_lets_streams_finish(lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str) -> None:
    """SIGTERM: /readyz says so at once, a running stream ends whole, its row is stored, the process exits 0."""
    mock.behave(chunk_delay_ms=100)
    gateway = own_gateway(upstreams_of(mock.url))
    results: list[Any] = []
    fields = {"X-Lectr-Key": lectr.key, "X-Lectr-Feature": feature, "Authorization": f"Bearer {KEY}"}

    def stream() -> None:
        body = json.dumps(chat(stream=True)).encode()
        results.append(fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=fields))

    client = threading.Thread(target=stream)
    client.start()
    mock.wait_for(lambda records: len(records) == 1)
    gateway.process.terminate()
    wait_until(lambda: fetch_or_none(f"{gateway.ops_url}/readyz") == 503 or gateway.process.poll() is not None)
    client.join(30)
    assert gateway.process.wait(30) == 0
    status, body = results[0]
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    lectr.row_of(feature, status=200, error_category="")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_drain_lets_uploads_arrive(
    lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str, *, chunked: bool
) -> None:
    """A request that is still arriving when SIGTERM comes is taken whole and served, and its connection is closed."""
    gateway = own_gateway(upstreams_of(mock.url))
    body = json.dumps(chat()).encode()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    request = head(lectr, feature).removesuffix(b"\r\n") + framing + b"\r\n\r\n" + wire
    with connect(gateway.url) as client:
        client.sendall(request[:-30])
        wait_until(lambda: b"lectr_gateway_open_requests 1.0" in fetch(f"{gateway.ops_url}/metrics")[1])
        gateway.process.terminate()
        wait_until(lambda: fetch_or_none(f"{gateway.ops_url}/readyz") == 503)
        client.sendall(request[-30:])
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b"Connection: close" in answer
    assert gateway.process.wait(30) == 0


def test_drain_has_a_limit(lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str) -> None:
    """What is not answered when the drain's patience ends gets 503 gateway_draining, and a row."""
    mock.behave(delay_ms=30_000)
    gateway = own_gateway(upstreams_of(mock.url), LECTR_DRAIN_TIMEOUT_S="0.2")
    results: list[Any] = []
    client = threading.Thread(target=lambda: results.append(ask(gateway, lectr, feature)))
    client.start()
    mock.wait_for(lambda records: len(records) == 1)
    assert gateway.terminate() == 0
    client.join(30)
    status, document = results[0]
    assert (status, document["error"]["code"]) == (503, "gateway_draining")
    lectr.row_of(feature, status=503, error_category="gateway_draining", error_source="gateway")


def fetch_or_none(url: str) -> int | None:
    try:
        return fetch(url)[0]
    except OSError:
        return None
