"""The files of a journal: what was written is found again, whatever is cut off or changed in the last record."""

import resource
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.records import RECORD_OVERHEAD_BYTES, records
from gateway.journal.segment import HEADER_BYTES, Segment, SegmentFault, allocate

SOURCE = 2**63 - 5
PAGE_BYTES = 4096
FIRST_SEQ = 2**33 + 700
BODIES = [b"first", b"\x00" * 30, b"third " * 9, b"the last, whose file is damaged"]
LAST_BYTES = RECORD_OVERHEAD_BYTES + len(BODIES[-1])


def written(path: Path, bodies: list[bytes], first_seq: int = FIRST_SEQ) -> bytes:
    """A segment with these records, as its writer leaves it; the file's content."""
    allocate(path, PAGE_BYTES)
    segment = Segment.begin(path, SOURCE, first_seq, PAGE_BYTES)
    for seq, body in enumerate(bodies, first_seq):
        assert segment.append(seq, body)
    segment.let_go()
    return path.read_bytes()


def found_in(path: Path, content: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """What an heir finds in a file: its records, and whether the last one is torn."""
    path.write_bytes(content)
    segment = Segment.open(path, SOURCE)
    torn = segment.find_end()
    found = [(record.seq, record.body) for record in segment.records(HEADER_BYTES)]
    assert segment.next_seq == (found[-1][0] + 1 if found else FIRST_SEQ)
    segment.let_go()
    return found, torn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "1.segment"


def test_records_come_back(file: Path) -> None:
    """Records come back in order, with their numbers and every byte; behind them nothing is found."""
    content = written(file, BODIES)
    assert len(content) == PAGE_BYTES
    assert found_in(file, content) == (list(enumerate(BODIES, FIRST_SEQ)), False)


def test_a_segment_is_filled_to_its_last_byte() -> None:
    """A record that fits exactly is taken; one that is a byte larger is not, and leaves no trace."""
    segment = Segment.begin(None, SOURCE, 0, PAGE_BYTES)
    room = PAGE_BYTES - HEADER_BYTES - RECORD_OVERHEAD_BYTES
    assert not segment.append(0, bytes(room + 1))
    assert (segment.next_seq, any(segment.map[HEADER_BYTES:])) == (0, False)
    assert segment.append(0, b"x" * room)
    assert [record.body for record in segment.records(HEADER_BYTES)] == [b"x" * room]
    assert not segment.append(1, b"x")
    segment.remove()


@given(st.lists(st.binary(min_size=1, max_size=900), max_size=40), st.data())
def test_any_cut_leaves_a_beginning(bodies: list[bytes], data: st.DataObject) -> None:
    """Whatever the sizes, a file cut anywhere gives the whole records before the cut, and no other."""
    segment = Segment.begin(None, SOURCE, 0, PAGE_BYTES)
    ends = [HEADER_BYTES]
    for seq, body in enumerate(bodies):
        fits = ends[-1] + RECORD_OVERHEAD_BYTES + len(body) <= PAGE_BYTES
        assert segment.append(seq, body) is fits
        if not fits:
            break
        ends.append(segment.end)
    content = segment.map[:]
    cut = data.draw(st.integers(HEADER_BYTES, ends[-1]))
    whole = [(seq, bodies[seq]) for seq, (_, end) in enumerate(pairwise(ends)) if end <= cut]
    for damaged in (content[:cut], content[:cut].ljust(PAGE_BYTES, b"\0")):
        found = [(record.seq, record.body) for record in records(damaged, HEADER_BYTES, len(damaged))]
        # A cut within zeros that a record ends with is none.
        assert found[: len(whole)] == whole
        assert found == [(seq, bodies[seq]) for seq in range(len(found))]
    segment.remove()


def test_a_file_cut_in_its_last_record(file: Path) -> None:
    """Cut or zeroed at any byte of its last record, a file gives all records before it and says that it is torn."""
    content = written(file, BODIES)
    start = HEADER_BYTES + sum(RECORD_OVERHEAD_BYTES + len(body) for body in BODIES[:-1])
    before = list(enumerate(BODIES[:-1], FIRST_SEQ))
    for cut in range(start, start + LAST_BYTES):
        assert found_in(file, content[:cut]) == (before, cut > start), cut
        assert found_in(file, content[:cut].ljust(PAGE_BYTES, b"\0")) == (before, cut > start), cut


@pytest.mark.parametrize(
    ("first", "end"),
    [
        pytest.param(0, 4, id="length"),
        pytest.param(4, 8, id="checksum"),
        pytest.param(8, 12, id="number, lower half"),
        pytest.param(12, 16, id="number, upper half"),
        pytest.param(16, LAST_BYTES, id="body"),
    ],
)
def test_a_changed_byte_in_the_last_record(file: Path, first: int, end: int) -> None:
    """Any other value of any byte of the last record ends the file before it: no wrong record is ever given."""
    content = bytearray(written(file, BODIES))
    start = HEADER_BYTES + sum(RECORD_OVERHEAD_BYTES + len(body) for body in BODIES[:-1])
    for place in range(start + first, start + end):
        right = content[place]
        for wrong in set(range(256)) - {right}:
            content[place] = wrong
            found = [record.body for record in records(bytes(content), HEADER_BYTES, PAGE_BYTES)]
            assert found == BODIES[:-1], (place - start, wrong)
        content[place] = right ^ 0x10
        assert found_in(file, bytes(content)) == (list(enumerate(BODIES[:-1], FIRST_SEQ)), True)
        content[place] = right


def test_only_a_segment_of_the_boot_is_opened(file: Path) -> None:
    """A file of another boot, cut within its header, or with any of its bytes changed is refused."""
    content = written(file, BODIES)
    with pytest.raises(SegmentFault, match="no segment of this boot"):
        Segment.open(file, SOURCE - 1)
    for size in (0, 1, HEADER_BYTES - 1):
        file.write_bytes(content[:size])
        with pytest.raises(SegmentFault, match="too short"):
            Segment.open(file, SOURCE)
    for place in range(HEADER_BYTES - 4):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(SegmentFault, match="no segment of this boot"):
            Segment.open(file, SOURCE)
    file.write_bytes(content)
    assert Segment.open(file, SOURCE).first_seq == FIRST_SEQ


def test_a_full_disk_leaves_no_file(file: Path) -> None:
    """When the disk ends within a file that is made, OSError is raised and the file is gone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 19, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            allocate(file, 8 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not file.exists()
    allocate(file, 5 << 19)
    assert file.stat().st_size == 5 << 19
    assert file.stat().st_blocks * 512 >= 5 << 19, "every block exists"
    with pytest.raises(FileExistsError):
        allocate(file, PAGE_BYTES)
