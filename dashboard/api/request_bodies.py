"""What stands in requests, as types: JSON is read by them, and the API's document is made of them. Pure.

A field that is not known is refused: a misspelt limit would be no limit. Amounts are text in JSON, so that nothing
rounds them. A name that stands in the path may stand in the body too, so that what was read can be sent back.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared import organisation as stored
from shared.event import UNTAGGED
from shared.organisation import MOST_FAILOVER, MOST_PRICES, MOST_RULES, Name, Provider, Text

T = TypeVar("T")
MOST_LISTED: Final = 1000

_ORG_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$(?!\n)"
_AMOUNT: Final = r"^[0-9]{1,10}(\.[0-9]{1,18})?(E-[0-9]{1,2})?$(?!\n)"
"""With an exponent as answers have it of an amount below 0.000001."""
_DOLLARS: Final = {"expected": 'an amount of US dollars as text, like "250.00"'}
OrgName = Annotated[
    str,
    Meta(pattern=_ORG_NAME, extra={"expected": "1-63 of a-z 0-9 . _ -, beginning with a letter or digit"}),
]
HttpProvider = Literal["openai", "anthropic", "groq", "gemini"]
"""Those with a base URL; Azure has resources."""
Amount = Annotated[str, Meta(pattern=_AMOUNT, description='US dollars as text, like "250.00".', extra=_DOLLARS)]
PositiveAmount = Annotated[
    str,
    Meta(
        pattern=_AMOUNT,
        description='US dollars as text, more than 0, like "250.00".',
        examples=["250.00"],
        extra=_DOLLARS,
    ),
]
Feature = Annotated[str, Meta(min_length=1, max_length=1024, description="As in X-Lectr-Feature; `*` for all.")]
Reference = Annotated[
    str,
    # Told by the check itself: that a key does not belong here is more than that a pattern does not match.
    Meta(
        description="Where each gateway finds the key: `env:NAME` or `file:/path`. Never the key itself.",
        extra_json_schema={"pattern": r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00-\x1f\x7f]+)$"},
    ),
]
Url = Annotated[str, Meta(description="Scheme, host and path, without query.", extra_json_schema={"format": "uri"})]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all have in common."""


class OrgCreate(Body, frozen=True, kw_only=True):
    """The name of a new organisation."""

    org: OrgName


class OrgQuery(Body, frozen=True, kw_only=True):
    """Which organisations are listed."""

    after: OrgName | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100


class Switch(Body, frozen=True, kw_only=True):
    """Whether it applies, or is served."""

    enabled: bool


class Limits(stored.Limits, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """What one key may do in one gateway process; null is no limit, or the organisation's.

    Of a size here and the gateway's own (LECTR_MAX_BODY_BYTES, LECTR_MAX_FILE_BODY_BYTES) the smaller holds.
    A stream that only its answer shows to be one is not refused; it counts as one of concurrent_streams from then on.
    """


class KeyCreate(Body, frozen=True, kw_only=True):
    """One more key."""

    name: Name
    limits: Limits = Limits()


class KeyPatch(Body, frozen=True, kw_only=True):
    """What is to be changed of a key; limits are replaced as a whole."""

    enabled: bool | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET


class Target(stored.Target, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """Where a request is sent instead; null keeps what it asked for."""


class Rule(stored.Rule, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """If all conditions that are set match, the request goes to the target."""

    target: Target = Target()
    failover: Annotated[tuple[Target, ...], Meta(max_length=MOST_FAILOVER)] = ()


class RuleWanted(Rule, frozen=True, kw_only=True):
    """A rule as it is to be. Where `recommended` is left out, it is what it was under this name, else false."""

    recommended: bool | UnsetType = UNSET  # type: ignore[assignment] # what is stored is one or the other


class RulePut(RuleWanted, frozen=True, kw_only=True):
    """A rule; its name is the path's, and may be left out."""

    name: Name = msgspec.field(default_factory=str)


class RulesPut(Body, frozen=True, kw_only=True):
    """All rules of an organisation, in the order in which those of one priority are looked at."""

    rules: Annotated[tuple[RuleWanted, ...], Meta(max_length=MOST_RULES)]


class RuleQuestion(Body, frozen=True, kw_only=True):
    """A request, as rules see it."""

    feature: Text = UNTAGGED
    task: Annotated[str, Meta(max_length=1024)] = ""
    provider: Provider
    """Where it would go without a rule."""
    model: Text


class BudgetPut(Body, frozen=True, kw_only=True):
    """A budget; its name is the path's, and may be left out."""

    name: Name = msgspec.field(default_factory=str)
    limit_usd: PositiveAmount
    period: Literal["day", "month"] = "month"
    feature: Text | None = None
    action: Literal["alert", "block"] = "alert"


class PricePut(Body, frozen=True, kw_only=True):
    """A negotiated price, in US dollars per million tokens, instead of the list's from a moment on."""

    provider: Provider
    model: Text
    since_ms: Annotated[int, Meta(ge=0, le=4_102_444_800_000)] = 0
    input_usd: Amount
    output_usd: Amount
    cache_read_usd: Amount | None = None
    cache_write_usd: Amount | None = None


class PricesPut(Body, frozen=True, kw_only=True):
    """All negotiated prices of an organisation."""

    prices: Annotated[tuple[PricePut, ...], Meta(max_length=MOST_PRICES)]


class AzurePut(Body, frozen=True, kw_only=True):
    """An Azure OpenAI resource; its name is the path's, and may be left out."""

    name: Name = msgspec.field(default_factory=str)
    endpoint: Url
    api_version: Annotated[str, Meta(extra_json_schema={"pattern": "^([0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?)?$"})] = ""
    deployments: dict[str, str] = {}


class BaseUrlPut(Body, frozen=True, kw_only=True):
    """Where requests to a provider go, up to and including the version path."""

    url: Url


class CredentialPut(Body, frozen=True, kw_only=True):
    """Where gateways find a provider's key."""

    reference: Reference


class Policies(Body, frozen=True, kw_only=True):
    """What becomes of the streams of features."""

    drain_features: Annotated[tuple[Feature, ...], Meta(max_length=100, extra_json_schema={"uniqueItems": True})]
    """Features whose answers are read to their end when their client leaves."""
    usage_features: Annotated[tuple[Feature, ...], Meta(max_length=100, extra_json_schema={"uniqueItems": True})]
    """Features whose streams are asked for their usage when their client did not ask."""


def converted(value: Any, kind: type[T]) -> T:
    """A record of one side as a type of the other: what is stored, what is shown. Raises msgspec.ValidationError."""
    return msgspec.convert(value, kind, from_attributes=True)
