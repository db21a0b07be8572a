"""What Linux knows about a process that the process itself does not say: bytes it has not read, memory it took.

Waiting until a peer has read is what makes a cut between two pieces real: the next piece cannot join the last one in
the peer's receive buffer.
"""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts import wait_until

Address = tuple[str, int]

_INET_DIAG = 4
_BY_FAMILY = 20
_ERROR_AT = 16
_LOOKUP_BYTES = 72
_NO_COOKIE = b"\xff" * 8
_RECEIVE_QUEUE_AT = 16 + 4 + 48 + 4


def unread_bytes(local: Address, remote: Address) -> int:
    """Bytes that wait in the kernel for the owner of the socket local -> remote; 0 when there is no such socket."""
    ends = struct.pack(
        "!HH16s16sI8s", local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]), 0, _NO_COOKIE
    )
    lookup = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _INET_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", _LOOKUP_BYTES, _BY_FAMILY, 1, 0, 0) + lookup)
        found = kernel.recv(65_536)
    if struct.unpack_from("=H", found, 4)[0] == _BY_FAMILY:
        waiting: int = struct.unpack_from("=I", found, _RECEIVE_QUEUE_AT)[0]
        return waiting
    error = -struct.unpack_from("=i", found, _ERROR_AT)[0]
    # Anything else would make every cut between pieces pass without being one.
    assert error == errno.ENOENT, f"the kernel does not say what was read: {errno.errorcode.get(error, error)}"
    return 0


def wait_peer_has_read(sock: socket.socket, unless: Callable[[], bool] = bool) -> None:
    """Until the process at the other end has taken everything that was sent to it, or is gone."""
    try:
        local, remote = sock.getsockname(), sock.getpeername()
    except OSError:
        return
    wait_until(lambda: not unread_bytes(remote, local) or unless(), deadline_s=10, every_s=0.0002)


class Memory:
    """Growth of a process' peak memory since a moment."""

    def __init__(self, pid: int) -> None:
        self._pids = [pid, *_descendants(pid)]
        for each in self._pids:
            Path(f"/proc/{each}/clear_refs").write_text("5", encoding="ascii")
        self._before_bytes = self._read("VmRSS")

    def grown_bytes(self) -> int:
        """How far the peak since then is above what it was."""
        return self._read("VmHWM") - self._before_bytes

    def _read(self, name: str) -> int:
        total = 0
        for each in self._pids:
            lines = Path(f"/proc/{each}/status").read_text(encoding="utf-8").splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
        return total


def _descendants(pid: int) -> list[int]:
    """The process' children and theirs: a gateway may serve from workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [each for child in children for each in (int(child), *_descendants(int(child)))]


@contextmanager
def memory_stays_below(pid: int, bound_bytes: int) -> Iterator[None]:
    """Fail if the process ever takes that much more memory in between."""
    memory = Memory(pid)
    yield
    grown_bytes = memory.grown_bytes()
    print(f"memory grew by {grown_bytes / 1e6:.1f} MB at most")
    assert grown_bytes < bound_bytes
