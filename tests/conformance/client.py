"""A client on raw sockets: sends exactly the bytes it is given, keeps exactly the bytes that come back."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from tests.conformance.kernel import wait_peer_has_read
from tests.conformance.wire import DEADLINE_S, HEAD_END, Broken, Head, Wire, answer_framing, unframed


@dataclass(frozen=True)
class Answer:
    """What came back for one request. `broken` says how the connection ended inside it; empty when it is whole."""

    method: str
    interim: tuple[bytes, ...]
    """Whole heads of 1xx answers."""
    raw_head: bytes
    body_wire: bytes
    broken: str

    @property
    def head(self) -> Head:
        return Head.of(self.raw_head)

    @property
    def status(self) -> int:
        """The status, 0 when not even the head came whole."""
        return self.head.status if self.raw_head.endswith(HEAD_END) else 0

    @property
    def body(self) -> bytes:
        """The body of a whole answer without its framing."""
        assert not self.broken, self
        return unframed(self.body_wire, answer_framing(self.head, self.method))

    @property
    def closes(self) -> bool:
        """Whether the head says that the connection ends after it, as one of HTTP/1.0 does unless it says otherwise."""
        said = b",".join(self.head.values(b"connection")).lower()
        return b"close" in said or (self.head.start.startswith(b"HTTP/1.0") and b"keep-alive" not in said)


class RawClient:
    """One connection to the gateway, or to the provider itself. Use as a context manager."""

    def __init__(self, address: tuple[str, int], *, receive_buffer_bytes: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer_bytes:
            # Before connecting: the window is agreed on there.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.sock.settimeout(DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(address)
        self.wire = Wire(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.sock.sendall(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send piece by piece, each when the peer has read the one before; stop when it ends the connection."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.sock.sendall(piece)
                wait_peer_has_read(self.sock)

    def send_until_answered(self, pieces: Iterable[bytes]) -> int:
        """Send, each piece when the one before was read, until an answer begins or the peer is gone; the bytes sent."""
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.sock.sendall(piece)
                sent_bytes += len(piece)
                wait_peer_has_read(self.sock, unless=self._is_answered)
                if self._is_answered():
                    break
        return sent_bytes

    def _is_answered(self) -> bool:
        return bool(select.select([self.sock], [], [], 0)[0])

    @contextlib.contextmanager
    def sending(self, data: bytes) -> Iterator[None]:
        """Send in the background, as far as the peer takes it."""

        def send() -> None:
            with contextlib.suppress(OSError):
                self.sock.sendall(data)

        thread = threading.Thread(target=send, name="client")
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "the upload does not end"

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer to its end, or to where the connection broke."""
        interim: list[bytes] = []
        raw_head = b""
        self.wire.mark()
        try:
            while True:
                raw_head = self.wire.until(HEAD_END)
                self.wire.mark()
                status = Head.of(raw_head).status
                # 101 ends the HTTP on a connection.
                if status == 101 or not 100 <= status < 200:
                    break
                interim.append(raw_head)
                raw_head = b""
            self.wire.body(answer_framing(Head.of(raw_head), method))
        except Broken as end:
            taken = bytes(self.wire.taken + self.wire.waiting)
            if raw_head:
                return Answer(method, tuple(interim), raw_head, taken, end.how)
            return Answer(method, tuple(interim), taken, b"", end.how)
        return Answer(method, tuple(interim), raw_head, bytes(self.wire.taken), "")

    def wait_continue(self) -> None:
        """Wait for the answer that lets the upload begin."""
        head = self.wire.until(HEAD_END)
        assert Head.of(head).status == 100, head

    def rest(self) -> tuple[bytes, str]:
        """Everything until the connection ends, and how it ended: closed or reset."""
        self.wire.mark()
        try:
            return self.wire.to_end(), "closed"
        except Broken as end:
            return bytes(self.wire.taken), end.how

    def reset(self) -> None:
        """Leave with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
