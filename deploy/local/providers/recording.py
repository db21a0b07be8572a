"""What was received: one Record per provider request, in order of arrival.

In: the head of a request, later its body and how its answer ended. Out: records for the control interface.
Bounded: the oldest records go first. Bodies are kept only when asked for; their hash and size always are.
"""

import base64
import hashlib
from collections import Counter, deque
from typing import Final

import msgspec

from deploy.local.providers import PROVIDERS
from deploy.local.providers.call import Headers

MAX_RECORDS: Final = 10_000


class Record(msgspec.Struct, kw_only=True):
    """One received request. Names, values and path show one character per byte (latin-1)."""

    id: int
    provider: str
    method: str
    path: str
    """Raw path with query."""
    headers: Headers
    """In the order and case received."""
    body_sha256: str = ""
    body_bytes: int = 0
    body_base64: str | None = None
    status: int | None = None
    """What was answered; absent until then."""
    finished: bool = False
    """The whole answer was handed to the connection."""
    cancelled: bool = False
    """The client left before that."""
    cancelled_after_ms: int | None = None
    """Counted from the arrival of the request's head."""


class Recorder:
    """The last MAX_RECORDS requests, and how many came per provider since the last clear."""

    def __init__(self, *, keep_bodies: bool) -> None:
        self._keep_bodies = keep_bodies
        self._records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._hits: Counter[str] = Counter()
        self._last_id = 0

    def open(self, *, provider: str, method: str, path: str, headers: Headers) -> Record:
        """Record the head of a request and return its record, to be completed."""
        self._last_id += 1
        record = Record(id=self._last_id, provider=provider, method=method, path=path, headers=headers)
        self._records.append(record)
        self._hits[provider] += 1
        return record

    def add_body(self, record: Record, body: bytes) -> None:
        """Record the body as received (still compressed if it was)."""
        record.body_sha256 = hashlib.sha256(body).hexdigest()
        record.body_bytes = len(body)
        if self._keep_bodies:
            record.body_base64 = base64.b64encode(body).decode()

    def records(self) -> list[Record]:
        """Return the records, oldest first."""
        return list(self._records)

    def hits(self) -> dict[str, int]:
        """Return the number of requests per provider since the last clear, every provider listed."""
        return {provider: self._hits[provider] for provider in PROVIDERS}

    def clear(self) -> None:
        """Forget records and hits; ids go on."""
        self._records.clear()
        self._hits.clear()
