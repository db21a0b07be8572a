"""Requests for streams as raw bytes: plain ones, and those that say it elsewhere or so that no gateway can read it."""

import gzip
import json
from collections.abc import Callable
from typing import Any, Final

from tests.canaries import provider_key

FILE: Final = 'name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF'


def request_of(key: str, *, feature: str = "", connection: str = "keep-alive", **more: Any) -> bytes:
    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": True, **more}).encode()
    return request_with(key, "/v1/chat/completions", body, feature=feature, connection=connection)


def request_with(
    key: str, path: str, body: bytes, *lines: str, feature: str = "", connection: str = "keep-alive"
) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"X-Lectr-Key: {key}", f"X-Lectr-Feature: {feature}"]
    head += [f"Authorization: Bearer {provider_key('held')}", f"Content-Length: {len(body)}"]
    head += [*lines, f"Connection: {connection}", "", ""]
    return "\r\n".join(head).encode() + body


def unreadable(key: str, **more: Any) -> bytes:
    """A request for a stream that no gateway can tell from any other."""
    body = gzip.compress(json.dumps({"model": "gpt-4o", "messages": [], "stream": True}).encode())
    return request_with(key, "/v1/chat/completions", body, "Content-Encoding: gzip", **more)


def form(key: str, *parts: str) -> bytes:
    """A transcription; a part without a value is a file."""
    fields = [part.partition("=") for part in parts]
    named = [f'name="{name}"\r\n\r\n{value}' if is_field else FILE for name, is_field, value in fields]
    body = "".join(f"--B\r\nContent-Disposition: form-data; {part}\r\n" for part in named) + "--B--\r\n"
    content_type = "Content-Type: multipart/form-data; boundary=B"
    return request_with(key, "/v1/audio/transcriptions", body.encode(), content_type)


GEMINI: Final = "/v1beta/models/gemini-2.5-flash"
SPEECH: Final = {"model": "gpt-4o-mini-tts", "input": "x", "voice": "alloy"}
ASKED: Final[dict[str, Callable[[str], bytes]]] = {
    "form": lambda key: form(key, "model=gpt-4o-transcribe", "language=en", "stream=true", "file"),
    "form, stream first": lambda key: form(key, "stream=True", "model=gpt-4o-transcribe", "file"),
    "form, file first": lambda key: form(key, "file", "model=gpt-4o-transcribe", "stream=1"),
    "speech": lambda key: request_with(
        key, "/v1/audio/speech", json.dumps({**SPEECH, "stream_format": "sse"}).encode()
    ),
    "path": lambda key: request_with(key, f"{GEMINI}:streamGenerateContent?alt=sse", b'{"contents": []}'),
    "compressed, path": lambda key: request_with(
        key, f"{GEMINI}:streamGenerateContent", gzip.compress(b'{"contents": []}'), "Content-Encoding: gzip"
    ),
}
UNASKED: Final[dict[str, Callable[[str], bytes]]] = {
    "compressed": unreadable,
    "form, behind the file": lambda key: form(key, "model=gpt-4o-transcribe", "file", "stream=true"),
    "no type": lambda key: request_with(key, "/v1/elsewhere", b"stream", "Content-Type: application/octet-stream"),
}
