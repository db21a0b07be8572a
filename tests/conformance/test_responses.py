"""The client gets the provider's answer: every byte that the table in `differences` does not name."""

import pytest

from tests.conformance.cases_response import RESPONSES, SMALL_BYTES, ResponseCase
from tests.conformance.differences import answer_as_compared, without_own_framing
from tests.conformance.scripts import answers, answers_pieces, ok
from tests.conformance.site import Pair, Site


def assert_same(pair: Pair, *, reframed: bool) -> None:
    relayed = without_own_framing(pair.relayed) if reframed else pair.relayed
    assert answer_as_compared(relayed, relayed=True) == answer_as_compared(pair.direct, relayed=False)


def asked(site: Site, case: ResponseCase, piece_bytes: int) -> Pair:
    site.provider.script = answers(case.answer, then=case.then, piece_bytes=piece_bytes)
    return site.twice(site.request(f"{case.method} /v1/models HTTP/1.1"), method=case.method)


@pytest.mark.parametrize("case", RESPONSES, ids=str)
def test_at_once(site: Site, case: ResponseCase) -> None:
    """An answer that comes in one piece reaches the client as it was sent."""
    pair = asked(site, case, 0)
    direct = b"".join(pair.direct.interim) + pair.direct.raw_head + pair.direct.body_wire
    assert direct == case.answer, "the case itself is not what it says"
    assert_same(pair, reframed=case.reframed)


@pytest.mark.parametrize("case", RESPONSES, ids=str)
def test_in_pieces(site: Site, case: ResponseCase) -> None:
    """An answer that comes byte by byte (a large one in odd pieces) reaches the client as it was sent."""
    asked_in = 1 if len(case.answer) <= SMALL_BYTES else 997
    assert_same(asked(site, case, asked_in), reframed=case.reframed)


SPLIT = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-y:z\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"c;ext=1\r\ndata: hello\n\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\n\r\n"
)


@pytest.mark.parametrize("answer", [SPLIT, ok(b'{"a":1}', b"Content-Type: application/json", b"Set-Cookie: a")])
def test_cut_at_every_byte(site: Site, answer: bytes) -> None:
    """Wherever an answer is cut in two on its way, the client gets the same bytes."""
    site.provider.script = answers(answer)
    with site.direct_client() as client:
        client.send(site.request())
        direct = client.answer()
    expected = answer_as_compared(direct, relayed=False)
    differing = []
    with site.client() as client:
        for at in range(1, len(answer)):
            site.provider.script = answers_pieces([answer[:at], answer[at:]])
            client.send(site.request())
            relayed = client.answer()
            assert not relayed.broken, f"broken off when cut at byte {at}"
            if answer_as_compared(relayed, relayed=True) != expected:
                differing.append(at)
            assert not client.wire.waiting
    assert differing == []
