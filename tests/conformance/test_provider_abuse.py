"""Malformed answers: the client gets a 502 as JSON or a broken connection, and their connection is never used again."""

import itertools

import pytest

from tests.conformance.cases_provider_abuse import BAD_ANSWERS, ENDLESS, BadAnswer
from tests.conformance.cases_smuggling import PIECE_BYTES, endless
from tests.conformance.client import Answer
from tests.conformance.kernel import memory_stays_below
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import pieces_of
from tests.conformance.site import Site, fault_of

ENDLESS_BOUND_BYTES = 4_000_000
MEMORY_BOUND_BYTES = 30_000_000


def assert_not_taken(answer: Answer, *, head_may_pass: bool) -> None:
    """The gateway's own 502, or (where the head was good) an answer that is broken off."""
    if answer.broken:
        assert head_may_pass or not answer.raw_head, answer
        return
    assert (answer.status, fault_of(answer)) == (502, "provider_unreachable"), answer
    assert b"poison" not in answer.body_wire


@pytest.mark.parametrize("piece_bytes", [0, 1], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", BAD_ANSWERS, ids=str)
def test_malformed_answer(site: Site, case: BadAnswer, piece_bytes: int) -> None:
    """A malformed answer is never passed on as a whole one, and the provider's connection is given up."""

    def play(connection: Connection, request: Request) -> None:
        if piece_bytes and len(case.answer) < 1_000:
            connection.send_pieces(pieces_of(case.answer, piece_bytes))
        else:
            connection.send(case.answer)
        connection.wait_left()

    site.provider.script = play
    answer = site.relayed(site.request())
    assert_not_taken(answer, head_may_pass=case.in_body)
    site.assert_free()
    site.provider.wait_idle()
    used = [request.connection.number for request in site.provider.requests]
    assert used == [0, 1]


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_answer(site: Site, name: str) -> None:
    """An answer that never comes to a body, or to its end, is given up after a bounded number of bytes."""
    sent: list[int] = []

    def play(connection: Connection, request: Request) -> None:
        pieces = itertools.islice(endless(*ENDLESS[name]), 2 * ENDLESS_BOUND_BYTES // PIECE_BYTES)
        sent.append(0)
        for piece in pieces:
            sent[0] += len(piece)
            connection.send_pieces([piece])

    site.provider.script = play
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES):
        answer = site.relayed(site.request())
    assert_not_taken(answer, head_may_pass=name.startswith(("chunk", "trailer")))
    site.provider.wait_idle()
    assert sent[0] < ENDLESS_BOUND_BYTES
    site.assert_free()
