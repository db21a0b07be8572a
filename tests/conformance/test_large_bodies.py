"""100 MB in both directions, and peers that do not read: every byte arrives, and the gateway holds few of them."""

import hashlib
import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases_response import CHUNKED, STATUS
from tests.conformance.client import RawClient
from tests.conformance.kernel import memory_stays_below
from tests.conformance.provider import Connection, Request
from tests.conformance.scripts import answer_bytes, ok
from tests.conformance.site import Site
from tests.conformance.wire import DEADLINE_S
from tests.parts import wait_until

LARGE_BYTES = 100_000_000
FLOOD_BYTES = 200_000_000
MEMORY_BOUND_BYTES = 60_000_000
KERNEL_BYTES = [int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw"]
ACCEPTED_BOUND_BYTES = 2 * sum(KERNEL_BYTES) + 4_000_000
"""What the kernel's buffers of two connections, as large as it lets them grow, and a gateway that holds little take."""
STALLED_S = 0.3
# A prime length, so that a repeated or missing piece of any usual size shifts everything behind it.
BLOCK = random.Random(7).randbytes(1_000_003)


def blocks(total_bytes: int) -> Iterator[bytes]:
    """A body of so many bytes, in pieces."""
    whole, rest = divmod(total_bytes, len(BLOCK))
    yield from itertools.repeat(BLOCK, whole)
    if rest:
        yield BLOCK[:rest]


def in_chunks(total_bytes: int) -> Iterator[bytes]:
    """The same body, chunked."""
    for block in blocks(total_bytes):
        yield b"%x\r\n" % len(block)
        yield block
        yield b"\r\n"
    yield b"0\r\n\r\n"


def digest_of(total_bytes: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(total_bytes):
        digest.update(block)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_large_answer(site: Site, framing: str) -> None:
    """An answer of 100 MB arrives whole, its chunks as they were, without being held in the gateway's memory."""

    def play(connection: Connection, request: Request) -> None:
        if framing == "length":
            connection.send(answer_bytes(STATUS, b"Content-Length: %d" % LARGE_BYTES))
            for block in blocks(LARGE_BYTES):
                connection.send(block)
        else:
            connection.send(answer_bytes(STATUS, CHUNKED))
            for block in in_chunks(LARGE_BYTES):
                connection.send(block)

    site.provider.script = play
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES):
        pair = site.twice(site.request())
    # Digests first: a failing assert would print the bodies.
    plain, relayed, direct = sha256(pair.relayed.body), sha256(pair.relayed.body_wire), sha256(pair.direct.body_wire)
    assert plain == digest_of(LARGE_BYTES)
    assert relayed == direct


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_large_upload(site: Site, framing: str) -> None:
    """An upload of 100 MB arrives whole, without being held in the gateway's memory."""

    def play(connection: Connection, request: Request) -> None:
        connection.read_body(request)
        connection.send(ok(sha256(request.body).encode()))

    site.provider.script = play
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES), site.client() as client:
        if framing == "length":
            client.send(upload(site, b"Content-Length: %d" % LARGE_BYTES))
            for block in blocks(LARGE_BYTES):
                client.send(block)
        else:
            client.send(upload(site, CHUNKED))
            for block in in_chunks(LARGE_BYTES):
                client.send(block)
        assert client.answer().body.decode() == digest_of(LARGE_BYTES)


def upload(site: Site, *lines: bytes) -> bytes:
    return site.request("POST /v1/files HTTP/1.1", b"Content-Type: application/octet-stream", *lines)


class Flood:
    """Sends blocks as fast as they are taken, and counts them."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.ended = threading.Event()

    def run(self, peer: Connection | RawClient) -> None:
        try:
            for block in blocks(FLOOD_BYTES):
                for at in range(0, len(block), 65_536):
                    piece = block[at : at + 65_536]
                    peer.send(piece)
                    self.sent_bytes += len(piece)
        finally:
            self.ended.set()

    def wait_stalled(self) -> int:
        """Until nothing was taken for a while; how much was taken by then."""
        last = -1

        def stalled() -> bool:
            nonlocal last
            before, last = last, self.sent_bytes
            return self.ended.is_set() or (0 < before == last)

        wait_until(stalled, deadline_s=DEADLINE_S, every_s=STALLED_S)
        print(f"{self.sent_bytes / 1e6:.1f} MB were taken before it stalled")
        return self.sent_bytes


def test_client_that_does_not_read(site: Site) -> None:
    """A client that reads nothing stops the provider; when it reads, it gets everything."""
    flood = Flood()

    def play(connection: Connection, request: Request) -> None:
        connection.sock.settimeout(60)
        connection.send(answer_bytes(STATUS, b"Content-Length: %d" % FLOOD_BYTES))
        flood.run(connection)

    site.provider.script = play
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES), site.client(receive_buffer_bytes=65_536) as client:
        client.send(site.request())
        assert flood.wait_stalled() < ACCEPTED_BOUND_BYTES
        assert not flood.ended.is_set()
        answer = client.answer()
    digest = sha256(answer.body)
    assert digest == digest_of(FLOOD_BYTES)


def test_provider_that_does_not_read(site: Site) -> None:
    """A provider that reads nothing of an upload stops the client; when it reads, it gets everything."""
    flood = Flood()
    may_read = threading.Event()

    def play(connection: Connection, request: Request) -> None:
        assert may_read.wait(DEADLINE_S * 2)
        connection.read_body(request)
        connection.send(ok(sha256(request.body).encode()))

    site.provider.script = play
    with memory_stays_below(site.pid, MEMORY_BOUND_BYTES), site.client() as client:
        client.sock.settimeout(60)
        client.send(upload(site, b"Content-Length: %d" % FLOOD_BYTES))
        thread = threading.Thread(target=flood.run, args=(client,), name="upload")
        thread.start()
        try:
            taken_bytes = flood.wait_stalled()
            stalled = not flood.ended.is_set()
        finally:
            may_read.set()
            thread.join(60)
        assert stalled
        assert taken_bytes < ACCEPTED_BOUND_BYTES
        assert client.answer().body.decode() == digest_of(FLOOD_BYTES)
