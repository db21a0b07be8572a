"""What is asked and answered of ClickHouse: the log of changes, and what is in use. Pure."""

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from dashboard.api.request_bodies import MOST_LISTED, Body, OrgName
from dashboard.in_use import MOST_DAYS, WINDOW_DAYS
from shared.organisation import Name

_UNTIL_MS: Final = 4_102_444_800_000
"""2100, as of every moment in a record."""


class ChangeQuery(Body, frozen=True, kw_only=True):
    """Which changes are listed."""

    org: Annotated[OrgName, Meta(description="Of this organisation alone.")] | UnsetType = UNSET
    since_ms: Annotated[int, Meta(ge=0, le=_UNTIL_MS, description="Made at this moment or later, in Unix ms.")] = 0
    before: (
        Annotated[int, Meta(ge=1, le=2**53, description="Before the change of this version: the `next` of an answer.")]
        | UnsetType
    ) = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100


class Change(Body, frozen=True, kw_only=True):
    """One change of an organisation."""

    at_ms: int
    org: str
    version: int
    """Of the organisation after it; no two changes have the same."""
    actor: str
    """Who made it: `cli:USER`, `api:NAME` with X-Lectr-Actor, `file:NAME`."""
    action: str


class Changes(Body, frozen=True, kw_only=True):
    """Changes, the latest first."""

    changes: tuple[Change, ...]
    next: int | None
    """What to give as `before` to have those that were made earlier; null at the end."""


class UseQuery(Body, frozen=True, kw_only=True):
    """How far back use is looked for."""

    days: Annotated[int, Meta(ge=1, le=MOST_DAYS)] = WINDOW_DAYS


class Use(Body, frozen=True, kw_only=True):
    """Of one key or rule."""

    name: Name
    requests: int
    """Of a key: those that came with it, refused ones included. Of a rule: those that it applied to."""
    last_ms: int | None
    """When the last one was; null: not within so many days."""


class InUse(Body, frozen=True, kw_only=True):
    """Each key and rule that an organisation has, in their order, used or not."""

    days: int
    keys: tuple[Use, ...]
    rules: tuple[Use, ...]
