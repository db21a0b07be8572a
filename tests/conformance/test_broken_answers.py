"""Providers that break off, say nothing or fall silent: a client never takes what it got for a whole answer."""

import pytest

from tests.conformance.cases_response import CHUNKED, STATUS
from tests.conformance.client import Answer
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import Then, answer_bytes, answers, end
from tests.conformance.site import Site, fault_of
from tests.conformance.wire import HEAD_END

LENGTH = answer_bytes(STATUS, b"Content-Length: 20", body=b"0123456789" * 2)
CHUNKS = answer_bytes(STATUS, CHUNKED, body=b"a;x=1\r\n0123456789\r\n1e\r\n" + b"x" * 30 + b"\r\n0\r\nX-Sum: 1\r\n\r\n")
TO_THE_END = answer_bytes(STATUS, b"Connection: close", body=b"0123456789" * 2)


def assert_never_whole(answer: Answer, whole: bytes) -> None:
    """Either the gateway's own 502, or a broken connection after bytes that the provider did send."""
    if not answer.broken:
        assert (answer.status, fault_of(answer)) == (502, "provider_unreachable")
        return
    if answer.raw_head.endswith(HEAD_END):
        assert whole.partition(HEAD_END)[2].startswith(answer.body_wire)


def cut(site: Site, whole: bytes, at: int, then: Then, version: str = "1.1") -> Answer:
    """The answer that a client gets when the provider stops after so many bytes."""

    def play(connection: Connection, request: Request) -> None:
        connection.send_pieces([whole[:at]])
        end(connection, then)

    site.provider.script = play
    return site.relayed(site.request(f"GET /v1/models HTTP/{version}"))


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("whole", [LENGTH, CHUNKS], ids=["length", "chunks"])
def test_cut_at_every_byte(site: Site, whole: bytes, then: Then) -> None:
    """Wherever the provider stops, in the head, the body, a chunk-size line or a trailer, the client sees it."""
    for at in range(1, len(whole)):
        assert_never_whole(cut(site, whole, at, then), whole)
    site.assert_free()


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("whole", [LENGTH, CHUNKS], ids=["length", "chunks"])
def test_cut_seen_by_an_old_client(site: Site, whole: bytes, then: Then) -> None:
    """A client of HTTP/1.0 that reads to the end sees a reset, since a clean end would look like a whole answer."""
    answer = cut(site, whole, len(whole) - 15, then, "1.0")
    assert answer.status == 200
    # A length shows it too; without one only a reset does.
    assert answer.broken == "reset" or (answer.broken and answer.head.values(b"content-length"))


def test_reset_at_the_end(site: Site) -> None:
    """A body that ends with a reset instead of a close is not whole."""
    assert cut(site, TO_THE_END, len(TO_THE_END) - 5, "reset").broken


@pytest.mark.parametrize("then", ["close", "reset"])
def test_not_a_byte(site: Site, then: Then) -> None:
    """A provider that closes without a byte is a 502, and was asked once."""
    site.provider.script = answers(b"", then=then)
    answer = site.relayed(site.request())
    assert (answer.status, fault_of(answer)) == (502, "provider_unreachable")
    assert len(site.provider.asked) == 1
    site.assert_free()


def test_half_a_head(site: Site) -> None:
    """A head that never ends is a 502."""
    answer = cut(site, LENGTH, len(STATUS) + 5, "close")
    assert (answer.status, fault_of(answer)) == (502, "provider_unreachable")


def test_only_an_interim_answer(site: Site) -> None:
    """A provider that closes after 103 gave no answer: the client gets 502, or a broken connection."""
    site.provider.script = answers(b"HTTP/1.1 103 Early Hints\r\n\r\n", then="close")
    answer = site.relayed(site.request())
    assert answer.broken or (answer.status, fault_of(answer)) == (502, "provider_unreachable")


@pytest.mark.parametrize("body", [LENGTH, CHUNKS, TO_THE_END], ids=["length", "chunks", "to the end"])
@pytest.mark.parametrize("sent_bytes", [0, 5])
def test_silence_inside_the_body(impatient_site: Site, body: bytes, sent_bytes: int) -> None:
    """A provider that falls silent after its head or inside the body: both connections are broken off."""
    ends: list[str] = []

    def play(connection: Connection, request: Request) -> None:
        connection.send(body[: body.index(HEAD_END) + len(HEAD_END) + sent_bytes])
        ends.append(connection.wait_left())

    impatient_site.provider.script = play
    answer = impatient_site.relayed(impatient_site.request())
    assert (answer.status, bool(answer.broken)) == (200, True)
    if not answer.head.values(b"content-length") and not answer.head.values(b"transfer-encoding"):
        assert answer.broken == "reset"
    impatient_site.provider.wait_idle()
    assert len(ends) == 1
    impatient_site.assert_free()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["no byte", "half a head"])
def test_silence_before_the_body(impatient_site: Site, sent: bytes) -> None:
    """A provider that never ends its head: 504 as JSON, and its connection is given up."""

    def play(connection: Connection, request: Request) -> None:
        connection.send(sent)
        connection.wait_left()

    impatient_site.provider.script = play
    answer = impatient_site.relayed(impatient_site.request())
    assert (answer.status, fault_of(answer)) == (504, "provider_timeout")
    impatient_site.provider.wait_idle()
    impatient_site.assert_free()
