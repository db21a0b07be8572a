"""Requests as raw bytes over a socket, where a client library would tidy them up."""

import socket

from tests.canaries import provider_key
from tests.lectr import Lectr

KEY = provider_key("raw")


def head(lectr: Lectr, feature: str, *more: str, length: int = 0) -> bytes:
    """A raw request head of a chat completion."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: gateway",
        f"X-Lectr-Key: {lectr.key}",
        f"X-Lectr-Feature: {feature}",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        *([f"Content-Length: {length}"] if length else []),
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read_until(client: socket.socket, marker: bytes) -> bytes:
    received = b""
    while marker not in received:
        chunk = client.recv(65_536)
        assert chunk, f"closed before {marker!r}: {received!r}"
        received += chunk
    return received


def read_all(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return received
