"""A provider on raw sockets: records the bytes of each request, and answers as a script says, byte by byte.

A thread per connection reads a head and plays the script of the moment; if the script leaves the connection open, the
next request is waited for. Requests for `/v1/after` are answered without the script: tests ask them to see that the
way is still free.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from tests.conformance.kernel import wait_peer_has_read
from tests.conformance.wire import DEADLINE_S, HEAD_END, Broken, Framing, Head, Wire, request_framing, unframed
from tests.parts import wait_until

AFTER = b"after\n"
_AFTER_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(AFTER), AFTER)


@dataclass
class Request:
    """A request as it came in; `body` and `body_wire` once a script has read them."""

    raw_head: bytes
    connection: "Connection" = field(repr=False)
    body: bytes = b""
    body_wire: bytes = b""

    @property
    def head(self) -> Head:
        return Head.of(self.raw_head)

    @property
    def target(self) -> bytes:
        return self.head.start.split(b" ")[1]

    @property
    def framing(self) -> Framing:
        return request_framing(self.head)


class Connection:
    """One accepted connection, as a script sees it. Every wait has a deadline."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.number = number
        self.wire = Wire(sock)
        self.open = True

    def next_request(self) -> Request | None:
        """Wait for a request's head; None when the peer leaves instead."""
        self.sock.settimeout(None)
        self.wire.mark()
        try:
            return Request(self.wire.until(HEAD_END), self)
        except Broken:
            return None
        finally:
            self.sock.settimeout(DEADLINE_S)

    def read_body(self, request: Request) -> None:
        """Read the request's body, saying 100 first to a client that waits for it. Raises Broken."""
        if request.head.values(b"expect"):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wire.mark()
        try:
            self.wire.body(request.framing)
        finally:
            request.body_wire = bytes(self.wire.taken)
        request.body = unframed(request.body_wire, request.framing)

    def send(self, data: bytes) -> None:
        """Send everything at once."""
        self.sock.sendall(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send piece by piece, each when the peer has read the one before."""
        for piece in pieces:
            self.sock.sendall(piece)
            wait_peer_has_read(self.sock)

    def end_writing(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def wait_left(self) -> str:
        """Wait until the peer ends the connection; how it did: closed or reset."""
        try:
            while self.sock.recv(1 << 20):
                pass
        except ConnectionError:
            return "reset"
        return "closed"

    def close(self) -> None:
        """End the connection cleanly."""
        self.open = False
        self.sock.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


Script = Callable[[Connection, Request], None]


class RawProvider:
    """The provider; use as a context manager. `script` is what the next request meets."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self._server.getsockname()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()
        self.script: Script = _unexpected
        self.connections: list[Connection] = []
        self.requests: list[Request] = []
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name="provider")
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._acceptor.join(DEADLINE_S)
        self.drop()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    @property
    def asked(self) -> list[Request]:
        """Requests so far, without those that only look whether the way is free."""
        return [request for request in list(self.requests) if not request.target.endswith(b"/after")]

    @property
    def request(self) -> Request:
        """The one request so far."""
        (request,) = self.asked
        return request

    def forget(self) -> None:
        """Start anew: no connections, no records, no script."""
        self.drop()
        self.script = _unexpected
        self.connections.clear()
        self.requests.clear()
        self.faults.clear()

    def wait_idle(self) -> None:
        """Until no script is being played."""
        wait_until(lambda: self._busy == 0, deadline_s=DEADLINE_S, every_s=0.001)

    def drop(self) -> None:
        """End all connections and wait for their scripts."""
        for connection in self.connections:
            if connection.open:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a script does not end"
        self._threads.clear()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            connection = Connection(sock, len(self.connections))
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"provider-{connection.number}")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection.sock:
            while connection.open and (request := connection.next_request()):
                with self._lock:
                    self._busy += 1
                self.requests.append(request)
                try:
                    self._play(connection, request)
                finally:
                    with self._lock:
                        self._busy -= 1
            connection.open = False

    def _play(self, connection: Connection, request: Request) -> None:
        if request.target.endswith(b"/after"):
            connection.send(_AFTER_ANSWER)
            return
        try:
            self.script(connection, request)
        except (Broken, ConnectionError):
            # The peer left; tests that care look at what was received.
            connection.close()
        except Exception as error:  # noqa: BLE001 - shown by the fixture, which fails the test
            self.faults.append(f"{type(error).__name__}: {error}")
            connection.close()


def _unexpected(connection: Connection, request: Request) -> None:
    raise AssertionError(f"no script was set for {request.raw_head!r}")
