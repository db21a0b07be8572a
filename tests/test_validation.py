"""What people are told of a value that is not of its type: a field and words, never the reader's own text."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from dashboard import edits
from dashboard.api.operation import PATH_TYPES
from dashboard.api.operations import OPERATIONS
from dashboard.validation import Problem, problem_in
from shared.organisation import Limits, Org, Rule
from shared.registry import RegistryFault

BODIES = sorted({one.body for one in OPERATIONS if one.body is not None}, key=str)
KINDS = [*BODIES, *(one.query for one in OPERATIONS if one.query), *PATH_TYPES.values(), Org]


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """One of several."""

    model: str
    choice: Literal["a", "b"] | None = None


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    """Something of each type."""

    switch: bool = False
    count: int = 0
    parts: tuple[Part, ...] = ()
    names: dict[str, str] = {}
    limits: Limits = Limits()


def problem(sent: Any, kind: Any = Whole) -> Problem:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(sent, kind)
    return problem_in(refused.value, kind)


@pytest.mark.parametrize(
    ("sent", "field", "text"),
    [
        ([], None, "expected an object, got a list"),
        (None, None, "expected an object, got null"),
        ({"switch": "yes"}, "switch", "expected true or false, got text"),
        ({"count": 1.5}, "count", "expected a whole number, got a number with decimals"),
        ({"parts": {}}, "parts", "expected a list, got an object"),
        ({"parts": [{}]}, "parts[0].model", "it is missing; give text"),
        ({"parts": [{"model": 5}]}, "parts[0].model", "expected text, got a whole number: write it in quotes"),
        ({"parts": [{"model": []}]}, "parts[0].model", "expected text, got a list"),
        ({"parts": [{"model": "m", "choice": "c"}]}, "parts[0].choice", "expected one of a, b, got 'c'"),
        (
            {"parts": [{"model": "m", "choice": 1}]},
            "parts[0].choice",
            "expected one of a, b or null, got a whole number",
        ),
        ({"parts": [{"modl": "m"}]}, "parts[0].modl", "there is no such field; there are model, choice"),
        ({"more": 1}, "more", "there is no such field; there are switch, count, parts, names, limits"),
        ({"": 1}, "''", "there is no such field; there are switch, count, parts, names, limits"),
        (
            {"m` - at `$.parts[9].x": 1},
            "m` - at `$.parts[9].x",
            "there is no such field; there are switch, count, parts, names, limits",
        ),
        ({"names": {"a": 5}}, "names", "a value in it: expected text, got a whole number: write it in quotes"),
        ({"names": {5: "a"}}, "names", "a name in it: expected text, got a whole number: write it in quotes"),
        (
            {"limits": {"requests_per_s": 0}},
            "limits.requests_per_s",
            "expected a number above 0 and of at most 1000000",
        ),
        ({"limits": {"body_bytes": 0}}, "limits.body_bytes", "expected a whole number from 1 to 1099511627776"),
        (
            {"limits": {"body_bytes": True}},
            "limits.body_bytes",
            "expected a whole number from 1 to 1099511627776 or null, got true or false",
        ),
    ],
)
def test_what_is_told(sent: Any, field: str | None, text: str) -> None:
    """The way to the field, what it takes, and what was given where that is another kind of value."""
    assert problem(sent) == (field, text)


def test_long_texts_are_cut() -> None:
    """A name or a value that was sent is repeated as far as people need it."""
    assert len(problem({"x" * 10_000: 1}).field or "") < 100
    assert len(problem({"parts": [{"model": "m", "choice": "c" * 10_000}]}).text) < 200


def patterns_in(kind: inspect.Type, meaning: str = "") -> Iterator[tuple[str, str]]:
    """Every pattern of a type, with what it means."""
    match kind:
        case inspect.Metadata():
            yield from patterns_in(kind.type, (kind.extra or {}).get("expected", ""))
        case inspect.StrType() if kind.pattern:
            yield kind.pattern, meaning
        case inspect.StructType():
            for field in kind.fields:
                yield from patterns_in(field.type)
        case inspect.UnionType():
            for one in kind.types:
                yield from patterns_in(one)
        case inspect.VarTupleType():
            yield from patterns_in(kind.item_type)
        case inspect.DictType():
            yield from patterns_in(kind.key_type)
            yield from patterns_in(kind.value_type)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_pattern_has_a_meaning(kind: Any) -> None:
    """Nobody is shown a regular expression: each type with one says in words what it takes."""
    assert [pattern for pattern, meaning in patterns_in(inspect.type_info(kind)) if not meaning] == []


def test_patterns_are_seen() -> None:
    """The test above looks at something: names, names of organisations, amounts and hashes have patterns."""
    assert len({pattern for kind in KINDS for pattern, _ in patterns_in(inspect.type_info(kind))}) == 4


FIELDS = sorted({field for kind in (*BODIES, Org) for field in getattr(kind, "__struct_fields__", ())})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "\n", "x" * 2000]),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inside, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(KINDS), VALUES)
def test_whatever_is_sent(kind: Any, sent: Any) -> None:
    """No backtick, no `$`, no name of a Python type; and what was no object's fault names a field."""
    try:
        msgspec.convert(sent, kind)
    except msgspec.ValidationError as error:
        found = problem_in(error, kind)
    else:
        return
    told = found.told("body")
    assert not set("`$") & set(told)
    assert not {"str", "int", "bool", "float", "array", "Expected", "Object", "regex"} & set(told.split())
    assert "another value" not in told
    assert found.field or not isinstance(sent, dict) or not isinstance(inspect.type_info(kind), inspect.StructType)


@pytest.mark.parametrize(
    ("record", "field", "said"),
    [
        (
            Rule(name="a/b"),
            "name",
            "name: expected 1-63 of A-Z a-z 0-9 . _ - and space, beginning with a letter or digit",
        ),
        (
            Rule(name="a", provider="nope"),  # type: ignore[arg-type] # as the command line makes it
            "provider",
            "provider: expected one of anthropic, azure, gemini, groq, openai, got 'nope'",
        ),
        (
            Limits(requests_per_s=0),
            "requests_per_s",
            "requests_per_s: expected a number above 0 and of at most 1000000",
        ),
    ],
)
def test_records_are_refused_in_the_same_words(record: msgspec.Struct, field: str, said: str) -> None:
    """What the command line makes is checked as what comes over HTTP."""
    with pytest.raises(RegistryFault) as refused:
        edits.checked(record)
    assert (str(refused.value), refused.value.field) == (said, field)
