"""What stands in answers, as types: JSON is written by them, and the API's document is made of them. Pure.

Every field is there, set or not. There is none for the hash of a key.
"""

from typing import Literal

from dashboard.api.request_bodies import Body, HttpProvider, Limits, OrgName, Rule
from shared import organisation as stored
from shared.organisation import Name, Provider
from shared.rules import Reason


class OrgSummary(Body, frozen=True, kw_only=True):
    """An organisation in a list: how much is set for it."""

    org: OrgName
    version: int
    enabled: bool
    keys: int
    rules: int
    budgets: int


class OrgPage(Body, frozen=True, kw_only=True):
    """Some organisations by name."""

    orgs: tuple[OrgSummary, ...]
    next: OrgName | None
    """What to give as `after` to have those that follow; null at the end."""


class Key(Body, frozen=True, kw_only=True):
    """A key as people recognise it."""

    name: Name
    shown: str
    """Its first characters."""
    created_ms: int
    enabled: bool
    limits: Limits


class Keys(Body, frozen=True, kw_only=True):
    """The keys of an organisation."""

    keys: tuple[Key, ...]


class NewKey(Body, frozen=True, kw_only=True):
    """A key, for the only time: it is not stored and cannot be shown again."""

    org: OrgName
    name: Name
    key: str


class Rules(Body, frozen=True, kw_only=True):
    """The rules of an organisation, and what may not be meant by them taken together."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]


class ChangedRule(Body, frozen=True, kw_only=True):
    """A rule, and what may not be meant by all rules taken together."""

    rule: Rule
    warnings: tuple[str, ...]


class PassedOver(Body, frozen=True, kw_only=True):
    """A rule that does not apply, and the first reason for it."""

    rule: Rule
    reason: Reason


class RuleTest(Body, frozen=True, kw_only=True):
    """What would happen to a request."""

    rule: Rule | None
    """The rule that applies."""
    passed_over: tuple[PassedOver, ...]
    """The first rules before it."""
    more: int
    """How many other rules before it do not apply either."""
    missing_credentials: tuple[Provider, ...]
    """Providers that the rule sends to and that the organisation has no key of."""


class Budget(stored.Budget, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """What may be spent in a UTC day or month, by all of an organisation or by one feature."""


class Budgets(Body, frozen=True, kw_only=True):
    """The budgets of an organisation."""

    budgets: tuple[Budget, ...]


class Price(stored.Price, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """A negotiated price, in US dollars per million tokens, instead of the list's from a moment on."""


class Prices(Body, frozen=True, kw_only=True):
    """The negotiated prices of an organisation."""

    prices: tuple[Price, ...]


class Azure(stored.Azure, frozen=True, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """An Azure OpenAI resource."""


class AzureResources(Body, frozen=True, kw_only=True):
    """The Azure resources of an organisation; the first is for models that none of them names."""

    azure: tuple[Azure, ...]


class BaseUrl(Body, frozen=True, kw_only=True):
    """Where an organisation's requests to a provider go."""

    provider: HttpProvider
    url: str


class BaseUrls(Body, frozen=True, kw_only=True):
    """By provider, instead of the installation's own."""

    base_urls: dict[str, str]


class Credential(Body, frozen=True, kw_only=True):
    """Where gateways find an organisation's key of a provider."""

    provider: Provider
    reference: str


class Credentials(Body, frozen=True, kw_only=True):
    """By provider: references, never keys."""

    credentials: dict[str, str]


class Org(Body, frozen=True, kw_only=True):
    """All that is set for an organisation."""

    org: OrgName
    version: int
    enabled: bool
    keys: tuple[Key, ...]
    azure: tuple[Azure, ...]
    base_urls: dict[str, str]
    credentials: dict[str, str]
    rules: tuple[Rule, ...]
    limits: Limits
    budgets: tuple[Budget, ...]
    prices: tuple[Price, ...]
    drain_features: tuple[str, ...]
    usage_features: tuple[str, ...]


class Health(Body, frozen=True, kw_only=True):
    """Whoever can answer is alive."""

    status: Literal["ok"] = "ok"


class Readiness(Body, frozen=True, kw_only=True):
    """Redis answers."""

    ready: Literal[True] = True
    registry_file: Literal["kept", "waiting", "faulty"] | None = None
    """Whether the registry is as its file declares it, where one does."""


class ErrorDetail(Body, frozen=True, kw_only=True):
    """What is wrong."""

    message: str
    type: str
    code: str
    field: str | None


class Error(Body, frozen=True, kw_only=True):
    """A request that was refused or failed."""

    error: ErrorDetail
