"""Usage meters at their limits: large answers, memory, bombs, damaged encodings."""

import gzip
import json
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest

from gateway.usage import Call, Meter, open_meter
from gateway.usage.bounded import HEAD_BYTES, TAIL_BYTES, WHOLE_LIMIT_BYTES
from gateway.usage.encodings import FREE_BYTES, MAX_RATIO, STEP_BYTES, EncodingFault, open_decoder
from shared.event import Usage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SSE = "text/event-stream"
JSON = "application/json"
CHAT = "/v1/chat/completions"


def meter_for(path: str = CHAT, content_type: str = SSE, *, encoding: str = "") -> Meter:
    call = Call(provider="openai", method="POST", path=path, content_bytes=80, message_count=2)
    return open_meter(call, 200, content_type, encoding)


def total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens


def parts(head: str, filler: str, tail: str, size: int = 3 * WHOLE_LIMIT_BYTES) -> bytes:
    return (head + filler * (size // len(filler)) + tail).encode()


NESTED = '{"usage":{"prompt_tokens":666,"completion_tokens":666,"total_tokens":1332},"model":"evil"}'
LARGE = {
    "embeddings": (
        "/v1/embeddings",
        JSON,
        parts(
            '{"object":"list","data":[{"embedding":[0.5',
            ",-0.0123",
            ']}],"model":"text-embedding-3-large","usage":{"prompt_tokens":9,"total_tokens":9}}',
        ),
        ("text-embedding-3-large", "", 9),
    ),
    "picture": (
        "/v1/images/generations",
        JSON,
        parts(
            '{"created":1,"data":[{"b64_json":"',
            "aGVsbG8h",
            '"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}',
        ),
        ("", "", 3),
    ),
    "chat with tool arguments that look like usage": (
        CHAT,
        JSON,
        parts(
            '{"id":"c","model":"gpt-4o","choices":[{"message":{"content":"',
            'say \\"usage\\":{} ',
            f'","x":{NESTED},"tool":{json.dumps(NESTED)}}},"finish_reason":"stop"}}],'
            '"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}',
        ),
        ("gpt-4o", "stop", 12),
    ),
    "message": (
        "/v1/messages",
        JSON,
        parts(
            '{"model":"claude-x","content":[{"text":"',
            "la ",
            f'"}},{{"input":{NESTED}}}],"stop_reason":"end_turn","usage":{{"input_tokens":5,"output_tokens":7}}}}',
        ),
        ("claude-x", "end_turn", 12),
    ),
    "last event of a response": (
        "/v1/responses",
        SSE,
        parts(
            'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed",'
            '"model":"gpt-5","output":[{"result":"',
            "aGVsbG8h",
            '"}],"usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}},"sequence_number":9}\n\n',
        ),
        ("gpt-5", "completed", 12),
    ),
    "array of pieces": (
        "/v1beta/models/gemini-3-flash:streamGenerateContent",
        JSON,
        parts(
            '[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"',
            "aGVsbG8h",
            '"}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7,'
            '"totalTokenCount":12},"modelVersion":"gemini-3-flash"}\n]\n',
        ),
        ("gemini-3-flash", "STOP", 12),
    ),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("chunk_bytes", [1021, 65536, 10**9])
def test_figures_are_found_in_what_is_too_large_to_keep(name: str, chunk_bytes: int) -> None:
    """The ends of a large answer tell its usage and its model, and nothing inside it can pretend to be them."""
    path, content_type, body, (model, finish_reason, tokens) = LARGE[name]
    meter = meter_for(path, content_type)
    for at in range(0, len(body), chunk_bytes):
        meter.feed(body[at : at + chunk_bytes])
    reading = meter.finish(complete=True)
    assert (reading.model, reading.finish_reason, total(reading.usage)) == (model, finish_reason, tokens)
    assert reading.usage_source == "provider"
    assert not meter.faulted


def test_what_is_too_large_and_says_nothing_is_a_fault() -> None:
    """Without figures at its ends, a large answer has no usage, and is counted as unread."""
    meter = meter_for(CHAT, JSON)
    for _ in range(40):
        meter.feed(b"[" * 65536)
    assert meter.finish(complete=True).usage_source == "absent"
    assert meter.faulted


def endless(kind: str) -> Iterator[bytes]:
    piece = {
        "line": b"data: " + b"x" * 65530,
        "event": (b"data: " + b"x" * 1017 + b"\n") * 64,
        "comment": b":" + b"x" * 65534 + b"\n",
        "document": b'{"a":"' + b"x" * 65530,
        "fields": b"",
        "tiny": b"xyzxyz",
    }[kind]
    for number in range(360_000 if kind == "tiny" else 256):
        if kind == "fields":
            members = ",".join(f'"f{number}_{index}":1' for index in range(500))
            yield f'data: {{"type":"message_delta","usage":{{{members},"output_tokens":1}}}}\n\n'.encode()
        else:
            yield piece


@pytest.mark.parametrize(
    ("kind", "path", "content_type"),
    [
        ("line", CHAT, SSE),
        ("event", CHAT, SSE),
        ("comment", CHAT, SSE),
        ("document", CHAT, JSON),
        ("fields", "/v1/messages", SSE),
        ("tiny", CHAT, JSON),
        ("tiny", CHAT, SSE),
    ],
)
def test_memory_is_bounded(kind: str, path: str, content_type: str) -> None:
    """Lines, events and documents without end, and names without end, take a few megabytes and no more."""
    meter = meter_for(path, content_type)
    tracemalloc.start()
    try:
        for chunk in endless(kind):
            meter.feed(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
        meter.finish(complete=True)
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * WHOLE_LIMIT_BYTES + HEAD_BYTES + 4 * TAIL_BYTES


BOMB = bytes(64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(BOMB)),
        ("br", brotli.compress(BOMB, quality=5)),
        ("zstd", zstd.compress(BOMB)),
        ("gzip, gzip", gzip.compress(gzip.compress(BOMB))),
    ],
)
def test_a_bomb_is_not_decoded_to_its_end(encoding: str, bomb: bytes) -> None:
    """Decoding stops where no plausible answer could be, and the answer counts as unread."""
    decoder = open_decoder(encoding)
    assert decoder is not None
    sizes: list[int] = []
    with pytest.raises(EncodingFault):
        sizes.extend(map(len, decoder.decode(bomb)))
    assert 0 < sum(sizes) <= FREE_BYTES + MAX_RATIO * len(bomb)
    meter = meter_for(CHAT, JSON, encoding=encoding)
    meter.feed(bomb)
    meter.feed(bomb)
    reading = meter.finish(complete=True)
    assert (reading.usage_source, reading.error_category) == ("absent", "")
    assert meter.faulted


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress), ("zstd", zstd.compress)],
)
@pytest.mark.parametrize("excess_bytes", [-1, 0, 1, 300, STEP_BYTES])
def test_no_output_is_left_behind_in_a_decoder(
    encoding: str, pack: Callable[[bytes], bytes], excess_bytes: int
) -> None:
    """What a few bytes decode to comes out in full, in steps, before more bytes are needed."""
    data = b"data: {}\n\n" * 1000 + b"a" * (3 * STEP_BYTES + excess_bytes - 10_000)
    packed = pack(data)
    decoder = open_decoder(encoding)
    assert decoder is not None
    pieces = list(decoder.decode(packed[:-8])) if encoding == "gzip" else list(decoder.decode(packed))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 2 * STEP_BYTES


def test_a_window_beyond_the_standard_is_refused() -> None:
    """A zstd frame cannot make the gateway set aside more than RFC 9659's 8 MiB."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.content_size_flag: 0,
        zstd.CompressionParameter.compression_level: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(b"data: [DONE]\n\n") + packer.flush()
    decoder = open_decoder("zstd")
    assert decoder is not None
    with pytest.raises(EncodingFault):
        list(decoder.decode(frame))


def test_what_was_read_before_the_damage_still_counts() -> None:
    """A stream whose encoding breaks keeps the figures that were already there, as partial ones."""
    event = b'data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":10,"output_tokens":2}}}\n\n'
    meter = meter_for("/v1/messages", SSE, encoding="gzip")
    meter.feed(gzip.compress(event) + b"\x1f\x8b" + b"\xff" * 50)
    reading = meter.finish(complete=True)
    assert (reading.usage_source, reading.usage.input_tokens, reading.model) == ("provider_partial", 10, "m")
    assert meter.faulted
