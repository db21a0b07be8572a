"""What a request to the admin API is read as; whatever is sent, it is read, or a fault says what is wrong."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.api import faults
from dashboard.api.calls import actor_of, body_of, is_json, path_of, query_of, versions_of
from dashboard.api.faults import Fault
from dashboard.api.operation import Operation
from dashboard.api.operations import OPERATIONS
from dashboard.api.request_bodies import OrgQuery
from dashboard.declared.records import Declared

BY_ID = {one.id: one for one in OPERATIONS}
WITH_BODY = [one for one in OPERATIONS if one.body is not None]
WITH_PATH = [one for one in OPERATIONS if one.parameters]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)


READ = "nothing was wrong"


def field_refused(read: Callable[[], object], *kinds: type[Fault]) -> str | None:
    """The field that a fault of these kinds is about, which says something."""
    try:
        read()
    except kinds as fault:
        message, field = fault.message, fault.field
    else:
        return READ
    assert message
    return field


@pytest.mark.parametrize(
    ("values", "versions"),
    [
        ([], None),
        (["*"], None),
        (['"5"'], {5}),
        (['"5", "6"'], {5, 6}),
        (['"5"', '"6"'], {5, 6}),
        (['"5",W/"6", "x","","12345678901234567"'], {5}),
        (['W/"5"'], set()),
        (['"a,b"'], set()),
    ],
)
def test_versions(values: list[str], versions: set[int] | None) -> None:
    """One tag, several, or any; a tag that is no version of ours is one that no organisation has."""
    assert versions_of(values) == (None if versions is None else frozenset(versions))


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_whatever_version_is_sent(values: list[str]) -> None:
    """Versions, or a fault that names the header."""
    field = field_refused(lambda: versions_of(values), faults.InvalidRequest)
    assert field in {READ, "If-Match"}


@pytest.mark.parametrize(
    ("names", "actor"), [([], "api"), (["a"], "api:a"), (["a b"], "api:a b"), (["~" * 100], "api:" + "~" * 100)]
)
def test_actors(names: list[str], actor: str) -> None:
    """The API itself, or somebody through it."""
    assert actor_of(names) == actor


@pytest.mark.parametrize("names", [*([name] for name in ("", " ", "a ", "a\n", "é", "\x7f", "a" * 101)), ["a", "b"]])
def test_an_actor_that_is_none(names: list[str]) -> None:
    """Named by its header; one of two would be passed over."""
    with pytest.raises(faults.InvalidRequest) as refused:
        actor_of(names)
    assert refused.value.field == "X-Lectr-Actor"


def test_queries() -> None:
    """Defaults, values, and nothing where an operation has none."""
    listing = BY_ID["listOrgs"]
    assert query_of(listing, []) == OrgQuery()
    assert query_of(listing, [("limit", "7"), ("after", "a")]) == OrgQuery(limit=7, after="a")
    assert query_of(BY_ID["readOrg"], []) is None


@given(st.lists(st.tuples(st.sampled_from(["limit", "after", "x"]) | st.text(), st.text()), max_size=3))
def test_whatever_query_is_sent(pairs: list[tuple[str, str]]) -> None:
    """A query within its bounds, or a fault that names the parameter."""
    found: list[OrgQuery] = []
    field = field_refused(lambda: found.append(query_of(BY_ID["listOrgs"], pairs)), faults.InvalidRequest)
    assert field in {READ, *(name for name, _ in pairs)}
    assert all(1 <= query.limit <= 1000 for query in found)


@given(st.sampled_from(WITH_PATH), st.data())
def test_whatever_name_is_sent(one: Operation, data: st.DataObject) -> None:
    """The names as they are, or a fault that names the one that cannot be; a line break is in none."""
    names = {name: data.draw(st.text() | st.from_regex("[a-z]+\n?")) for name in one.parameters}
    found: list[dict[str, str]] = []
    field = field_refused(lambda: found.append(path_of(one, names)), faults.InvalidRequest)
    assert field in {READ, *names}
    assert all(path == names and "\n" not in "".join(path.values()) for path in found)


@settings(max_examples=500)
@given(st.sampled_from(WITH_BODY), st.binary() | JSON)
def test_whatever_body_is_sent(one: Operation, sent: Any) -> None:
    """A body of its type, or one of two faults; of an object, it names a field."""
    data = sent if isinstance(sent, bytes) else msgspec.json.encode(sent)
    found: list[Any] = []
    field = field_refused(lambda: found.append(body_of(one, data)), faults.InvalidJson, faults.InvalidValue)
    assert all(type(body) is (Declared if one.read_body else one.body) for body in found)
    assert field is not None or not isinstance(sent, dict)


@pytest.mark.parametrize("one", WITH_BODY, ids=lambda one: one.id)
@pytest.mark.parametrize("sent", [b"[" * 1_000_000, b'{"a":' * 100_000, b'"' + b"x" * 1_000_000])
def test_a_body_that_is_deep(one: Any, sent: bytes) -> None:
    """Nesting without end is a fault like every other."""
    with pytest.raises((faults.InvalidJson, faults.InvalidValue)):
        body_of(one, sent)


@pytest.mark.parametrize(
    ("content_type", "encoding", "accepted"),
    [
        ("application/json", None, True),
        (" Application/JSON ; charset=utf-8", "identity", True),
        (None, None, False),
        ("text/json", None, False),
        ("application/json", "gzip", False),
        ("application/json", "identity, gzip", False),
    ],
)
def test_media_types(content_type: str | None, encoding: str | None, *, accepted: bool) -> None:
    """JSON that is not compressed, and nothing else."""
    assert is_json(content_type, encoding) is accepted
