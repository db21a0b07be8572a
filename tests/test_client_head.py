"""What a connection remembers of its last head: never more than is the same for the next one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.auth import hash_of_key
from gateway.client_head import ClientHead

RAW = (
    (b"Host", b"gateway"),
    (b"X-Lectr-Key", b"lc_key_a"),
    (b"Content-Length", b"12"),
    (b"Authorization", b"Bearer sk-1"),
    (b"X-Lectr-Feature", b"checkout"),
)

Fields = tuple[tuple[bytes, bytes], ...]


def head_of(raw: Fields) -> ClientHead:
    return ClientHead(raw, CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw))


def with_field(at: int, name: bytes, value: bytes) -> Fields:
    return (*RAW[:at], (name, value), *RAW[at + 1 :])


def test_a_head_is_read() -> None:
    """What requests with this head have in common."""
    head = head_of((*RAW, (b"X-Lectr-Task", b"chat"), (b"Expect", b"100-Continue"), (b"Content-Type", b"audio/mpeg")))
    assert (head.feature, head.task, head.cut, head.problem) == ("checkout", "chat", (), None)
    assert (head.key_sha256, head.expects_continue, head.body_kind) == (hash_of_key("lc_key_a"), True, "opaque")
    assert head_of(RAW[:1]).feature == "untagged"
    assert head_of(RAW[:1]).key_sha256 is None


def test_only_the_length_may_differ() -> None:
    """The same fields with another length are the same head, and the length is the new one."""
    head = head_of(RAW)
    longer = with_field(2, b"Content-Length", b"4096")
    assert head.describes(RAW)
    assert head.describes(longer)
    assert head.length_in(longer) == b"4096"


@pytest.mark.parametrize(
    "other",
    [
        *(with_field(at, name, b"other") for at, (name, _) in enumerate(RAW) if at != 2),
        *(with_field(at, name.lower(), value) for at, (name, value) in enumerate(RAW)),
        (*RAW, (b"Connection", b"close")),
        RAW[:-1],
        RAW[::-1],
        (RAW[1], RAW[0], *RAW[2:]),
        (*RAW[:2], RAW[3], RAW[2], RAW[4]),
        (*RAW[:2], (b"Transfer-Encoding", b"chunked"), *RAW[3:]),
        (),
    ],
)
def test_any_other_difference_is_another_head(other: Fields) -> None:
    """Another value, name, case, order or number of fields: read anew."""
    assert not head_of(RAW).describes(other)
    if other:
        assert not head_of(other).describes(RAW)


TOKENS = st.sampled_from([b"a", b"A", b"content-length", b"Content-Length", b"x-lectr-key", b"1", b"22", b""])
HEADS = st.lists(st.tuples(TOKENS, TOKENS), max_size=4).map(tuple)


@given(HEADS, HEADS)
def test_heads_that_are_taken_for_each_other_are_the_same(one: Any, other: Any) -> None:
    """Whatever two heads are: if one describes the other, they are equal once the length is left out."""
    head = head_of(one)
    if head.repeatable and head.describes(other):
        blanked = [[(n, b"" if n.lower() == b"content-length" else v) for n, v in raw] for raw in (one, other)]
        assert blanked[0] == blanked[1]
        assert sum(name.lower() == b"content-length" for name, _ in other) <= 1


def test_what_is_not_remembered() -> None:
    """A head with two lengths is a question of its own each time; a large one would fill memory."""
    assert head_of(RAW).repeatable
    assert not head_of((*RAW, RAW[2])).repeatable
    assert not head_of((*RAW, (b"Cookie", b"x" * 8192))).repeatable


def test_cut_values_are_named() -> None:
    """A feature or task over 1 KiB is cut, and each request says so."""
    raw = ((b"X-Lectr-Feature", b"f" * 1025), (b"X-Lectr-Task", b"t" * 1025))
    head = head_of(raw)
    assert (len(head.feature), len(head.task), head.cut) == (1024, 1024, ("feature", "task"))
