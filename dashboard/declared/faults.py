"""What is wrong with a file, said so that it can be mended: the file, the place in it, and the fix. Pure."""

import re
from collections.abc import Sequence
from typing import Final, get_args

from shared.organisation import Name, Provider, Sha256
from shared.registry import KEY_PREFIX, RegistryFault

MOST_PROBLEMS: Final = 20
_LONGEST_PROBLEM: Final = 400
_KEY: Final = re.compile(re.escape(KEY_PREFIX) + r"[A-Za-z0-9_-]+")
_FIELD: Final = re.compile(r"([^ :]+): ")
_PLAIN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PLACE: Final = re.compile(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?", re.DOTALL)
_WORDS: Final = {
    get_args(Sha256)[1].pattern: "64 digits of hex, the hash of a key and never the key; make both with: key new",
    get_args(Name)[1].pattern: "1-63 of A-Z a-z 0-9 . _ space -, beginning with a letter or digit",
}
_CHOICES: Final = {
    "provider": ", ".join(get_args(Provider)),
    "period": "day, month",
    "action": "alert, block",
}


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
    text = _KEY.sub(f"{KEY_PREFIX}***", text[: 2 * _LONGEST_PROBLEM])
    text = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)
    return text if len(text) <= _LONGEST_PROBLEM else text[:_LONGEST_PROBLEM] + "..."


def place_of(org: str) -> str:
    """Where an organisation stands in a file."""
    return f"orgs.{org}" if _PLAIN_NAME.fullmatch(org) else f"orgs[{org!r}]"


def problem_of(error: str, place: str) -> str:
    """What msgspec says of a value at a place, as the field, what is wrong with it, and the fix."""
    found = _PLACE.fullmatch(error)
    what, path = (found["what"], found["path"] or "") if found else (error, "")
    field = path.rpartition(".")[2].partition("[")[0]
    for pattern, words in _WORDS.items():
        if repr(pattern) in what:
            what = f"expected {words}"
    if what.startswith("Expected `str`, got"):
        what += ": write it in quotes"
    elif what.startswith("Invalid enum value") and field in _CHOICES:
        what += f": one of {_CHOICES[field]}"
    return f"{place}{path}: {what}"
