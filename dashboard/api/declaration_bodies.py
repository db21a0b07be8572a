"""The registry as a declaration: what stands in files (dashboard/declared), as types for the API's document. Pure.

A declaration that is sent is read and checked as a file is, not by these types; a test compares the two. It is the one
place of the API where hashes of keys stand: without them nothing could be declared.
"""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from dashboard.api.faults import InvalidJson, InvalidValue
from dashboard.api.request_bodies import Body, Feature, HttpProvider, Limits, OrgName, Reference, Rule, Url
from dashboard.declared.faults import DeclarationFault
from dashboard.declared.plan import Doing
from dashboard.declared.records import Declared, read_document
from dashboard.declared.text import parse
from dashboard.declared.values import TextFault
from shared import organisation as stored
from shared.organisation import MOST_BUDGETS, MOST_KEYS, MOST_PRICES, MOST_RULES, Name, Provider, Text

_SOURCE: Final = "body"
"""What takes the place of a file's name."""
_AMOUNT = Annotated[
    str | float, Meta(description="US dollars, as text or as a number; what is written is kept to the last digit.")
]

_FEATURES = Annotated[tuple[Feature, ...], Meta(max_length=100, extra_json_schema={"uniqueItems": True})]


def _keys_of(kind: Any) -> Meta:
    """Of a map: what its keys may be."""
    return Meta(extra_json_schema={"propertyNames": {"enum": list(get_args(kind))}})


class DeclaredKey(stored.Key, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """A key by its hash, from which no key can be found."""

    limits: Limits = Limits()


class DeclaredBudget(Body, frozen=True, kw_only=True):
    """What may be spent in a UTC day or month, by all of an organisation or by one feature."""

    name: Name
    limit_usd: _AMOUNT
    period: Literal["day", "month"] = "month"
    feature: Text | None = None
    action: Literal["alert", "block"] = "alert"


class DeclaredPrice(Body, frozen=True, kw_only=True):
    """A negotiated price, in US dollars per million tokens, instead of the list's from a moment on."""

    provider: Provider
    model: Text
    since_ms: Annotated[int, Meta(ge=0, le=4_102_444_800_000)] = 0
    input_usd: _AMOUNT
    output_usd: _AMOUNT
    cache_read_usd: _AMOUNT | None = None
    cache_write_usd: _AMOUNT | None = None


class DeclaredAzure(stored.Azure, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """An Azure OpenAI resource."""

    endpoint: Url


class DeclaredOrg(Body, frozen=True, kw_only=True):
    """All that is set for an organisation: what is left out is not set, or as it is without being set."""

    enabled: bool = True
    keys: Annotated[tuple[DeclaredKey, ...], Meta(max_length=MOST_KEYS)] = ()
    azure: tuple[DeclaredAzure, ...] = ()
    base_urls: Annotated[dict[HttpProvider, Url], _keys_of(HttpProvider)] = msgspec.field(default_factory=dict)
    credentials: Annotated[dict[Provider, Reference], _keys_of(Provider)] = msgspec.field(default_factory=dict)
    rules: Annotated[tuple[Rule, ...], Meta(max_length=MOST_RULES)] = ()
    limits: Limits = Limits()
    budgets: Annotated[tuple[DeclaredBudget, ...], Meta(max_length=MOST_BUDGETS)] = ()
    prices: Annotated[tuple[DeclaredPrice, ...], Meta(max_length=MOST_PRICES)] = ()
    drain_features: _FEATURES = ()
    usage_features: _FEATURES = ()


class Declaration(Body, frozen=True, kw_only=True):
    """Organisations by name, as in a file that declares them."""

    orgs: dict[OrgName, DeclaredOrg]


class PlanQuery(Body, frozen=True, kw_only=True):
    """What becomes of organisations that are not declared."""

    prune: Annotated[bool, Meta(description="Disable organisations that are not declared.")] = False


class ApplyQuery(PlanQuery, frozen=True, kw_only=True):
    """What may be done."""

    shut_out: Annotated[
        bool, Meta(description="Go on although keys or organisations that are served would be refused from then on.")
    ] = False


class FieldChange(Body, frozen=True, kw_only=True):
    """One field of an organisation, in short, for people."""

    field: str
    """`limits.requests_per_s`, `keys[ci].enabled`."""
    old: str | None
    """Null: it was not there, or not set."""
    new: str | None
    """Null: it will not be there."""


class ShutOut(Body, frozen=True, kw_only=True):
    """Who is refused from then on that was served before."""

    org: bool
    """All of the organisation."""
    keys: tuple[str, ...]
    """These of its keys, by name."""


class OrgChange(Body, frozen=True, kw_only=True):
    """What becomes of one organisation."""

    org: OrgName
    doing: Doing
    """`disable`: it is not declared."""
    fields: tuple[FieldChange, ...]
    """None where it is created."""
    shuts_out: ShutOut


class Plan(Body, frozen=True, kw_only=True):
    """What would be done."""

    changes: tuple[OrgChange, ...]
    """In the order in which they are made."""
    unchanged: tuple[OrgName, ...]
    """Declared, and as declared."""
    undeclared: tuple[OrgName, ...]
    """Left alone: there was no `prune`, or they are disabled already."""
    warnings: tuple[str, ...]
    """What may not be meant by rules taken together."""


class Applied(Body, frozen=True, kw_only=True):
    """What was done; no change if all was so already."""

    changes: tuple[OrgChange, ...]
    warnings: tuple[str, ...]


def declared_of(data: bytes) -> Declared:
    """What a body declares, read and checked as a file is. Raises InvalidJson, InvalidValue."""
    try:
        return read_document(parse(data, "json"), _SOURCE)
    except TextFault as fault:
        raise InvalidJson(f"the body cannot be read: {fault}") from None
    except DeclarationFault as fault:
        raise InvalidValue(str(fault), field=fault.field) from None
