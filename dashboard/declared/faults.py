"""What is wrong with a file, said so that it can be mended: the file, the place in it, and the fix. Pure."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from dashboard.validation import problem_in
from shared.organisation import Org
from shared.registry import KEY_PREFIX, RegistryFault

MOST_PROBLEMS: Final = 20
_LONGEST_PROBLEM: Final = 400
_ENDING: Final = 150
"""Of what is too long, so many characters of its end are shown: there stands the fix."""
_REST_OF_WORD: Final = re.compile(r"[A-Za-z0-9_-]*")
_KEY: Final = re.compile(re.escape(KEY_PREFIX) + r"[A-Za-z0-9_-]+")
_FIELD: Final = re.compile(r"([^ :]+): ")
_PLAIN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")


class DeclarationFault(RegistryFault):
    """A file that cannot be taken as it is. Each line of its text is one problem, and names the file."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        shown = [f"{source}: {printable(problem)}" for problem in problems[:MOST_PROBLEMS]]
        if len(problems) > MOST_PROBLEMS:
            shown.append(f"{source}: and {len(problems) - MOST_PROBLEMS} problems more")
        found = _FIELD.match(printable(problems[0]))
        super().__init__("\n".join(shown), field=found[1] if found else None)


def printable(text: str) -> str:
    """One line that shows neither a key that stands where it must not, nor what a terminal would obey."""
    if len(text) > 2 * _LONGEST_PROBLEM:
        # What is left of a word, of which the beginning is gone, may be the end of a key.
        text = text[:_LONGEST_PROBLEM] + "..." + _REST_OF_WORD.sub("", text[-_LONGEST_PROBLEM:], count=1)
    return one_line(_KEY.sub(f"{KEY_PREFIX}***", text))


def one_line(text: str) -> str:
    """Text without what a terminal would obey, at most 400 characters of it. Whatever is in it is shown."""
    text = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)
    if len(text) <= _LONGEST_PROBLEM:
        return text
    return f"{text[: _LONGEST_PROBLEM - _ENDING]}...{text[-_ENDING:]}"


def place_of(org: str) -> str:
    """Where an organisation stands in a file."""
    return f"orgs.{org}" if _PLAIN_NAME.fullmatch(org) else f"orgs[{org!r}]"


def problem_of(error: msgspec.ValidationError, place: str) -> str:
    """What msgspec says of an organisation at a place, as the field, what is wrong with it, and the fix."""
    problem = problem_in(error, Org)
    if problem.field is None:
        return problem.told(place)
    hint = "; make both with: key new" if problem.field.endswith(".sha256") else ""
    return f"{place}.{problem.told('')}{hint}"
