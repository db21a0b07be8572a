"""Answers as they come over the wire, cut everywhere: same bytes, same reading."""

import base64
import gzip
import sys
import tomllib
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest

from gateway.usage import Call, Reading, open_meter, read_whole
from shared.event import Usage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WIRE = Path(__file__).parent / "wire"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case of a file in tests/wire; see the README there."""

    name: str
    provider: str
    path: str
    reading: dict[str, Any]
    method: str = "POST"
    content_bytes: int = 80
    message_count: int = 2
    status: int = 200
    content_type: str = "application/json"
    content_encoding: str = ""
    body: str = ""
    body_base64: str = ""
    complete: bool = True
    total_tokens: int | None = None
    faulted: bool = False

    @property
    def raw(self) -> bytes:
        return base64.b64decode(self.body_base64) or self.body.encode()

    @property
    def expected(self) -> Reading:
        empty = {
            "usage": {},
            "model": "",
            "finish_reason": "",
            "error_category": "",
            "error_source": "",
            "provider_request_id": "",
            "service_tier": "",
        }
        merged = {**empty, **self.reading}
        usage = Usage(**merged.pop("usage"))
        return Reading(usage=usage, **merged)


CASES = [
    pytest.param(case, id=f"{file.stem}: {case.name}")
    for file in sorted(WIRE.glob("*.toml"))
    for case in msgspec.convert(tomllib.loads(file.read_text())["case"], list[Case])
]
PLAIN = [param for param in CASES if isinstance(param.values[0], Case) and not param.values[0].content_encoding]


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def two_members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


def two_frames(data: bytes) -> bytes:
    half = len(data) // 2
    return zstd.compress(data[:half]) + zstd.compress(data[half:])


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in two members": ("x-gzip", two_members),
    "gzip with padding": ("GZIP", lambda data: gzip.compress(data) + bytes(8)),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", deflated),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd in two frames": ("zstd", two_frames),
    "gzip over br": ("identity, br, gzip", lambda data: gzip.compress(brotli.compress(data))),
}


def call_of(case: Case) -> Call:
    return Call(
        provider=case.provider,
        method=case.method,
        path=case.path,
        content_bytes=case.content_bytes,
        message_count=case.message_count,
    )


def read(case: Case, chunks: Iterable[bytes], *, encoding: str | None = None) -> tuple[Reading, bool]:
    call = call_of(case)
    encoding = case.content_encoding if encoding is None else encoding
    meter = open_meter(call, case.status, case.content_type, encoding)
    for chunk in chunks:
        meter.feed(chunk)
    return meter.finish(complete=case.complete), meter.faulted


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


@pytest.mark.parametrize("case", CASES)
def test_every_recorded_answer_gives_its_reading(case: Case) -> None:
    """What a provider reports arrives in the right fields, and what it does not report is not invented."""
    reading, faulted = read(case, [case.raw])
    assert reading == case.expected
    assert faulted == case.faulted
    if case.total_tokens is not None:
        assert reading.usage.input_tokens + reading.usage.output_tokens == case.total_tokens


def test_an_answer_that_is_read_at_once_reads_the_same() -> None:
    """The short way for whole plain answers takes the usual ones, and finds in them what a meter finds."""
    short = 0
    for case in (param.values[0] for param in PLAIN):
        assert isinstance(case, Case)
        if case.complete and (reading := read_whole(call_of(case), case.status, case.content_type, case.raw)):
            assert (reading, False) == (case.expected, case.faulted), case.name
            short += 1
    assert short >= 5


@pytest.mark.parametrize("case", CASES)
def test_it_does_not_matter_where_the_network_cuts(case: Case) -> None:
    """Byte by byte, and cut in two at every offset, an answer reads the same."""
    raw = case.raw
    assert read(case, bytewise(raw)) == (case.expected, case.faulted)
    for cut in range(len(raw)):
        assert read(case, [raw[:cut], raw[cut:]]) == (case.expected, case.faulted), cut


@pytest.mark.parametrize("newline", ["\r\n", "\r"], ids=["crlf", "cr"])
@pytest.mark.parametrize(
    "case", [param for param in PLAIN if "event-stream" in getattr(param.values[0], "content_type", "")]
)
def test_every_line_end_is_a_line_end(case: Case, newline: str) -> None:
    """Events end with any of the three line ends, after a byte order mark too, wherever they are cut."""
    raw = b"\xef\xbb\xbf" + case.raw.replace(b"\n", newline.encode())
    assert read(case, bytewise(raw)) == (case.expected, case.faulted)
    for cut in range(len(raw)):
        assert read(case, [raw[:cut], raw[cut:]]) == (case.expected, case.faulted), cut


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("case", PLAIN)
def test_every_encoding_is_undone(case: Case, name: str) -> None:
    """A compressed answer reads like a plain one, whole and byte by byte."""
    encoding, pack = ENCODINGS[name]
    packed = pack(case.raw)
    assert read(case, [packed], encoding=encoding) == (case.expected, case.faulted)
    assert read(case, bytewise(packed), encoding=encoding) == (case.expected, case.faulted)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("case", [PLAIN[index] for index in range(0, len(PLAIN), 9)])
def test_every_encoding_is_undone_wherever_it_is_cut(case: Case, name: str) -> None:
    """A compressed answer cut in two at every offset reads the same."""
    encoding, pack = ENCODINGS[name]
    packed = pack(case.raw)
    for cut in range(len(packed)):
        assert read(case, [packed[:cut], packed[cut:]], encoding=encoding) == (case.expected, case.faulted), cut


def test_a_usage_of_mixed_spellings_is_not_read_the_short_way() -> None:
    """Details under the other dialect's name count as well, where their own are empty: the general reader's matter."""
    details = b'"prompt_tokens_details":{},"input_tokens_details":{"cached_tokens":1}'
    usage = b'{"prompt_tokens":100,"completion_tokens":12,%b}' % details
    body = b'{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":%b}' % usage
    call = Call("openai", "POST", "/v1/chat/completions", 1, 1)
    assert read_whole(call, 200, "application/json", body) is None
    meter = open_meter(call, 200, "application/json", "")
    meter.feed(body)
    found = meter.finish(complete=True).usage
    assert (found.input_uncached_tokens, found.input_cache_read_tokens) == (99, 1)
