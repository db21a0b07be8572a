"""Another model's name in a body or a path: it stands where the old one stood, and nothing else has changed."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.model_edit import (
    _lone_value,
    _marked_values,
    _model_values,
    _strict_copy,
    replace_model,
    replace_path_model,
)
from gateway.request_body import json_facts, model_in_path

ODD_NAME = 'a"b\\c\n\x7fü😀/'
TOOL = b'{"type":"function","function":{"parameters":{"properties":{"model":{"type":"string"}}}}}'


@pytest.mark.parametrize(
    ("body", "values"),
    [
        # What SDKs send; `values` are the pieces of the body that are replaced, each from where the last one ended.
        (b'{"model":"gpt-4o","messages":[]}', [b'"gpt-4o"']),
        (b'{"messages":[{"role":"user","content":"x"}],"model":"gpt-4o"}', [b'"gpt-4o"']),
        (b' \r\n\t{ "a" : 1 , "model"\n:\t"gpt-4o" \r} \n', [b'"gpt-4o"']),
        (b'{"model":""}', [b'""']),
        # Elsewhere it is not the request's.
        (b'{"tools":[' + TOOL + b'],"model":"m"}', [b'"m"']),
        (b'{"x":{"model":"no"},"model":"m","y":[{"model":"no"}]}', [b'"m"']),
        (b'{"x":"model","model":"m","y":["model"]}', [b'"m"']),
        (b'{"x":"\\"model\\":\\"no\\"","model":"m"}', [b'"m"']),
        (b'{"x\\"model":"no","model":"m","y\\\\":1}', [b'"m"']),
        (b'{"model":"m","y\\"model":"no"}', [b'"m"']),
        (b'{"Model":"no","model ":"no","models":"no","xmodel":"no","model":"m"}', [b'"m"']),
        (b'{"model":"model"}', [b'"model"']),
        # Parsers take the first of duplicates, or the last.
        (b'{"model":"a","x":{"model":"no"},"model":"b"}', [b'"a"', b'"b"']),
        (b'{"model":"a" ,"m\\u006fdel" : "b","model":"c"}', [b'"a"', b'"b"', b'"c"']),
        (b'{"model":"a","x":"\\u0001\\u0002","model":"b"}', [b'"a"', b'"b"']),
        (b"{" + b'"model":"a",' * 999 + b'"model":"b"}', [b'"a"'] * 999 + [b'"b"']),
        # Keys and values with escapes.
        (b'{"mod\\u0065l":"m"}', [b'"m"']),
        (b'{"\\u006D\\u006f\\u0064\\u0065\\u006c":"m","model\\u0000":"no"}', [b'"m"']),
        (b'{"\\\\u006dodel":"no","\\u006model":"no","\\u006d\\u006fdel":"m"}', []),
        (b'{"\\\\u006dodel":"no","\\u006d\\u006fdel":"m","x":{"mod\\u0065l":"no"}}', [b'"m"']),
        (b'{"model":"\\"model\\":\\"\\\\"}', [b'"\\"model\\":\\"\\\\"']),
        (b'{"model":"\\ud83d\\ude00"}', [b'"\\ud83d\\ude00"']),
        # What lenient parsers read.
        (b'{"model":"\\ud83dx","x":"\\udE00"}', [b'"\\ud83dx"']),
        (b'{"model":"a\xff"}', [b'"a\xff"']),
        (b'{"x":"\xff\xed\xa0\x80","\xe4":{"\xe4":1},"model":"a","model":"b"}', [b'"a"', b'"b"']),
        (b'{"x":NaN,"y":[-Infinity,Infinity , NaN],"z":"\\"NaN","model":"NaN"}', [b'"NaN"']),
        (b'{"a\\ud06d":NaN,"\\ud06dodel":"no","model":"a","mod\\u0065l":"Infinity"}', [b'"a"', b'"Infinity"']),
        (b'{"seed":' + b"9" * 9_000 + b',"model":"a","x":1e999}', [b'"a"']),
        # No model, or none that may be replaced.
        (b"{}", []),
        (b'{"messages":[{"model":"no"}]}', []),
        (b'{"model":null}', []),
        (b'{"model":NaN}', []),
        (b'{"model":["a"]}', []),
        (b'{"model":"a","model":5}', []),
        (b'{"model":5,"model":"a"}', []),
        (b'{"model":{"model":"a"},"model":"a"}', []),
        (b'[{"model":"a"}]', []),
        (b'"model"', []),
        (b"", []),
        (b'{"model":', []),
        (b'{"model":"a"', []),
        (b'{"model":"a"}}', []),
        (b'{"model":"a"} {"model":"b"}', []),
        (b'{"model":"a",}', []),
        (b'{"model":"a","x":"\x01"}', []),
        (b'{"model":"a","x":"\\q"}', []),
        (b'{"model":"a","x":-NaN}', []),
        (b'{"model":"a","x":1NaN}', []),
        (b'{"model":"a","x":"\\uNaN0"}', []),
        (b'{"model":"a","x":"\\ud"}', []),
        (b'{"model":"a",x:1}', []),
        (b"{'model':'a'}", []),
        (b'\xef\xbb\xbf{"model":"a"}', []),
        ('{"model":"a"}'.encode("utf-16"), []),
        (b"{" + b'"model":"a",' * 2_000 + b'"model":"a"}', []),
        (b'{"model":"a","model":"a","x":"\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007"}', []),
    ],
)
def test_only_the_top_level_model_is_replaced(body: bytes, values: list[bytes]) -> None:
    """Each of the request's own models, however it is written; nothing at all where one of them is unsure."""
    expected, rest = b"", body
    for value in values:
        key, value_, rest = rest.partition(b":" + value) if b":" + value in rest else rest.partition(value)
        assert value_, "the case is wrong"
        expected += key + value_.removesuffix(value) + b'"new"'
    assert replace_model(body, "new") == (expected + rest if values else None)
    assert replace_model(bytearray(body), "new") == (expected + rest if values else None)
    check(body, ODD_NAME)


@pytest.mark.parametrize(
    ("model", "written"),
    [
        ("claude-opus-5-5", b'"claude-opus-5-5"'),
        ("openai/gpt-oss-120b", b'"openai/gpt-oss-120b"'),
        ('a"b\\c\n\x00', b'"a\\"b\\\\c\\n\\u0000"'),
        ("mödel😀", '"mödel😀"'.encode()),
        ("m" * 1_024, b'"' + b"m" * 1_024 + b'"'),
        ("m" * 1_025, None),
        ("\ud83d", None),
        ("", None),
    ],
)
def test_the_new_name_is_json(model: str, written: bytes | None) -> None:
    """Quotes and controls are escaped, the rest is UTF-8; what is no name that can be stored is not written."""
    edited = replace_model(b'{"model":"a"}', model)
    assert edited == (None if written is None else b'{"model":' + written + b"}")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"model":', b'[{"model":'])
@pytest.mark.parametrize(
    "prefix", [b'{"model":"a","x":', b'{"model":"a","y":NaN,"x":', b'{"model":"a","model":"b","x":']
)
def test_nesting_does_no_harm(prefix: bytes, opening: bytes) -> None:
    """Some levels are nothing special; nesting beyond any parser's depth is no crash, and the body goes as it came."""
    closing = b"".join({b"[": b"]", b"{": b"}"}.get(opening[at : at + 1], b"") for at in reversed(range(len(opening))))
    for depth, edited in ((50, True), (200_000, False)):
        body = prefix + opening * depth + b"1" + closing * depth + b"}"
        assert (check(body, "new") is not None) is edited
        assert check(body[: len(prefix) + len(opening) * depth], "new") is None


def test_large_bodies_are_edited() -> None:
    """Two MiB of text or of tiny values are no reason to leave the old name."""
    for piece in (b'{"role":"user","content":"' + b"text " * 400_000 + b'"},', b'"",' * 700_000, b"NaN," * 500_000):
        for body in (b'{"model":"a","x":[' + piece + b"0]}", b'{"x":[' + piece + b'0],"mod\\u0065l":"a"}'):
            assert replace_model(body, "new") == body.replace(b'"a"', b'"new"')


def read_pairs(body: bytes) -> Any:
    """The body with all duplicates as tuples of pairs, numbers as bytes. Raises ValueError or RecursionError."""
    return json.loads(
        body.decode("utf-8", "replace"),
        object_pairs_hook=tuple,
        parse_int=str.encode,
        parse_float=str.encode,
        parse_constant=str.encode,
    )


def check(body: bytes, model: str) -> bytes | None:
    """Replace; whatever was edited must mean the same but for its top-level models."""
    edited = replace_model(body, model)
    if edited is None:
        return None
    before = read_pairs(body)
    assert isinstance(before, tuple)
    assert all(isinstance(value, str) for key, value in before if key == "model")
    assert read_pairs(edited) == tuple((key, model if key == "model" else value) for key, value in before)
    facts = json_facts(edited)
    assert facts.model == model
    assert msgspec.structs.replace(facts, model="", marks=()) == msgspec.structs.replace(
        json_facts(body), model="", marks=()
    )
    return edited


BLANKS = st.sampled_from([b"", b"", b"", b" ", b"\n\t", b"\r\n  "])
SIGNS = st.characters(exclude_categories=()) | st.sampled_from('model"\\\x01\x7f\ud83d\ude00\u0664')
WORDS = st.sampled_from(
    ["model", "model", "messages", "content", "input", "text", "tools", "Model", 'x"model', "model\\", "NaN", "\\ud83d"]
)


@st.composite
def json_string(draw: st.DrawFn, text: st.SearchStrategy[str]) -> bytes:
    """A string as some serializer may write it: any sign escaped or, if it may be, not."""
    written = b'"'
    for sign in draw(text):
        choice = draw(st.integers(0, 5))
        units = sign.encode("utf-16-be", "surrogatepass")
        if choice == 0 or sign < " " or "\ud800" <= sign <= "\udfff":
            digits = "%04X" if choice == 1 else "%04x"
            written += b"".join(
                b"\\u" + (digits % int.from_bytes(units[at : at + 2])).encode() for at in (0, 2)[: len(units) // 2]
            )
        elif sign in '"\\':
            written += b"\\" + sign.encode()
        elif sign == "/" and choice == 1:
            written += b"\\/"
        else:
            written += sign.encode()
    return written + b'"'


SCALARS = st.sampled_from(
    [b"1", b"-0.5e+3", b"true", b"null", b"NaN", b"-Infinity", b"12345678901234567890", b'"model"', b'"a\xffb"']
) | json_string(st.text(SIGNS, max_size=6) | WORDS)


@st.composite
def json_array(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    items = draw(st.lists(st.tuples(BLANKS, values, BLANKS).map(b"".join), max_size=3))
    return b"[" + b",".join(items) + b"]"


@st.composite
def json_object(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> bytes:
    items = st.tuples(BLANKS, json_string(WORDS | st.text(SIGNS, max_size=4)), BLANKS, st.just(b":"), BLANKS, values)
    return b"{" + b",".join(draw(st.lists(items.map(b"".join), max_size=3))) + b"}"


VALUES = st.recursive(SCALARS, lambda inner: json_array(inner) | json_object(inner), max_leaves=6)
STRINGS = json_string(st.text(SIGNS, max_size=6) | WORDS)


@st.composite
def document(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """The pieces of a request's body, and which of them are top-level models."""
    pieces, models = [draw(BLANKS), b"{"], []
    for number in range(draw(st.integers(0, 5))):
        is_model = draw(st.booleans())
        key = json_string(st.just("model") if is_model else WORDS.filter(lambda word: word != "model"))
        pieces += [b"," if number else b"", draw(BLANKS), draw(key), draw(BLANKS), b":", draw(BLANKS)]
        if is_model:
            models.append(len(pieces))
        pieces += [draw(STRINGS if is_model else VALUES), draw(BLANKS)]
    return [*pieces, b"}", draw(BLANKS)], models


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.just(ODD_NAME)


@settings(max_examples=400)
@given(document(), NAMES)
def test_any_document_changes_there_alone(made: tuple[list[bytes], list[int]], model: str) -> None:
    """However a serializer writes a document, its top-level models are replaced and every other byte is the same."""
    pieces, models = made
    value = json.dumps(model, ensure_ascii=False).encode()
    expected = b"".join(value if at in models else piece for at, piece in enumerate(pieces))
    edited = check(b"".join(pieces), model)
    assert edited == (expected if models else None)


@settings(max_examples=400)
@given(document())
def test_the_short_way_finds_what_the_long_way_finds(made: tuple[list[bytes], list[int]]) -> None:
    """Where the only key's place answers, a name for each place gives the same."""
    body = _strict_copy(b"".join(made[0]))
    values = _model_values(body)
    assert values == _marked_values(body)
    if values:
        assert _lone_value(body, values[-1][1] - values[-1][0]) in ([], values)


CORRUPTIONS = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\x00",
    b"\xff",
    b"\\u006",
    b'"model"',
    b"NaN",
    b"\\ud",
]


@settings(max_examples=600)
@example(([b'{"model":"a","x":"\\u', b'0"}'], []), [(21, 0, b"NaN")], 99)
@given(
    document(),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(CORRUPTIONS) | st.binary(max_size=2)),
        max_size=3,
    ),
    st.integers(0, 400),
)
def test_a_damaged_document_is_never_made_another(
    made: tuple[list[bytes], list[int]], damages: list[tuple[int, int, bytes]], cut: int
) -> None:
    """Cut off or corrupted, a body is edited if it still is JSON with a model, and only in its top-level ones."""
    body = b"".join(made[0])
    for at, length, piece in damages:
        body = body[:at] + piece + body[at + length :]
    for damaged in (body, body[:cut]):
        edited = check(damaged, "new")
        if edited is None and json_facts(damaged).model:
            assert not all(isinstance(value, str) for key, value in read_pairs(damaged) if key == "model")


@pytest.mark.parametrize(
    ("target", "model", "edited"),
    [
        (
            "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse&model=x",
            "gemini-3-pro",
            "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse&model=x",
        ),
        ("/v1/models/gemini-3-flash%3AgenerateContent", "a b/ü?#", "/v1/models/a%20b%2F%C3%BC%3F%23%3AgenerateContent"),
        ("/v1/v1beta/models/a:countTokens", "b%2F", "/v1/v1beta/models/b%252F:countTokens"),
        ("/v1beta/models/a:generateContent", "x:generateContent", "/v1beta/models/x%3AgenerateContent:generateContent"),
        ("/v1beta/tunedModels/mine:generateContent", "gemini-3-pro", "/v1beta/models/gemini-3-pro:generateContent"),
        ("/v1beta/models/a:generateContent", "tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
        ("/v1beta/tunedModels/a:generateContent", "tunedModels/b", "/v1beta/tunedModels/b:generateContent"),
        ("/v1/models/openai/gpt-oss-120b", "ft:gpt-4o:acme::9a", "/v1/models/ft%3Agpt-4o%3Aacme%3A%3A9a"),
        (
            "/openai/deployments/my%20gpt/chat/completions?api-version=1",
            "d/1",
            "/openai/deployments/d%2F1/chat/completions?api-version=1",
        ),
        ("/v1/deployments/d/embeddings", "tunedModels/x", "/v1/deployments/tunedModels%2Fx/embeddings"),
        ("/openai/deployments/d", "e", "/openai/deployments/e"),
        # No model in the path.
        ("/v1/chat/completions", "m", None),
        ("/v1/models", "m", None),
        ("/v1/models/", "m", None),
        ("/v1/models?x=/models/y", "m", None),
        ("/v1/realtime?model=gpt-realtime", "m", None),
        ("/openai/deployments//chat/completions", "m", None),
        ("/v1beta/models/:generateContent", "m", None),
        ("/v1beta/models//operations/x", "m", None),
        # An operation is of the model that it was begun with.
        ("/v1beta/models/veo-3/operations/x", "m", None),
        # Names that would mean something else there.
        ("/v1/models/a", "x:generateContent", None),
        ("/openai/deployments/d/chat/completions", "..", None),
        ("/v1beta/models/a:generateContent", "tunedModels/..", None),
        ("/v1beta/models/a:generateContent", "tunedModels/", None),
        ("/v1beta/models/a:generateContent", "", None),
        ("/v1beta/models/a:generateContent", "\ud83d", None),
        ("/v1beta/models/a:generateContent", "m" * 1_025, None),
    ],
)
def test_the_model_in_a_path_is_replaced(target: str, model: str, edited: str | None) -> None:
    """Google's and Azure's paths name the new model, percent-encoded; verb, endpoint and query stay as they are."""
    assert replace_path_model(target, model) == edited


@given(
    st.sampled_from(
        [
            ("/v1beta", "/models/", ":generateContent"),
            ("/v1", "/tunedModels/", "%3AcountTokens"),
            ("/v1", "/models/", ""),
            ("/v1beta", "/models/", "/operations/x"),
            ("/openai", "/deployments/", "/chat/completions"),
            ("/v1", "/deployments/", ""),
            ("/v1", "/", "/chat"),
        ]
    ),
    st.text(st.characters(exclude_categories=()) | st.sampled_from(":%3A"), max_size=8),
    st.sampled_from(["", "?", "?model=q&x=/models/y"]),
    NAMES | st.sampled_from([".", "a/operations/b", "tunedModels/a", "tunedModels/a/b", "x:predict", "models/x"]),
)
def test_any_edited_target_names_the_new_model(around: tuple[str, str, str], old: str, query: str, model: str) -> None:
    """No target raises; an edited one names the new model, and what stands around a name is as before."""
    before, collection, after = around
    target = before + collection + old + after + query
    edited = replace_path_model(target, model)
    if edited is None:
        return
    assert model_in_path(edited) == model
    assert edited.startswith(before + "/")
    assert edited.partition("?")[2] == target.partition("?")[2]
    if not {"/", "?"} & set(old):
        assert re.fullmatch(r"[!-~]*", edited.partition("?")[0])
        assert edited.partition("?")[0].endswith(after)
