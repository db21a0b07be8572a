"""Chunks that are alike are read without a parser: what is noted is what the parser would have noted."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage import Call, Reading, open_meter
from gateway.usage.alike import AlikeChunks
from gateway.usage.chat_answer import text_of_chunk
from gateway.usage.tally import Tally

CALL = Call(provider="openai", method="POST", path="/v1/chat/completions", content_bytes=80, message_count=2)


def chunk(text: str | None, *, spaced: bool = False, raw: bool = False, **others: Any) -> bytes:
    document = {
        "id": "chatcmpl-1",
        "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        "usage": None,
        **others,
    }
    return event(json.dumps(document, separators=None if spaced else (",", ":"), ensure_ascii=not raw).encode())


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def with_content(value: bytes) -> bytes:
    """A chunk around a JSON value that no encoder would make."""
    return event(b'{"choices":[{"index":0,"delta":{"content":%s}}],"model":"m"}' % value)


def beside(other: str, text: str) -> bytes:
    """A chunk with another text of the same name before its own."""
    return event(b'{"note":{"content":"%s"},"choices":[{"delta":{"content":"%s"}}]}' % (other.encode(), text.encode()))


def tiered(text: str, *, then: str = "") -> bytes:
    """A chunk of the tier `flex`; with `then`, one that goes on to another tier and another text, and ends alike."""
    more = f'"}}}}],"service_tier":"priority","choices":[{{"delta":{{"content":"{then}' if then else ""
    return event(f'{{"service_tier":"flex","model":"m","choices":[{{"delta":{{"content":"{text}{more}"}}}}]}}'.encode())


USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
FINISH = chunk(None, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
ODD = (
    FINISH,
    chunk(None, choices=[], usage=USAGE),
    chunk("x", service_tier="flex"),
    chunk("x", usage=USAGE),
    chunk("x", usage=USAGE, service_tier="priority"),
    chunk("x", error={"message": "no", "type": "server_error"}),
    chunk(None),
    chunk("x", choices=[{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]),
    chunk("x", choices=[{"delta": {"content": "a", "reasoning_content": "hm"}}]),
    event(b"[DONE]"),
    event(b""),
    event(b"not json"),
    b": a comment\n\n",
    b"event: ping\ndata: {}\n\n",
    b"\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"two',
    b'lines"}}],\ndata: "model":"m"}\n\n',
    chunk("x").replace(b"\n", b"\r\n"),
    chunk("x").replace(b"\n", b"\r"),
    chunk("x").removeprefix(b"data: "),
    chunk("x").replace(b"data: ", b"data:"),
    chunk("x")[:-1],
    with_content(b'"a","content":"b"'),
    tiered("x"),
    tiered("x", then="y"),
    beside("", "0"),
    beside("x", "x0"),
    with_content(b'"a","c\\u006fntent":"b"'),
    with_content(b'null,"refusal":"\\"content\\":\\"c\\""'),
    with_content(b'"\\ud800"'),
    with_content(b'"\xff"'),
    with_content(b'"\xc3'),
    with_content(b'"\xc3"'),
    with_content(b'"\xa9"'),
    with_content(b'"a\x01b"'),
    with_content(b'"a\tb"'),
    event(b'{"id":"\\"content\\":\\"x\\"","choices":[{"delta":{"content":"x"}}]}'),
    event(b'{"note":{"content":"x"},"choices":[{"delta":{"c\\u006fntent":"x"}}]}'),
    event(b'{"choices":[{"delta":{"content":"x"}}],"content":"x"}'),
)
TEXTS = st.text(st.sampled_from('ab \u00e9\u4e16"\\\n\t\u007f\U0001f600'), max_size=4)
ALIKE = st.builds(
    chunk,
    TEXTS,
    spaced=st.booleans(),
    raw=st.booleans(),
    id=st.sampled_from(["chatcmpl-1", "chatcmpl-1", "chatcmpl-2"]),
    model=st.sampled_from(["", "gpt-5-mini-2025-08-07", "gpt-5-mini-2025-08-07"]),
    service_tier=st.sampled_from([None, None, "default", "flex"]),
)
PADDED = st.builds(chunk, TEXTS, obfuscation=st.sampled_from(["a", "bc", "def", "ghij"]))
RUN = st.builds(lambda texts: b"".join(map(chunk, texts)), st.lists(TEXTS, min_size=2, max_size=20))
STREAMS = st.lists(RUN | ALIKE | PADDED | st.sampled_from(ODD), max_size=12)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def told(pieces: Sequence[bytes], *, complete: bool) -> tuple[list[tuple[bool, bool]], Reading]:
    meter = open_meter(CALL, 200, "text/event-stream", "")
    seen = []
    for piece in pieces:
        meter.feed(piece)
        seen.append((meter.token_seen, meter.ended))
    return seen, meter.finish(complete=complete)


@given(parts=STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8), complete=st.booleans())
@example(parts=[chunk("a"), chunk("b") + FINISH, event(b"[DONE]")], places=[], complete=True)
@example(parts=[with_content(b'"a"'), with_content(b'"\xc3"') + with_content(b'"\xa9"')], places=[], complete=True)
@example(
    parts=[
        chunk("a", service_tier="flex"),
        chunk("", usage=USAGE, service_tier="priority"),
        chunk("b", service_tier="flex") * 2,
    ],
    places=[],
    complete=True,
)
@example(parts=[beside("x", "x"), beside("yy", "x") * 2], places=[], complete=True)
@example(parts=[beside("x", "x0"), beside("yy", "x0") * 3], places=[], complete=True)
@example(parts=[beside("", "0"), beside("", "0") * 3], places=[], complete=True)
@example(parts=[tiered("a"), tiered("x", then="y"), tiered("b")], places=[], complete=True)
@example(parts=[tiered("a") + tiered("x", then="y"), tiered("b") * 3, FINISH], places=[], complete=True)
@settings(max_examples=600, deadline=None)
def test_same_as_parsed(*, parts: list[bytes], places: list[int], complete: bool) -> None:
    """Streams of all shapes, cut anywhere, give what they give when each chunk is parsed."""
    stream = b"".join(parts)
    for pieces in (parts, cut(stream, places)):
        found = told(pieces, complete=complete)
        with mock.patch.object(AlikeChunks, "read_run", return_value=0):
            expected = told(pieces, complete=complete)
        assert found == expected


def runs_read(tally: Tally, first: bytes, stream: bytes) -> int:
    chunks = AlikeChunks(tally)
    assert chunks.read(first[6:-2])
    return chunks.read_run(stream)


def test_run_needs_no_parser() -> None:
    """What is like the first is read up to the first that is not, and its text is counted."""
    tally = Tally("openai")
    alike = b"".join(map(chunk, (" two", "", " th ree")))
    assert runs_read(tally, chunk("one"), alike + FINISH + chunk("four")) == len(alike)
    assert tally.text_bytes == len("one two th ree")


def test_signs_beyond_ascii_are_counted_in_bytes() -> None:
    """Text is measured as UTF-8, whichever way it is read."""
    tally = Tally("openai")
    alike = chunk("\u4e16\u00e9", raw=True) + chunk("\U0001f600", raw=True)
    assert runs_read(tally, chunk("one"), alike) == len(alike)
    assert tally.text_bytes == 3 + 3 + 2 + 4


def test_padded_chunks_are_not_learned_for_ever() -> None:
    """A stream whose chunks are padded at random is parsed; to learn from each of them would cost as much again."""
    chunks = AlikeChunks(Tally("openai"))
    with mock.patch("gateway.usage.alike.text_of_chunk", wraps=text_of_chunk) as asked:
        for number in range(100):
            data = chunk("x", obfuscation=f"{number}")[6:-2]
            assert chunks.read_run(event(data)) == 0
            assert chunks.read(data)
    assert 0 < asked.call_count < 20
