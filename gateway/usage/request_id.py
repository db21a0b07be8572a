"""The provider's own id of a request, from the answer's headers. In: fields by name. Out: text, '' if none."""

from collections.abc import Mapping
from typing import Final

from gateway.usage.reading import label

REQUEST_ID_HEADERS: Final = (b"x-request-id", b"request-id", b"apim-request-id")
"""First one wins: OpenAI and Groq; Anthropic; Azure's front."""


def request_id_of(fields: Mapping[bytes, bytes]) -> str:
    """Return the id from the answer's fields (lower-case names); the body's id is for when there is none."""
    openai, anthropic, azure = REQUEST_ID_HEADERS
    value = fields.get(openai) or fields.get(anthropic) or fields.get(azure)
    return label(value.decode("latin-1")) if value else ""
