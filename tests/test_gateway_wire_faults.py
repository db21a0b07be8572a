"""Peers that break the rules of HTTP or fall silent: nobody waits for ever, nothing is sent twice, the row says why."""

import contextlib
import socket
import threading
from typing import Any

import pytest

from tests.lectr import Lectr
from tests.mock_process import MockProcess
from tests.parts import fetch, upstreams_of
from tests.raw_http import connect, head, read_all, read_until


def provider(answer: bytes, then: bytes = b"", when: threading.Event | None = None) -> socket.socket:
    """Be a provider for one request: answer with these bytes, send more when told, and fall silent."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(20)
            read_until(connection, b"\r\n\r\n")
            connection.sendall(answer)
            if when is not None:
                when.wait(10)
                connection.sendall(then)
            with contextlib.suppress(ConnectionResetError):
                read_all(connection)

    threading.Thread(target=serve, daemon=True).start()
    return server


def base_of(server: socket.socket) -> dict[str, str]:
    return {"LECTR_UPSTREAM_OPENAI": f"http://127.0.0.1:{server.getsockname()[1]}/v1"}


def test_malformed_chunking_from_a_provider(lectr: Lectr, own_gateway: Any, feature: str) -> None:
    """A provider whose chunking breaks inside the body: the client's connection is broken off at once."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    seen = threading.Event()
    server = provider(answer, b"ZZ\r\n", seen)
    with server, connect(own_gateway(base_of(server)).url) as client:
        client.sendall(head(lectr, feature).replace(b"POST", b"GET"))
        received = read_until(client, b"hello")
        seen.set()
        with contextlib.suppress(ConnectionResetError):
            received += read_all(client)
        assert not received.endswith(b"0\r\n\r\n")
    lectr.row_of(feature, status=200, error_category="stream_truncated", error_source="provider")


def test_silence_after_the_head(lectr: Lectr, own_gateway: Any, feature: str) -> None:
    """The idle timeout counts from the head on, not only after the first byte of the body."""
    server = provider(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    gateway = own_gateway(base_of(server), LECTR_IDLE_TIMEOUT_S="0.3", LECTR_FIRST_BYTE_TIMEOUT_S="600")
    with server, connect(gateway.url) as client:
        client.sendall(head(lectr, feature).replace(b"POST", b"GET"))
        with contextlib.suppress(ConnectionResetError):
            read_all(client)
    lectr.row_of(feature, status=200, error_category="timeout", error_source="provider")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "POST"])
def test_nothing_is_sent_twice(lectr: Lectr, own_gateway: Any, feature: str, method: str) -> None:
    """A kept connection that breaks under a request is a 502: the request is never sent again by the gateway."""
    requests: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            for _ in range(2):
                connection.settimeout(10)
                requests.append(read_until(connection, b"\r\n\r\n"))
                if len(requests) == 1:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        # A second connection would be a repeat.
        server.settimeout(1)
        with contextlib.suppress(TimeoutError):
            repeat, _ = server.accept()
            repeat.close()
            requests.append(b"repeat")

    thread = threading.Thread(target=serve)
    thread.start()
    gateway = own_gateway(base_of(server))
    fields = {"X-Lectr-Key": lectr.key, "X-Lectr-Feature": feature}
    with server:
        statuses = [fetch(f"{gateway.url}/v1/files/f", headers=fields, method=method)[0] for _ in range(2)]
        thread.join(20)
    assert statuses == [200, 502]
    assert len(requests) == 2


def test_malformed_chunking_from_a_client(lectr: Lectr, mock: MockProcess, feature: str) -> None:
    """A client whose chunking breaks gets 400 at once; nobody waits for the rest."""
    with connect(lectr.url) as client:
        client.sendall(head(lectr, feature, "Transfer-Encoding: chunked", "Expect: 100-continue"))
        read_until(client, b" 100 Continue\r\n\r\n")
        client.sendall(b"5\r\nhello\r\nZZ\r\n")
        assert read_until(client, b"invalid_request").startswith(b"HTTP/1.1 400 ")
    assert mock.requests() == []
    lectr.row_of(feature, status=400, error_source="client")


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b", "audio/wav"])
def test_upload_that_stalls(lectr: Lectr, mock: MockProcess, own_gateway: Any, feature: str, kind: str) -> None:
    """A body that stops arriving is given up after LECTR_CLIENT_TIMEOUT_S, held or streamed."""
    gateway = own_gateway(upstreams_of(mock.url), LECTR_CLIENT_TIMEOUT_S="0.3")
    start = head(lectr, feature, length=100).replace(b"application/json", kind.encode())
    with connect(gateway.url) as client:
        client.sendall(start + b'--b\r\n{"model"')
        assert read_until(client, b"request_timeout").startswith(b"HTTP/1.1 408 ")
    lectr.row_of(feature, status=408, error_category="timeout", error_source="client")
