"""What tests of the journal share: journals of a test's size, what a killed process leaves, and disks that fail."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.journal import Backlog, Journal, new_source
from gateway.journal.segment import allocate
from shared.stream import MAX_FRAME_EVENTS, encode_event
from tests.ingestor_process import event
from tests.parts import ROOT, clean_environ

INSTANCE = "gw-test"
SMALL_BYTES = 16 << 10
"""A segment of about a hundred plain events."""


def open_journal(state_dir: Path | None, *, source: int | None = None, **settings: int) -> Journal:
    """A journal whose sizes suit a test; without a state directory in memory."""
    sizes = {"partitions": 1, "capacity_bytes": 64 << 20, "segment_bytes": SMALL_BYTES, "sync_interval_ms": 0}
    drawn = new_source() if source is None else source
    return Journal(str(state_dir or ""), source=drawn, instance=INSTANCE, **{**sizes, **settings})


def leave_killed(state_dir: Path, events: int, *, source: int | None = None, begun: int = 0) -> Journal:
    """The journal of a process that was killed after so many events."""
    journal = open_journal(state_dir, source=source)
    for _ in range(begun):
        journal.begin()
    add(journal, events)
    journal.release()
    return journal


def add(to: Journal, count: int) -> None:
    """Append events that carry the numbers they must."""
    for _ in range(count):
        to.append(encode_event(event(to.next_seq)))


def read_all(backlog: Backlog) -> list[tuple[int, bytes]]:
    """What is left to ship, read as a shipper does: numbers and events."""
    found: list[tuple[int, bytes]] = []
    while True:
        if (segment := backlog.to_load()) is not None:
            segment.load()
        run = backlog.next_run(MAX_FRAME_EVENTS)
        if run is not None:
            found += enumerate(run.events, run.first_seq)
            backlog.shipped(run)
        elif backlog.to_load() is None:
            return found


def damage(path: Path, *places: int, value: int = 0xFF) -> None:
    """Change these bits of a file's bytes."""
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= value
    path.write_bytes(content)


class Disk:
    """What makes files, and can refuse to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.asked = 0
        monkeypatch.setattr("gateway.journal.journal.allocate", self.allocate)

    def allocate(self, path: Path, size_bytes: int) -> None:
        self.asked += 1
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(path, size_bytes)


WRITER = """
import os, sys
import msgspec
from gateway.journal import Journal
from shared.event import Event
from shared.stream import encode_event

journal = Journal(sys.argv[1], source=int(sys.argv[2]), instance="gw-test", partitions=1, capacity_bytes=1 << 40,
                  segment_bytes=1 << 16, sync_interval_ms=0)
plain = Event(seq=0, ts_ms=1, org="acme", method="POST", endpoint="/v1/x", feature="f", provider="openai",
              provider_source="model", status=200)
while True:
    seq = journal.next_seq
    journal.begin()
    journal.append(encode_event(msgspec.structs.replace(plain, seq=seq, task="x" * (seq % 300), request_bytes=seq * 7)))
    os.write(1, b"%d\\n" % seq)
"""


class Writer:
    """A process that appends as fast as it can, and prints the number of each event once that is acknowledged."""

    def __init__(self, directory: Path, state_dir: Path, source: int) -> None:
        self._output = directory / f"acknowledged-{source}"
        command = [sys.executable, "-c", WRITER, str(state_dir), str(source)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=clean_environ(), stdout=output)

    def acknowledged(self) -> int:
        """How many events; a line that is not whole does not count."""
        assert self.process.poll() in {None, -9}
        return self._output.read_bytes().count(b"\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
