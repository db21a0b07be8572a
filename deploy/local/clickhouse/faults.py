"""ClickHouse errors: engine text to code, name and message; code to HTTP status.

In: the text of an engine exception. Out: a DoorFault, and the body and status of the answer. Never logs.
"""

import re
from typing import Final

BAD_REQUEST: Final = frozenset(
    {6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676}
)
NOT_FOUND: Final = frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511})
FORBIDDEN: Final = frozenset({192, 193, 497, 512, 516})
SINGLE: Final = {194: 401, 229: 413, 48: 501, 209: 503, 76: 503, 381: 411, 159: 408, 439: 503, 779: 415}
"""The table of ClickHouse's exceptionCodeToHTTPStatus; everything else is 500."""

_PREFIX = re.compile(r"Code: (\d+)\. DB::Exception: ")
_NESTED = re.compile(r"\A(?:Code: \d+\. DB::Exception: )+")
_SUFFIX = re.compile(r"(?: \(version [^()]*(?:\([^()]*\))?\)\.?|\.? \(([A-Z][A-Z0-9_]+)\))\Z")
_UPLOAD = re.compile(r"(?:: )?\(in file/uri [^()]*\)|: data for INSERT was parsed from file|: While executing File\b")


class DoorFault(Exception):
    """An error in ClickHouse's terms: numeric code, its name, a sentence."""

    def __init__(self, code: int, name: str, message: str, *, ask_for_password: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.message = message
        self.ask_for_password = ask_for_password

    @property
    def status(self) -> int:
        """The HTTP status that the real server answers with."""
        return 401 if self.ask_for_password else status_of(self.code)

    def body(self, version: str) -> str:
        """The text of the answer, in the real server's shape."""
        return f"Code: {self.code}. DB::Exception: {self.message} ({self.name}) (version {version} (embedded))\n"


def status_of(code: int) -> int:
    """HTTP status of an error code."""
    if code in BAD_REQUEST:
        return 400
    if code in NOT_FOUND:
        return 404
    if code in FORBIDDEN:
        return 403
    return SINGLE.get(code, 500)


def from_engine(text: str) -> DoorFault:
    """Read an engine exception's text; what has no code becomes 1001 STD_EXCEPTION."""
    found = _PREFIX.search(text)
    if not found:
        return DoorFault(1001, "STD_EXCEPTION", text.strip() or "the engine gave no reason")
    name = ""
    message = _NESTED.sub("", text[found.start() :].strip())
    # A wrapped exception repeats "(version …). (NAME)" once per layer; the outermost name is the one that counts.
    while suffix := _SUFFIX.search(message):
        name = name or suffix[1] or ""
        message = message[: suffix.start()].rstrip()
    message = _UPLOAD.sub("", message)
    return DoorFault(int(found[1]), name or "UNKNOWN_EXCEPTION", message if message.endswith(".") else f"{message}.")


def syntax_error(message: str) -> DoorFault:
    """Code 62."""
    return DoorFault(62, "SYNTAX_ERROR", message)


def access_denied(message: str) -> DoorFault:
    """Code 497."""
    return DoorFault(497, "ACCESS_DENIED", message)


def not_implemented(message: str) -> DoorFault:
    """Code 48."""
    return DoorFault(48, "NOT_IMPLEMENTED", message)


def read_only(message: str) -> DoorFault:
    """Code 164."""
    return DoorFault(164, "READONLY", message)


def bad_argument(message: str) -> DoorFault:
    """Code 36."""
    return DoorFault(36, "BAD_ARGUMENTS", message)


def too_busy(message: str) -> DoorFault:
    """Code 202."""
    return DoorFault(202, "TOO_MANY_SIMULTANEOUS_QUERIES", message)
