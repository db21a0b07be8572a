"""The disk of the journal is full: events go to memory, and nothing else changes."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.load import loading
from tests.faults.reckoning import reckon
from tests.faults.site import installation, pause
from tests.parts import wait_until

_SIZE = "1800k"
"""Room for one segment of a journal, not for the next."""
_CHUNK = bytes(4_096)
PADDING = "-" + "x" * 900
"""Events of two kilobytes fill a journal sooner."""
SEGMENT_BYTES = 1 << 20
FAULTS = "lectr_gateway_journal_disk_faults_total"


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; skips the test where none may be mounted."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path: Path) -> None:
    """A file that takes all the room there is."""
    with (path / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(_CHUNK)


@pytest.mark.full_timeout(300)
def test_a_full_disk(tmp_path: Path, full: bool) -> None:
    """No room for a journal: requests go on, their events are kept in memory, and each is stored; then disk again."""
    with small_disk(tmp_path / "disk") as disk, installation(tmp_path / "site", gateways=0, ingestors=0) as site:
        place = site.add_gateway(LECTR_STATE_DIR=str(disk), LECTR_JOURNAL_SEGMENT_BYTES=str(SEGMENT_BYTES))
        site.start()
        with loading("disk", [place.url], site.key, 300, padding=PADDING) as load:
            load.wait_answered(20)
            fill(disk)
            # Without an ingestor nothing is confirmed and no file goes: behind the first segment there is memory only.
            segments = 10 if full else 2
            wait_until(lambda: place.details()[0]["journal_bytes"] >= segments * SEGMENT_BYTES, deadline_s=240)
            load.wait_answered(100)
            assert place.details()[0]["journal"] == "memory: the disk refuses new files"
            assert place.metric(FAULTS) >= 1
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            site.add_ingestor()
            site.start()
            wait_until(lambda: place.details()[0]["journal"] in {"memory", "disk"}, deadline_s=30)
            load.wait_answered(20)
        found = reckon("journal disk full", site, load)
        assert found.answered == found.sent == found.stored
        assert place.metric("lectr_gateway_events_dropped_total") == 0


def test_a_start_on_a_full_disk(tmp_path: Path) -> None:
    """A gateway that starts while the disk is full serves, with its events in memory."""
    with small_disk(tmp_path / "disk") as disk, installation(tmp_path / "site", gateways=0) as site:
        place = site.add_gateway(LECTR_STATE_DIR=str(disk))
        fill(disk)
        place.start()
        with loading("start", [place.url], site.key) as load:
            load.wait_answered(20)
        wait_until(lambda: place.details()[0]["unconfirmed_events"] == 0)


@pytest.mark.only_in_full
def test_a_worker_killed_while_the_disk_is_full(tmp_path: Path) -> None:
    """A worker that dies while the disk is full is there again, at the latest when the disk has room."""
    with small_disk(tmp_path / "disk") as disk, installation(tmp_path / "site", gateways=0) as site:
        subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
        place = site.add_gateway(LECTR_STATE_DIR=str(disk), LECTR_WORKERS="2")
        place.start()
        fill(disk)
        os.kill(place.children()[0], signal.SIGKILL)
        wait_until(lambda: len(place.details()) < place.workers)
        pause(2)
        (disk / "filler").unlink()
        wait_until(lambda: len(place.details()) == place.workers, deadline_s=30)
