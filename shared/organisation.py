"""What an operator sets for one organisation: keys, rules, limits, budgets, endpoints, policies.

A record is plain data with bounds; where it lives is `registry`'s business. Older readers pass over fields that they do
not know: a new field has a default that means what its absence meant. Where a type alone would tell people too little,
`expected` in its `extra` tells what its values are.
"""

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

Provider = Literal["openai", "anthropic", "groq", "gemini", "azure"]
ALL_FEATURES: Final = "*"
_SHORT: Final = 60
"""Of what a fault repeats."""
REASONING: Final = "reasoning"
"""The task that no recommendation may take a model from."""
MOST_RULES: Final = 10_000
MOST_KEYS: Final = 1_000
MOST_BUDGETS: Final = 1_000
MOST_PRICES: Final = 1_000
MOST_FAILOVER: Final = 5

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
"""In a rule. Providers' names have 100 characters at most, resource paths and ARNs some more."""
Sha256 = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{64}$(?!\\n)", extra={"expected": "64 digits of hex, the hash of a key and never the key"}
    ),
]
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,62}$(?!\n)"
"""In Python a $ stands before a last line break too."""
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=NAME_PATTERN,
        extra={"expected": "1-63 of A-Z a-z 0-9 . _ - and space, beginning with a letter or digit"},
    ),
]
"""Of what an organisation has several of: unique among its like."""
Money = Annotated[Decimal, msgspec.Meta(extra={"expected": "an amount of US dollars, like 250.00"})]
"""US dollars; see `amount_problem`. Text in JSON, so that nothing rounds it."""
MOST_USD: Final = Decimal(10**9)
"""A slip of a few digits stays below what sums and columns hold."""
_MOST_DECIMALS: Final = 18
_FINEST_USD: Final = Decimal(1).scaleb(-_MOST_DECIMALS)
"""Up to here a rate per million tokens is exact when it is applied; of a finer one a part would be lost silently."""
_EXACT: Final = Context(prec=60)


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one key may do in one gateway process; None is no limit, or the next wider one."""

    requests_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    burst_requests: Annotated[int, msgspec.Meta(ge=1, le=10**6)] | None = None
    """How many may come at once after a pause; as many as in a second where it is not set."""
    concurrent_streams: Annotated[int, msgspec.Meta(ge=1, le=10**6)] | None = None
    body_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**40)] | None = None
    """Largest JSON body. The gateway's own bound holds where it is smaller, here and below."""
    file_body_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**40)] | None = None
    """Largest body of an endpoint that takes files."""


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One key. Only its hash is kept."""

    name: Name
    sha256: Sha256
    shown: Annotated[str, msgspec.Meta(max_length=20)] = ""
    """The key's first characters, by which people recognise it."""
    created_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    enabled: bool = True
    limits: Limits = Limits()
    """Instead of the organisation's, field by field."""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where a request is sent instead; None keeps what it asked for."""

    provider: Provider | None = None
    model: ModelName | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """If all conditions that are set match, the request goes to the target."""

    name: Name
    priority: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 100
    """The lowest comes first; among equals the one that stands first."""
    enabled: bool = True
    feature: Text | None = None
    task: Text | None = None
    provider: Provider | None = None
    model: ModelName | None = None
    """The whole name, or the beginning of it and `*`."""
    target: Target = Target()
    failover: Annotated[tuple[Target, ...], msgspec.Meta(max_length=MOST_FAILOVER)] = ()
    """Tried in order when a target cannot be reached, is too slow, or answers 429 or 5xx before its first byte."""
    first_byte_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=600)] | None = None
    """How long a target has until its answer begins, as long as another one is left; connecting is part of it. None:
    as long as the gateway waits for any provider, which holds where it is shorter."""
    recommended: bool = False
    """It was made from a recommendation: it never applies to the task `reasoning`."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What may be spent in a UTC day or month, by all of an organisation or by one feature."""

    name: Name
    limit_usd: Money
    period: Literal["day", "month"] = "month"
    feature: Text | None = None
    action: Literal["alert", "block"] = "alert"


class Azure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One Azure OpenAI resource."""

    endpoint: str
    """Scheme and host, `https://NAME.openai.azure.com`, without a trailing slash."""
    api_version: str = ""
    """`2024-10-21` uses the deployments surface; empty uses the v1 surface, which needs none."""
    name: Name = "default"
    deployments: dict[str, str] = {}
    """Model -> the deployment of it here; where an organisation has several resources, the one that has the model."""


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A negotiated price, in US dollars per million tokens, instead of the list's from a moment on."""

    provider: Provider
    model: Text
    """The whole name, or the beginning of it and `*`."""
    since_ms: Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)] = 0
    """Unix ms, before 2100 as every request; 0: always."""
    input_usd: Money
    output_usd: Money
    cache_read_usd: Money | None = None
    """None: as input. The same for cache_write_usd."""
    cache_write_usd: Money | None = None


class Org(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One organisation."""

    org: str
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Unix ms of the change, raised past every other record's: it grows even if Redis lost its memory."""
    enabled: bool = True
    keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=MOST_KEYS)] = ()
    azure: tuple[Azure, ...] = ()
    """The first is for models that none of them names."""
    base_urls: dict[str, str] = {}
    """By provider, instead of the installation's own."""
    credentials: dict[str, str] = {}
    """By provider: where a gateway finds the key with which a rule sends requests: `env:NAME` or `file:/path`."""
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=MOST_RULES)] = ()
    limits: Limits = Limits()
    budgets: Annotated[tuple[Budget, ...], msgspec.Meta(max_length=MOST_BUDGETS)] = ()
    prices: Annotated[tuple[Price, ...], msgspec.Meta(max_length=MOST_PRICES)] = ()
    drain_features: tuple[str, ...] = ()
    """Features whose answers are read to their end when their client leaves, so that usage is exact; `*` is all."""
    usage_features: tuple[str, ...] = ()
    """Features whose streams are asked for their usage when their client did not ask; `*` is all."""


class MoneyProblem(NamedTuple):
    """An amount that cannot be one: the field's name, and what is wrong with it, with the place where it stands."""

    field: str
    text: str


def money_problem(budgets: Iterable[Budget], prices: Iterable[Price]) -> MoneyProblem | None:
    """The first amount that cannot be one."""
    for budget in budgets:
        if problem := amount_problem(budget.limit_usd):
            text = f"budget {budget.name!r}: limit_usd {_short(budget.limit_usd)} {problem}"
            return MoneyProblem("limit_usd", text)
    for price in prices:
        for field in ("input_usd", "output_usd", "cache_read_usd", "cache_write_usd"):
            amount: Decimal | None = getattr(price, field)
            if amount is not None and (problem := amount_problem(amount)):
                text = f"price of {price.provider}/{price.model[:_SHORT]}: {field} {_short(amount)} {problem}"
                return MoneyProblem(field, text)
    return None


def amount_problem(amount: Decimal) -> str:
    """What is wrong with an amount of US dollars; empty if nothing is."""
    if not amount.is_finite():
        return "is no number"
    if amount < 0 or amount > MOST_USD:
        return f"is not within 0 to {MOST_USD}"
    if amount.quantize(_FINEST_USD, context=_EXACT) != amount:
        return f"has more than {_MOST_DECIMALS} decimals"
    return ""


def plain_amount(amount: Decimal) -> Decimal:
    """The same amount as people write it: without an exponent and with 18 decimals at most. It must be one."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_MOST_DECIMALS:
        amount = amount.quantize(_FINEST_USD, context=_EXACT)
    return Decimal(f"{amount.copy_abs():f}")


def _short(amount: Decimal) -> str:
    text = str(amount)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
