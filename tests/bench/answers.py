"""HTTP answers as bytes, and whether they are what the upstream sent. Pure."""

import json
import re
from typing import Final, NamedTuple

from tests.bench.payloads import COMPLETION, DONE, OUTPUT_TOKENS, stream_body

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_PLACE: Final = len(b"HTTP/1.1 ")


class Answer(NamedTuple):
    status: int
    body: bytes


class BadAnswer(Exception):
    """An answer that is not what it must be."""


def read_answer(received: bytes) -> Answer | None:
    """The answer, once it is whole. Raises BadAnswer for what is no HTTP/1.1 or has bytes too many."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    if not received.startswith(b"HTTP/1.1 "):
        raise BadAnswer(f"no HTTP/1.1 answer: {received[:80]!r}")
    status = int(received[_PLACE : _PLACE + 3])
    start = end + 4
    if _CHUNKED.search(received, 0, end):
        body = _unchunked(received, start)
        return None if body is None else Answer(status, body)
    length = _LENGTH.search(received, 0, end)
    if not length:
        raise BadAnswer(f"neither a length nor chunks: {received[:end]!r}")
    missing = start + int(length[1]) - len(received)
    if missing < 0:
        raise BadAnswer(f"{-missing} bytes after the answer's end")
    return None if missing else Answer(status, received[start:])


def _unchunked(received: bytes, position: int) -> bytes | None:
    """A chunked body without its framing; None while it is not whole. Trailers are not expected."""
    parts: list[bytes] = []
    while True:
        line_end = received.find(b"\r\n", position)
        if line_end < 0:
            return None
        try:
            size = int(received[position:line_end], 16)
        except ValueError:
            raise BadAnswer(f"malformed chunk size {received[position:line_end][:20]!r}") from None
        position = line_end + 2 + size + 2
        if position > len(received):
            return None
        if received[position - 2 : position] != b"\r\n":
            raise BadAnswer("a chunk does not end where its size says")
        if not size:
            if position != len(received):
                raise BadAnswer(f"{len(received) - position} bytes after the answer's end")
            return b"".join(parts)
        parts.append(received[line_end + 2 : position - 2])


def check_completion(answer: Answer, *, exact: bool) -> None:
    """Raises BadAnswer unless this is the completion: byte for byte, or at least its usage if a gateway rewrites."""
    _check_status(answer)
    if not exact:
        tokens = json.loads(answer.body)["usage"]["completion_tokens"]
        if tokens != OUTPUT_TOKENS:
            raise BadAnswer(f"usage of {tokens} tokens instead of {OUTPUT_TOKENS}")
    elif answer.body != COMPLETION:
        raise BadAnswer(f"{len(answer.body)} bytes that are not the completion's {len(COMPLETION)}")


def check_stream(answer: Answer, count: int, *, exact: bool) -> None:
    """Raises BadAnswer unless this is the whole stream. Who rewrites events may drop those without content."""
    _check_status(answer)
    wanted = stream_body(count)
    if not exact:
        found = answer.body.count(b"data: {")
        if found < count - 3 or DONE.strip() not in answer.body:
            raise BadAnswer(f"{found} events of {count}, or no [DONE]")
    elif answer.body != wanted:
        raise BadAnswer(f"{len(answer.body)} bytes that are not the stream's {len(wanted)}")


def _check_status(answer: Answer) -> None:
    if answer.status != 200:
        raise BadAnswer(f"status {answer.status}: {answer.body[:300]!r}")
