"""The provider's own id of a request, from the answer's headers. In: name and value pairs. Out: text, '' if none."""

from collections.abc import Iterable
from typing import Final

from gateway.usage.reading import label

REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "apim-request-id")
"""First one wins: OpenAI and Groq; Anthropic; Azure's front."""


def request_id_of(headers: Iterable[tuple[str, str]]) -> str:
    """Return the id from the headers (names in any case); the body's id is for when there is none."""
    found: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in REQUEST_ID_HEADERS and value.strip():
            found.setdefault(lowered, value.strip())
    return next((label(found[name]) for name in REQUEST_ID_HEADERS if name in found), "")
