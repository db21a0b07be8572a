"""Files that declare organisations, of any content: each is declared or refused, and what is written reads the same."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.declared.faults import DeclarationFault, printable
from dashboard.declared.file import declared_in
from dashboard.declared.records import Declared, document_of, read_document
from dashboard.declared.text import Form, write_json, write_yaml
from shared.organisation import Azure, Budget, Key, Limits, Org, Price, Rule
from shared.registry import KEY_PREFIX, decode_org, encode_org
from tests.declared_orgs import ACME, REGISTRIES

KINDS = (Org, Key, Rule, Budget, Azure, Price, Limits)
FIELDS = sorted({"orgs", "acme", *(field for kind in KINDS for field in kind.__struct_fields__)})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["a" * 64, "openai", "day", "https://a.example", "env:A", "*", "2024-10-21", "key_sha256"])
    | st.dates()
    | st.just(dt.time(1))
    | st.just(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
)
TREES = SCALARS | st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=2),
    max_leaves=5,
)
TOKENS = [
    *(
        "orgs",
        "acme",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        '"',
        "'",
        "=",
        ".",
        "#",
        "&a",
        "*a",
    ),
    *(
        "!",
        "!!str",
        "|",
        ">",
        "?",
        "<<",
        "---",
        "...",
        "%YAML 1.1",
        "null",
        "true",
        "nan",
        "inf",
        "1",
        "0x",
        "1e9",
        "-",
        "+",
    ),
    *("9" * 500, "2024-10-21", "T00:00:00Z", "\\", "\\u", "\\ud800", "\x00", "\t", "\u2028", "\ufeff", "é", "😀", "[["),
]
WHOLE = {
    "yaml": "orgs:\n  acme:\n    limits: &a {requests_per_s: 0.5}\n    keys:\n      - {name: a, limits: *a}\n  b: {}\n",
    "json": '{"orgs": {"acme": {"budgets": [{"name": "a", "limit_usd": 1.5e2}], "enabled": true}}}',
    "toml": '[orgs.acme]\nlimits.body_bytes = 1_000\n[[orgs.acme.rules]]\nname = "a"\ntarget = {model = "x"}\n',
}
BYTES = st.binary(max_size=100) | st.lists(st.sampled_from(TOKENS), max_size=30).map("".join).map(str.encode)


PARSERS = re.compile(r"no (YAML|JSON|TOML): .*(line \d|character \d|end of document).*")
"""What a parser says of text that is none of its form, and where it saw that."""
PLACE = re.compile(
    r"orgs|line \d+: |byte \d+ |it is empty: |.+: there is no such field; |\S+ is (no number|half)|a number of"
)
FIX = re.compile(
    r"\b(expected|give|there are|write|save|remove|rename|begin with|put|use|one of|set one with|stand under|must)\b"
)


def told(line: str, source: str) -> None:
    """The file, where in it, what is wrong, and what to do, in one printable line."""
    assert line.isprintable()
    assert line.startswith(f"{source}: ")
    problem = line.removeprefix(f"{source}: ")
    if not PARSERS.fullmatch(problem) and not re.fullmatch(r"and \d+ problems more", problem):
        place = PLACE.match(problem)
        assert place, line
        assert FIX.search(problem, place.start()), line


def is_declared_or_refused(read: Callable[[], Declared], source: str) -> None:
    """Either organisations that can be stored, or a DeclarationFault whose lines say what to mend, and where."""
    try:
        found = read()
    except DeclarationFault as refused:
        lines = str(refused).splitlines()
        assert lines
        for line in lines:
            told(line, source)
    else:
        assert [decode_org(encode_org(org)) for org in found.orgs] == [*found.orgs]
        assert all(org.org.isprintable() for org in found.orgs)


def places_in(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every map and list of a document, with every key and number in it."""
    for key in [*document] if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places_in(document[key])


@given(TREES)
def test_any_document_is_declared_or_refused(document: Any) -> None:
    """Whatever data a file holds is declared or refused, and nothing else happens."""
    is_declared_or_refused(lambda: read_document(document, "f.yaml"), "f.yaml")


@given(st.lists(st.tuples(st.integers(0, 80), st.sampled_from(FIELDS), TREES), min_size=1, max_size=3))
def test_a_spoilt_document_is_declared_or_refused(spoilt: list[tuple[int, str, Any]]) -> None:
    """A good document in which values are others, or a field has another name."""
    document = document_of([ACME])
    for number, field, value in spoilt:
        places = [*places_in(document)]
        where, key = places[number % len(places)]
        if isinstance(where, dict) and field < key:
            where[field] = where.pop(key)
        else:
            where[key] = value
    is_declared_or_refused(lambda: read_document(document, "f.yaml"), "f.yaml")


@pytest.mark.parametrize("form", WHOLE)
@given(data=BYTES)
def test_any_bytes_are_declared_or_refused(form: Form, data: bytes) -> None:
    """Whatever bytes a file holds, in whatever form, they are declared or refused."""
    is_declared_or_refused(lambda: declared_in(data, f"f.{form}"), f"f.{form}")


@pytest.mark.parametrize("form", WHOLE)
@given(start=st.integers(0, 120), cut=st.integers(0, 120), token=st.sampled_from(TOKENS))
def test_a_spoilt_file_is_declared_or_refused(form: Form, start: int, cut: int, token: str) -> None:
    """A good file from which a piece was cut, and into which something else was put."""
    text = WHOLE[form]
    spoilt = (text[:start] + token + text[start + cut :]).encode()
    is_declared_or_refused(lambda: declared_in(spoilt, f"f.{form}"), f"f.{form}")


@settings(max_examples=40)
@given(REGISTRIES)
def test_what_is_written_reads_the_same(orgs: list[Org]) -> None:
    """Any organisations, written as YAML or JSON, are declared again as they were."""
    document = document_of(orgs)
    for text, path in ((write_yaml(document), "f.yaml"), (write_json(document), "f.json"), (write_json(document), "-")):
        assert declared_in(text.encode(), path).orgs == tuple(orgs)


def test_what_is_too_long_keeps_its_fix() -> None:
    """Of a name of any length the beginning is shown, and the fix behind it."""
    with pytest.raises(DeclarationFault) as refused:
        read_document({"orgs": {"acme": {"n" * 5000: 1}}}, "f.yaml")
    line = str(refused.value)
    told(line, "f.yaml")
    assert line.endswith("drain_features, usage_features")
    assert len(line) < 500


@given(before=st.integers(0, 900), between=st.sampled_from(["", " ", "x"]), after=st.integers(0, 900))
def test_no_part_of_a_key_is_shown_wherever_a_text_is_cut(before: int, between: str, after: int) -> None:
    """A key that stands where it must not is hidden, the end of one too whose beginning is cut off."""
    secret = "".join(f"{number:03}" for number in range(16))
    shown = printable("-" * before + between + KEY_PREFIX + secret + " ?" * after)
    assert not any(secret[at : at + 4] in shown for at in range(len(secret) - 3))
