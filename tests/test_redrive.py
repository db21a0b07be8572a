"""`python -m ingestor redrive`: what was asked for and could not be put back is named, and the exit code tells it."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.ingestor_process import Pusher
from tests.parts import run_command


class Letters:
    """A Redis with dead letters, and the command."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pusher = Pusher(url)

    def bury(self, reason: str) -> str:
        """The id of a new dead letter."""
        fields: dict[Any, Any] = {"id": "1-1", "reason": reason, "detail": "", "s": 7, "a": 0, "n": 1, "f": b"x"}
        return cast("bytes", self.pusher.client.xadd(self.pusher.partition.dead, fields)).decode()

    def redrive(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, what was printed, and what was printed about faults."""
        done = run_command("ingestor", "redrive", *arguments, LECTR_REDIS_URL=self.url)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def letters(redis_url: str) -> Iterator[Letters]:
    made = Letters(redis_url)
    made.pusher.client.flushall()
    yield made
    made.pusher.client.close()


def test_nothing_to_do_is_no_fault(letters: Letters) -> None:
    """Without ids and reason, and without dead letters, the command says so with exit code 0."""
    assert letters.redrive() == (0, "put back: 0\n", "")


def test_all_are_put_back(letters: Letters) -> None:
    """Without ids and reason, every dead letter is."""
    letters.bury("refused")
    letters.bury("undecodable")
    assert letters.redrive() == (0, "put back: 2\n", "")
    assert (letters.pusher.dead(), letters.pusher.waiting()) == ([], 2)


@pytest.mark.parametrize("wrong", ["abc", "1", "1-", "-1-1x", "1-1 ", "٣-٣"])
def test_what_is_no_id_is_refused(letters: Letters, wrong: str) -> None:
    """A usage error that names it; nothing is put back, not even under an id that is right."""
    right = letters.bury("refused")
    code, printed, said = letters.redrive("--", right, wrong)
    assert (code, printed) == (2, "")
    assert f"{wrong!r}: no id of a dead letter" in said
    assert "python -m ingestor dead-letters" in said
    assert letters.pusher.waiting() == 0


def test_ids_that_are_not_there_are_named(letters: Letters) -> None:
    """The others are put back; the exit code is 1."""
    there = letters.bury("refused")
    assert letters.redrive("1-1", there, "1-2") == (1, "put back: 1\n", "no dead letter: 1-1, 1-2\n")
    assert letters.redrive(there) == (1, "put back: 0\n", f"no dead letter: {there}\n")


def test_a_reason_that_matches_nothing_is_said(letters: Letters) -> None:
    """With the reasons that there are, and exit code 1."""
    none = "no dead letter with the reason 'nope'; reasons there are: none, there are no dead letters\n"
    assert letters.redrive("--reason", "nope") == (1, "put back: 0\n", none)
    letters.bury("undecodable")
    letters.bury("refused")
    there = "no dead letter with the reason 'nope'; reasons there are: refused, undecodable\n"
    assert letters.redrive("--reason", "nope") == (1, "put back: 0\n", there)
    assert letters.redrive("--reason", "refused") == (0, "put back: 1\n", "")
    assert len(letters.pusher.dead()) == 1


def test_an_id_with_another_reason_is_named(letters: Letters) -> None:
    """Both have to fit: an id whose letter has another reason stays, and is told."""
    first, second = letters.bury("refused"), letters.bury("undecodable")
    said = f"no dead letter with the reason 'refused': {second}\n"
    assert letters.redrive("--reason", "refused", first, second) == (1, "put back: 1\n", said)
    assert len(letters.pusher.dead()) == 1


def test_several_partitions_are_searched(letters: Letters) -> None:
    """An id counts as there if any partition has it."""
    there = letters.bury("refused")
    done = run_command("ingestor", "redrive", there, LECTR_REDIS_URL=letters.url, LECTR_STREAM_PARTITIONS="3")
    assert (done.returncode, done.stdout) == (0, "put back: 1\n")
