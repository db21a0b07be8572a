"""Usage asked for on behalf of a client: one insertion in the body, nothing else, and only where it is sure."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import usage_request
from gateway.destination import Way
from gateway.redirect import Step
from gateway.request_body import json_facts
from gateway.upstream import Origin
from gateway.usage_request import asking_for_usage, wants_usage, with_usage
from shared.organisation import Org

WHOLE = b'"stream_options":{"include_usage":true},'
MEMBER = b'"include_usage":true,'
LONE = b'"include_usage":true'
TOOL = b'{"parameters":{"properties":{"stream":{"type":"boolean"},"stream_options":{"x":1}}}}'


@pytest.mark.parametrize(
    ("before", "inserted", "after"),
    [
        # No options yet: they come first.
        (b"{", WHOLE, b'"model":"gpt-4o","messages":[],"stream":true}'),
        (b" \r\n{", WHOLE, b'\n  "stream" : true , "model" : "gpt-4o" }\n'),
        (b"{", WHOLE, b'"x":"\\"stream_options\\":{}","stream":true,"y":{"stream_options":{"include_usage":true}}}'),
        (b"{", WHOLE, b'"tools":[' + TOOL + b'],"y":{"stream":true},"stream":true}'),
        (b"{", WHOLE, b'"content":"caf\\u00e9 \\u0073tream","stream":true}'),
        (b"{", WHOLE, b'"stream":true,"x":"\xff"}'),
        # Options of another kind: one more member.
        (b'{"stream":true,"stream_options":{', LONE, b"}}"),
        (b'{"stream":true,"stream_options" : {', LONE, b" } }"),
        (b'{"stream_options":{', MEMBER, b'"include_obfuscation":false},"stream":true}'),
        (b'{"tools":[' + TOOL + b'],"stream":true,"stream_options":{', MEMBER, b'"a":{"include_usage":true}}}'),
    ],
)
def test_one_insertion(before: bytes, inserted: bytes, after: bytes) -> None:
    """The option is put into the request's own options, or these before everything else; no other byte is changed."""
    assert check(before + after) == before + inserted + after
    assert with_usage(bytearray(before + after)) == before + inserted + after


@pytest.mark.parametrize(
    "body",
    [
        # The client has said what it wants.
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":{"include_usage":null}}',
        b'{"stream":true,"stream_options":{"include\\u005fusage":false}}',
        b'{"stream":true,"stream_options":null}',
        # No stream: the option would be refused.
        b"{}",
        b'{"stream":false}',
        b'{"stream":null}',
        b'{"stream":"true"}',
        b'{"stream":1}',
        b'{"x":{"stream":true}}',
        # What parsers read differently.
        b'{"stream":false,"stream":true}',
        b'{"stream":true,"stream":true}',
        b'{"str\\u0065am":false,"stream":true}',
        b'{"stream":true,"str\\u0065am":true}',
        b'{"str\\u0065am":true}',
        b'{"stream":true,"stream_options":{},"stream_options":{}}',
        b'{"stream":true,"stream_options":{},"stream\\u005foptions":{}}',
        b'{"stream":true,"stream\\u005foptions":{}}',
        b'{"stream":true,"stream_options":{"a":1,"a":2},"stream_options":null}',
        # What is no such option, or no JSON.
        b'{"stream":true,"stream_options":[]}',
        b'{"stream":true,"stream_options":"x"}',
        b'{"stream":true,"x":NaN}',
        b'{"stream":true,"x":"\\ud83d"}',
        b'{"stream":true',
        b'{"stream":true} {}',
        b'[{"stream":true}]',
        b'\xef\xbb\xbf{"stream":true}',
        b"",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"stream":true}',
    ],
)
def test_what_is_left_alone(body: bytes) -> None:
    """Whatever the client decided itself, asks for no stream, or is unsure, is not edited."""
    assert with_usage(body) is None


def read_pairs(body: bytes) -> Any:
    return json.loads(body.decode("utf-8", "replace"), object_pairs_hook=tuple)


def check(body: bytes) -> bytes | None:
    """Edit; what was edited must mean the same and the option."""
    edited = with_usage(body)
    if edited is None:
        return None
    before, after = read_pairs(body), read_pairs(edited)
    names = [name for name, _ in before]
    assert names.count("stream") == 1
    if "stream_options" in names:
        at = names.index("stream_options")
        assert after[at] == ("stream_options", (("include_usage", True), *before[at][1]))
        assert after[:at] + after[at + 1 :] == before[:at] + before[at + 1 :]
    else:
        assert after == (("stream_options", (("include_usage", True),)), *before)
    facts = json_facts(body)
    assert facts.stream
    assert json_facts(edited) == msgspec.structs.replace(facts, include_usage=True)
    return edited


NAMES = st.sampled_from(["stream", "stream_options", "include_usage", "model", "tools", 'a"stream', "stream\\"])
VALUES = st.recursive(
    st.sampled_from([True, False, None, 1, "stream", '"stream":true', "é", "include_usage", "\ud83d", float("nan")]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


@st.composite
def body(draw: st.DrawFn, members: st.SearchStrategy[list[tuple[str, Any]]] = MEMBERS) -> bytes:
    """An object of these members, duplicates too, as some serializer may write it."""
    ascii_only, gap = draw(st.booleans()), draw(st.sampled_from(["", " ", "\n\t"]))

    def written(value: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, separators=(f",{gap}", f":{gap}"))

    pairs = [f"{gap}{written(name)}{gap}:{gap}{written(value)}" for name, value in draw(members)]
    return (gap + "{" + ",".join(pairs) + gap + "}").encode("utf-8", "surrogatepass")


@settings(max_examples=400)
@given(body())
def test_any_body_is_changed_there_alone(made: bytes) -> None:
    """Whatever stands in a body: it is left alone, or a parser reads the same and the option."""
    check(made)


@settings(max_examples=200)
@given(body(MEMBERS), st.integers(0, 200), st.sampled_from([b'"', b"{", b"}", b",", b"\\", b'"stream":true', b"\xff"]))
def test_a_damaged_body_is_never_made_another(made: bytes, at: int, damage: bytes) -> None:
    """Corrupted or cut off, a body is edited only if it still is JSON."""
    check(made[:at] + damage + made[at:])
    check(made[:at])


PLAIN = st.lists(
    st.tuples(st.sampled_from(["model", "tools", "messages"]), st.dictionaries(NAMES, st.integers(0, 9), max_size=2)),
    max_size=3,
)


@settings(max_examples=200)
@given(body(PLAIN.map(lambda pairs: [*pairs, ("stream", True)])))
def test_ordinary_bodies_are_edited(made: bytes) -> None:
    """Strict JSON with one `stream` and no options asks for usage afterwards, wherever else the words stand."""
    assert check(made) is not None


@pytest.mark.parametrize(
    "piece",
    [b'"stream":true,', b'"x":{"stream":true},', b'"stream_options":{},', b'"x":{"stream_options":{}},', b'"":0,'],
)
def test_large_bodies_take_few_parses(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Two MiB of a key's likes cost no more parses than a small body's."""
    parses: list[int] = []
    decode = usage_request._decode_asked

    def counted(data: bytes) -> Any:
        parses.append(len(data))
        return decode(data)

    monkeypatch.setattr(usage_request, "_decode_asked", counted)
    with_usage(b'{"stream":true,"stream_options":{},' + piece * (2 * 1024 * 1024 // len(piece)) + b'"y":0}')
    assert len(parses) <= 1 + 2 * usage_request._MOST_PLACES


HELD = b'{"model":"gpt-4o","stream":true}'
ASKED = b'{"stream_options":{"include_usage":true},"model":"gpt-4o","stream":true}'
WAY = Way(
    Origin.of("http://provider"),
    b"/x",
    b"\r\nHost: provider\r\naccept-encoding: gzip, br\r\nContent-Length: ",
    b"\r\nX: accept-encoding: gzip",
)


@pytest.mark.parametrize(
    ("provider", "target", "asks"),
    [
        ("openai", "/v1/chat/completions", True),
        ("openai", "/v1/v1/chat/completions?x=/v1/responses", True),
        ("openai", "/openai/v1/chat/completions", True),
        ("azure", "/v1/chat/completions", True),
        ("azure", "/openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21", True),
        ("azure", "/openai/v1/chat/completions", True),
        ("anthropic", "/v1/chat/completions", True),
        # They tell in any case.
        ("groq", "/openai/v1/chat/completions", False),
        ("gemini", "/v1beta/openai/chat/completions", False),
        # Who knows of the option refuses it there; who does not, refuses it too.
        ("openai", "/v1/completions", False),
        ("openai", "/v1/responses", False),
        ("openai", "/v1/chat/completions/abc", False),
        ("openai", "/v1/unknown/chat/completions", False),
        ("anthropic", "/v1/messages", False),
        ("azure", "/openai/deployments/chat/completions", False),
        ("openai", "/nowhere", False),
    ],
)
def test_who_is_asked(provider: str, target: str, *, asks: bool) -> None:
    """Chat completions of those that know the option and say nothing without it; the rest is sent as it came."""
    step = Step(provider, "gpt-4o", WAY)
    [found] = asking_for_usage([step], HELD, target)
    assert found.asks_usage == asks
    assert found.body == (ASKED if asks else None)
    assert (found is step) == (not asks)


def test_each_step_is_edited_as_it_is_sent() -> None:
    """A step with a body of its own has that one edited, and a step elsewhere keeps its own."""
    steps = [
        Step("openai", "a", WAY, b'{"stream":true,"model":"a"}'),
        Step("groq", "b", WAY, HELD),
        Step("azure", "c", WAY),
    ]
    first, second, third = asking_for_usage(steps, HELD, "/v1/chat/completions")
    assert first.body == b'{"stream_options":{"include_usage":true},"stream":true,"model":"a"}'
    assert second is steps[1]
    assert third.body == ASKED


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        (
            WAY.lines_before,
            WAY.lines_after,
            b"\r\nHost: provider\r\naccept-encoding: identity\r\nContent-Length: 5" + WAY.lines_after,
        ),
        (b"\r\nContent-Length: ", b"\r\nAccept-Encoding:br", b"\r\nContent-Length: 5\r\nAccept-Encoding: identity"),
        (b"\r\nContent-Length: ", b"\r\nX: 1", b"\r\nContent-Length: 5\r\nX: 1\r\nAccept-Encoding: identity"),
    ],
)
def test_the_answer_is_to_be_readable(before: bytes, after: bytes, sent: bytes) -> None:
    """An edited request accepts no encoding, where the client said what it accepts; other lines are as they were."""
    step = Step("openai", "gpt-4o", msgspec.structs.replace(WAY, lines_before=before, lines_after=after))
    [found] = asking_for_usage([step], HELD, "/v1/chat/completions")
    assert found.way.lines_before + b"5" + found.way.lines_after == sent
    assert (found.way.origin, found.way.target) == (WAY.origin, WAY.target)


@pytest.mark.parametrize(
    ("features", "wants"), [((), False), (("a",), False), (("a", "search"), True), (("*",), True), (("sea",), False)]
)
def test_who_wants_it(features: tuple[str, ...], *, wants: bool) -> None:
    """Features that were opted in by name, or all of them."""
    assert wants_usage(Org(org="acme", version=1, usage_features=features), "search") == wants
