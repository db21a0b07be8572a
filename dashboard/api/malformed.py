"""What is wrong with bytes that are no HTTP request, as far as it can be said without repeating them. Pure.

In: what the HTTP parser says, which quotes what was sent, secrets too. Out: our own words for what it is known to say,
and the header, if it is one that the API reads. Parsers say it differently from release to release: what is not known
is told as a request that cannot be read.
"""

import re
from typing import Final, NamedTuple

_HEADERS: Final = {
    name.lower(): name
    for name in (
        "Authorization",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Expect",
        "Host",
        "If-Match",
        "Transfer-Encoding",
        "User-Agent",
        "X-Lectr-Actor",
    )
}
_TWICE: Final = re.compile(r"Duplicate '([A-Za-z-]+)' header found\.")
_QUOTED_LINE: Final = re.compile(r"\n\n  b[\"']([A-Za-z-]+):")
_IN_HEADER: Final = ("Invalid header ", "Missing expected CR after header", "Missing expected LF after header")
_FRAMING: Final = (
    ("Duplicate Content-Length", "Content-Length", "it is sent twice; send it once"),
    ("Invalid character in Content-Length", "Content-Length", "give the number of bytes of the body"),
    (
        "Transfer-Encoding can't be present",
        "Transfer-Encoding",
        "it is sent with Content-Length; leave out one of them",
    ),
    ("Content-Length can't be present", "Content-Length", "it is sent with Transfer-Encoding; leave out one of them"),
    ("Request has invalid `Transfer-Encoding`", "Transfer-Encoding", "send chunked, or leave it out"),
    ("Missing 'Host' header", "Host", "it is missing; send it"),
)
"""How a parser's text begins, the header that it is about, and what is told."""
_MANY: Final = "Too many headers"
_LONG: Final = re.compile(r"Got more than ([0-9]{1,9}) bytes when reading")
_OTHER: Final = "this is no HTTP request that can be read"


class Malformed(NamedTuple):
    """What is told."""

    message: str
    field: str | None = None
    """The header."""


def malformed(said: str) -> Malformed:
    """What is wrong, of what a parser says."""
    if found := _TWICE.match(said):
        name = _HEADERS.get(found[1].lower())
        return Malformed(f"{name or 'a header'}: it is sent twice; send it once", name)
    if said.startswith(_IN_HEADER):
        line = _QUOTED_LINE.search(said)
        name = _HEADERS.get(line[1].lower()) if line else None
        fix = "it holds a line break, or another character that no header has; send printable ASCII"
        return Malformed(f"{name or 'a header'}: {fix}", name)
    for beginning, name, told in _FRAMING:
        if said.startswith(beginning):
            return Malformed(f"{name}: {told}", name)
    if said.startswith(_MANY):
        return Malformed("there are too many header lines; send fewer")
    if found := _LONG.match(said):
        return Malformed(f"the first line or a header is longer than {found[1]} bytes; send a shorter one")
    return Malformed(_OTHER)
