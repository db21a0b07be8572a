"""What one operation of the API is, and what follows from that. Pure.

How large a body may be, how many may be served at once, and every fault in which it may end.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from dashboard.api import faults
from dashboard.api import request_bodies as bodies
from dashboard.api.faults import Fault
from shared.organisation import Name, Provider

Load = Literal["light", "clickhouse", "registry"]
"""What an operation keeps busy: nothing for long, a thread while ClickHouse thinks, or memory for a whole registry."""
MOST_OPEN: Final = 32
"""Requests of operators served at once: each may hold a body."""
MOST_OPEN_OF: Final[dict[Load, int]] = {"light": MOST_OPEN, "clickhouse": 4, "registry": 1}
"""Of these as many, so that threads and memory are left for others."""
MOST_BODY_BYTES: Final = 16 * 1024 * 1024
"""Ten thousand rules of long names fit; a body is held in memory."""
PATH_TYPES: Final[dict[str, Any]] = {
    "org": bodies.OrgName,
    "key": Name,
    "rule": Name,
    "budget": Name,
    "resource": Name,
    "provider": Provider,
}
"""What may stand in a path."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: str
    path: str
    """With the names of its parameters in braces."""
    id: str
    summary: str
    description: str = ""
    """What the summary does not say."""
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    read_body: Callable[[bytes], Any] | None = None
    """Instead of what `body` says. Raises InvalidJson, InvalidValue."""
    most_body_bytes: int = MOST_BODY_BYTES
    answer: Any = None
    """None: an answer without a body."""
    status: int = 200
    reads: bool = False
    """Whether it changes nothing although it is no GET."""
    is_open: bool = False
    """Whether it is answered without the secret."""
    more_faults: tuple[type[Fault], ...] = ()
    """Besides those that follow from all of the above."""
    special_types: dict[str, Any] = {}
    """Instead of PATH_TYPES."""
    media_type: str = "application/json"
    load: Load = "light"

    @property
    def changes(self) -> bool:
        """Whether the registry is another one afterwards."""
        return self.method != "GET" and not self.reads

    @property
    def parameters(self) -> dict[str, Any]:
        """Name -> type of what stands in the path."""
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        return {name: self.special_types.get(name, PATH_TYPES[name]) for name in names}

    @property
    def is_conditional(self) -> bool:
        """Whether it heeds If-Match: it changes one organisation that is there already."""
        return self.changes and "org" in self.parameters

    @property
    def has_version(self) -> bool:
        """Whether its answer is about one organisation, whose version it tells as ETag."""
        return "org" in self.parameters or self.id == "createOrg"

    @property
    def faults(self) -> tuple[type[Fault], ...]:
        """All ways in which it can end but the good one."""
        if self.is_open:
            return (faults.InvalidRequest, *self.more_faults)
        found: list[type[Fault]] = [
            faults.InvalidRequest,
            faults.MissingAdminSecret,
            faults.InvalidAdminSecret,
            faults.TooManyFailedAttempts,
            faults.RateLimitExceeded,
            faults.Defect,
            faults.RecordUnreadable,
            faults.RegistryUnavailable,
            faults.ServerBusy,
            *self.more_faults,
        ]
        if self.body is not None:
            found += [
                faults.InvalidJson,
                faults.RequestTimeout,
                faults.RequestTooLarge,
                faults.UnsupportedMediaType,
                faults.InvalidValue,
            ]
        if "org" in self.parameters:
            found.append(faults.OrgNotFound)
        if self.load == "clickhouse":
            found += [faults.ClickHouseNotConfigured, faults.ClickHouseUnavailable]
        if self.changes:
            found.append(faults.RegistryReadOnly)
        if self.is_conditional:
            found.append(faults.VersionConflict)
        return tuple(found)
