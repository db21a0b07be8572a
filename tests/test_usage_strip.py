"""A stream that was asked for its usage, stripped: byte for byte the stream of a client that did not ask."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.providers.call import Call
from deploy.local.providers.chat_stream import stream_chat
from deploy.local.providers.routing import Route
from deploy.local.providers.tokens import TokenCounts
from gateway import usage_strip
from gateway.usage.jsontext import decode_value
from gateway.usage_strip import UsageStrip
from tests.test_usage_wire import CASES, Case

DONE = b"data: [DONE]\n\n"
USAGE_CHUNK = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'


def strip(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """What the client gets in all, and whether something was unsure."""
    stripping = UsageStrip()
    kept = b"".join([stripping.feed(piece) for piece in pieces]) + stripping.end()
    return kept, stripping.unsure


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def check(asked: bytes, unasked: bytes, *, unsure: bool = False) -> None:
    """Whole, byte by byte and cut at every offset, one becomes the other."""
    assert strip([asked]) == (unasked, unsure)
    assert strip(bytewise(asked)) == (unasked, unsure)
    for cut in range(len(asked)):
        assert strip([asked[:cut], asked[cut:]]) == (unasked, unsure), cut


def mock_stream(provider: str, *, asked: bool) -> bytes:
    """What the mock provider streams."""
    pieces = ("Mock", " façade", ' "usage":null', ',"usage":{}', " 東京")
    counts = TokenCounts(input_tokens=53, visible_tokens=len(pieces), reasoning_tokens=16)
    made = Call(
        route=Route(provider=provider, endpoint="chat/completions"),
        body={"stream": True, **({"stream_options": {"include_usage": True}} if asked else {})},
        requested_model="gpt-4o",
        counts=counts,
        pieces=pieces,
        sequence=7,
        created_s=1758968519,
    )
    return b"".join(stream_chat(made, legacy=False).pieces)


LINE_ENDS = pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])


@LINE_ENDS
@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic"])
def test_the_mock_providers_streams(provider: str, newline: bytes) -> None:
    """A stream with the option becomes the one without it, wherever it is cut; the latter stays as it is."""
    asked, unasked = (mock_stream(provider, asked=asked).replace(b"\n", newline) for asked in (True, False))
    assert b'"usage":{"prompt_tokens"' in asked
    check(asked, unasked)
    check(unasked, unasked)


WIRE = {
    f"{case.provider}: {case.name}": case.raw
    for case in (param.values[0] for param in CASES)
    if isinstance(case, Case) and "event-stream" in case.content_type and case.path.endswith("/chat/completions")
}
ASKED = [name for name, raw in WIRE.items() if b'"choices":[],"usage":{' in raw or b'"usage":null' in raw]
OWN_USAGE = [name for name in WIRE if name.startswith(("groq", "gemini"))]


def unasked_of(raw: bytes) -> bytes:
    """What a recorded stream would have been without the option."""
    events = [event for event in raw.split(b"\n\n") if b'"choices":[]' not in event or b'"usage":{' not in event]
    return b"\n\n".join(events).replace(b',"usage":null', b"")


@LINE_ENDS
@pytest.mark.parametrize("name", [name for name in ASKED if name not in OWN_USAGE])
def test_recorded_streams_that_were_asked(name: str, newline: bytes) -> None:
    """What the option added is gone, the rest is as it was; Azure's first chunk without choices stays."""
    asked, unasked = WIRE[name], unasked_of(WIRE[name])
    assert len(unasked) < len(asked)
    check(asked.replace(b"\n", newline), unasked.replace(b"\n", newline))


def is_beside_choices(event: bytes) -> bool:
    """Whether a chunk has both choices and a usage."""
    data = b"".join(line.removeprefix(b"data:") for line in event.splitlines() if line.startswith(b"data:"))
    chunk = decode_value(data)
    return isinstance(chunk, dict) and bool(chunk.get("choices") and chunk.get("usage"))


@pytest.mark.parametrize("name", [name for name in WIRE if name not in ASKED or name in OWN_USAGE])
def test_a_usage_that_may_come_unasked_stays(name: str) -> None:
    """Beside choices it may be the provider's own, as Groq's and Gemini's are: it stays, and that is said."""
    raw = WIRE[name]
    check(raw, unasked_of(raw), unsure=any(map(is_beside_choices, raw.split(b"\n\n"))))


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        # The member at any place, in any spacing.
        (b'data: {"choices":[1],"usage":null}\n\n', b'data: {"choices":[1]}\n\n'),
        (b'data: {"usage":null,"choices":[1]}\n\n', b'data: {"choices":[1]}\n\n'),
        (b'data: {"choices": [1], "usage": null, "x": 1}\n\n', b'data: {"choices": [1], "x": 1}\n\n'),
        (b'data: { "usage" : null , "choices": [1] }\n\n', b'data: { "choices": [1] }\n\n'),
        (b'data:{"choices":[],"usage":null}\n\n', b'data:{"choices":[]}\n\n'),
        (b'data: {"choices":["\\ud83d"],"usage":null}\n\n', b'data: {"choices":["\\ud83d"]}\n\n'),
        (b'data: {"choices":["\xf0\x9f"],"usage":null}\n\n', b'data: {"choices":["\xf0\x9f"]}\n\n'),
        (b'data: {"choices":[{"usage":null}],"usage":null}\n\n', b'data: {"choices":[{"usage":null}]}\n\n'),
        (b'data: {"choices":[{"usage":{}}],"usage":null}\n\n', b'data: {"choices":[{"usage":{}}]}\n\n'),
        # Other lines of the event, and its data in several lines.
        (b'event: x\nid: 5\ndata: {"choices":[1],"usage":null}\n\n', b'event: x\nid: 5\ndata: {"choices":[1]}\n\n'),
        (b'data: {"choices":[1],"usage":null}\n: c\n\n', b'data: {"choices":[1]}\n: c\n\n'),
        (b'data: {"choices":[1],\ndata: "x":1,"usage":null}\n\n', b'data: {"choices":[1],\ndata: "x":1}\n\n'),
        # The chunk, with all of its event; comments are not the event's.
        (USAGE_CHUNK, b""),
        (b'data: {"usage":{},"x":[{"usage":1}],"error":null,"choices":[ ]}\n\n', b""),
        (b'event: x\nid: 5\ndata: {"choices":[],"usage":{"a":1}}\n\n', b""),
        (b'\n: c\ndata: {"choices":[],\n: d\ndata: "usage":{"a":1}}\n\n', b"\n: c\n: d\n"),
        # Nobody added these.
        (b'data: {"choices":[{"usage":{"a":1}}]}\n\n', b'data: {"choices":[{"usage":{"a":1}}]}\n\n'),
        (b'data: {"choices":["\\"usage\\":null"]}\n\n', b'data: {"choices":["\\"usage\\":null"]}\n\n'),
        (b'data: {"choices":[],"x_groq":{"a":1,"usage":null}}\n\n', None),
        (b': {"choices":[1]}\n\n', None),
        (b'data: {"choices":[1]}\n: ,"usage":null}\n\n', None),
        (b"data: [DONE]\n\n", None),
        (b"\n\n\n\n", None),
        (b"", None),
    ],
)
def test_what_is_taken_out(event: bytes, kept: bytes | None) -> None:
    """The member alone with one comma, or the whole event; between others, at the end, and with any line end."""
    kept = event if kept is None else kept
    for newline in (b"\n", b"\r\n"):
        check(event.replace(b"\n", newline), kept.replace(b"\n", newline))
    check(DONE + event + DONE, DONE + kept + DONE)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{}}],"usage":{"a":1}}\n\n',
        b'data: {"choices":[],"usage":{"a":1},"error":{"message":"x"}}\n\n',
        b'data: {"choices":[],"usage":[1]}\n\n',
        b'data: {"choices":5,"usage":{"a":1}}\n\n',
        b'data: {"usage":{"a":1}}\n\n',
        b'data: {"choices":[1],"usage":null,"usage":null}\n\n',
        b'data: {"choices":[1],"usage":{"a":1},"usage":null}\n\n',
        b'data: {"choices":[],"usage":{"a":1}\n\n',
        b'data: {"choices":[],"usage":{"a":"\\ud83d"}} x\n\n',
        b'data: {"usage":null}\n\n',
        b'data: "usage"\n\n',
        b': {"choices":[1],"usage":null}\n\n',
        b'data: {"a":{"choices":[1],"usage":{"a":1}}\n\n',
        b'data: {"choices":[1],\ndata:"usage":null}\n\n',
        b'\xef\xbb\xbfdata: {"choices":[1],"usage":null}\n\n',
        b"data: " + b'{"usage":' * 5_000 + b"\n\n",
    ],
)
def test_what_is_unsure_goes_through(event: bytes) -> None:
    """What is not recognisably added is passed on unchanged, and that is said; what follows is stripped."""
    assert strip([DONE + event + USAGE_CHUNK + DONE]) == (DONE + event + DONE, True)
    assert strip(bytewise(event)) == (event, True)


def test_an_event_goes_on_when_it_is_complete() -> None:
    """Its last byte brings it, and nothing before: clients wait for no later event."""
    for newline in (b"\n", b"\r\n"):
        asked, unasked = (mock_stream("openai", asked=asked).replace(b"\n", newline) for asked in (True, False))
        ends = [event + 2 * newline for event in asked.split(2 * newline)[:-1]]
        expected = [event + 2 * newline for event in unasked.split(2 * newline)[:-1]]
        # The usage chunk, before the end marker, brings nothing.
        expected.insert(-1, b"")
        stripping = UsageStrip()
        for event, kept in zip(ends, expected, strict=True):
            assert stripping.feed(event[:-1]) == b""
            assert stripping.feed(event[-1:]) == kept


@pytest.mark.parametrize(
    ("end", "kept"), [(USAGE_CHUNK[:-2], b""), (b"data: [DONE]\n", b"data: [DONE]\n"), (b": c", b": c")]
)
def test_a_stream_without_its_last_line_end(end: bytes, kept: bytes) -> None:
    """What was held back when the stream ends is an event too: lenient clients take it."""
    check(DONE + end, DONE + kept)


def test_an_endless_event_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit nothing is held back: the rest goes through as it comes, and that is said."""
    monkeypatch.setattr(usage_strip, "LONGEST_EVENT_BYTES", 100)
    stripping = UsageStrip()
    start = b'data: {"choices":["'
    assert stripping.feed(DONE + start) == DONE
    assert stripping.feed(b"x" * 50) == b""
    assert not stripping.unsure
    assert stripping.feed(b"y" * 50) == start + b"x" * 50 + b"y" * 50
    assert stripping.unsure
    assert stripping.feed(b'"],"usage":null}\n\n' + USAGE_CHUNK) == b'"],"usage":null}\n\n' + USAGE_CHUNK
    assert stripping.end() == b""


def test_a_line_end_of_the_third_kind_passes() -> None:
    """From the first lone carriage return on a stream goes through at once, and that is said."""
    stream = b'data: {"choices":[1],"usage":null}\n\ndata: {"choices":[2],"usage":null}\r\r' + USAGE_CHUNK
    kept = stream.replace(b',"usage":null', b"", 1)
    check(stream, kept, unsure=True)
    stripping = UsageStrip()
    first = b'data: {"choices":[1]}\r\r'
    assert stripping.feed(first) == first


@pytest.mark.parametrize(
    "piece", [b'"usage":null,', b'"usage":{},', b'{"usage":null},', b'[{"a":1,"usage":null}],', b'x",\n"usage":null,']
)
def test_large_events_take_few_parses(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """An event of a MiB full of the word costs no more parses than a small one, in however many pieces it comes."""
    parses: list[int] = []
    for name in ("_decode_chunk", "_decode_rest"):
        decode = getattr(usage_strip, name)

        def counted(data: bytes, decode: Any = decode) -> Any:
            parses.append(len(data))
            return decode(data)

        monkeypatch.setattr(usage_strip, name, counted)
    event = b'data: {"choices":[' + piece * (900_000 // len(piece)) + b'1],"usage":null}\n\n'
    assert event.endswith(strip([event[at : at + 50] for at in range(0, len(event), 50)])[0][-20:])
    assert len(parses) <= 2 + usage_strip._MOST_PLACES


TEXTS = st.text(
    st.characters(exclude_categories=()) | st.sampled_from('"usage:null,{}\\'), max_size=12
) | st.sampled_from(['"usage":null', ',"usage":null}', "usage", '\\"usage":null,'])
INNER = st.dictionaries(
    st.sampled_from(["usage", "id", "content"]), TEXTS | st.none() | st.just({"usage": None}), max_size=3
)


@st.composite
def event(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An event as it comes with the option, and without it."""
    kind = draw(st.sampled_from(["chunk", "chunk", "chunk", "usage", "comment", "done", "named"]))
    if kind == "comment":
        comment = b": " + draw(st.sampled_from([b"ping", b'{"choices":[]}', b""])) + b"\n\n"
        return comment, comment
    if kind == "done":
        return DONE, DONE
    gap, ascii_only = draw(st.sampled_from(["", " "])), draw(st.booleans())

    def line(members: dict[str, Any]) -> bytes:
        written = json.dumps(members, ensure_ascii=ascii_only, separators=(f",{gap}", f":{gap}"))
        return b"data: " + written.encode("utf-8", "replace") + b"\n\n"

    members = {"id": draw(TEXTS), "choices": [{"delta": draw(INNER)}], "x": draw(INNER), "obfuscation": draw(TEXTS)}
    order = draw(st.permutations(list(members)))
    chunk = {name: members[name] for name in order}
    if kind == "usage":
        return line({**chunk, "choices": [], "usage": {"prompt_tokens": 5, "details": draw(INNER)}}), b""
    at = draw(st.integers(0, len(chunk)))
    asked = {name: chunk.get(name) for name in (*order[:at], "usage", *order[at:])}
    name = b"event: message\n" if kind == "named" else b""
    return name + line(asked), name + line(chunk)


@settings(max_examples=300)
@given(st.lists(event(), max_size=5), st.lists(st.integers(0, 2_000), max_size=5), st.sampled_from([b"\n", b"\r\n"]))
def test_any_stream_becomes_the_one_without_the_option(
    events: list[tuple[bytes, bytes]], cuts: list[int], newline: bytes
) -> None:
    """Whatever chunks say and wherever they are cut: what is added is gone, and every other byte is there."""
    asked, unasked = (b"".join(pair[which] for pair in events).replace(b"\n", newline) for which in (0, 1))
    pieces = [asked[start:end] for start, end in pairwise([0, *sorted(cuts), len(asked)])]
    kept, unsure = strip(pieces)
    # Half a surrogate pair is nothing that a strict parser finds a usage beside, if it stands there more than once.
    assert kept == unasked or (unsure and b"\\ud" in asked)
    assert strip([asked]) == (kept, unsure)
    assert (kept, unsure) == strip(bytewise(asked))


@settings(max_examples=300)
@given(
    st.lists(
        st.binary(max_size=4)
        | st.sampled_from(
            [b"data: ", b'{"choices":[', b"]", b',"usage":null', b'"usage":{', b"}", b"\n", b"\n\n", b"\r", b":"]
        ),
        max_size=30,
    )
)
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    """Any bytes in any pieces: never an exception, nothing invented, and without the word nothing is changed."""
    data = b"".join(pieces)
    kept, _ = strip(pieces)
    assert kept == data if b'"usage"' not in data else len(kept) <= len(data)
    assert strip(bytewise(data))[0] == kept
