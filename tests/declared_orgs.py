"""Organisations of every kind that a file can declare, made by hypothesis."""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from dashboard.checks import PROVIDERS
from shared.organisation import Azure, Budget, Key, Limits, Org, Price, Rule, Target

# Few draws each: a record has dozens of fields.
NAMES = st.sampled_from(
    ["a", "Default", "no", "true", "123", "0x1f", "1e5", "1.10", "2024-10-21", "a b", "a.b_c-d ", "x" * 63]
)
ORG_NAMES = st.sampled_from(["acme", "no", "true", "null", "123", "0x1f", "1e5", "1.10", "2024-10-21", "a.b", "a_b-c"])
# What either version of YAML takes for something else, besides any text.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3) | st.sampled_from(
    ["no", "~", "1e5", "010", "1:30", ".inf", "<<", "=", "2024-10-21", " x ", "a\nb", "'", '"', "#", "- a", "{", "0b1"]
)
FEATURES = TEXTS.filter(lambda text: text.isprintable())
MODELS = TEXTS.filter(lambda text: "*" not in text) | st.just("gpt-*")
PROVIDER_NAMES = st.sampled_from(PROVIDERS)
HASHES = st.integers(0, 2**256 - 1).map("{:064x}".format)
MONEY = st.integers(1, 10**21).map(lambda picodollars: Decimal(picodollars).scaleb(-12))
COUNTS = st.none() | st.integers(1, 10**6)
LIMITS = st.builds(
    Limits,
    requests_per_s=st.none() | st.floats(min_value=1e-9, max_value=1e6, exclude_min=True),
    burst_requests=COUNTS,
    concurrent_streams=COUNTS,
    body_bytes=COUNTS,
    file_body_bytes=COUNTS,
).map(lambda limits: msgspec.structs.replace(limits, burst_requests=limits.requests_per_s and limits.burst_requests))
KEYS = st.builds(
    Key,
    name=NAMES,
    sha256=HASHES,
    shown=st.sampled_from(["", "lc_key_ab-_12"]),
    created_ms=st.integers(0, 2**50),
    enabled=st.booleans(),
    limits=LIMITS,
)
TARGETS = st.builds(
    Target, provider=st.none() | PROVIDER_NAMES, model=st.none() | TEXTS.filter(lambda text: "*" not in text)
)
RULES = st.builds(
    Rule,
    name=NAMES,
    priority=st.integers(0, 10**6),
    enabled=st.booleans(),
    feature=st.none() | TEXTS,
    task=st.none() | TEXTS,
    provider=st.none() | PROVIDER_NAMES,
    model=st.none() | MODELS,
    target=TARGETS,
    failover=st.lists(TARGETS, max_size=2).map(tuple),
    first_byte_timeout_s=st.none() | st.floats(min_value=0.1, max_value=600),
    recommended=st.booleans(),
)
BUDGETS = st.builds(
    Budget,
    name=NAMES,
    limit_usd=MONEY,
    period=st.sampled_from(["day", "month"]),
    feature=st.none() | TEXTS,
    action=st.sampled_from(["alert", "block"]),
)
AZURES = st.builds(
    Azure,
    endpoint=st.sampled_from(["https://acme.openai.azure.com", "http://localhost:9000/azure"]),
    api_version=st.sampled_from(["", "2024-10-21", "2024-10-21-preview"]),
    name=NAMES,
    deployments=st.dictionaries(FEATURES, FEATURES, max_size=1),
)
PRICES = st.builds(
    Price,
    provider=PROVIDER_NAMES,
    model=MODELS,
    since_ms=st.integers(0, 2**41),
    input_usd=MONEY,
    output_usd=MONEY,
    cache_read_usd=st.none() | MONEY,
    cache_write_usd=st.none() | MONEY,
)


def several(records: st.SearchStrategy[Any], unique_by: Any = lambda record: record.name) -> st.SearchStrategy[Any]:
    return st.lists(records, max_size=2, unique_by=unique_by).map(tuple)


ORGS = st.builds(
    Org,
    org=ORG_NAMES,
    version=st.just(0),
    enabled=st.booleans(),
    keys=several(KEYS, (lambda key: key.name, lambda key: key.sha256)),
    azure=several(AZURES),
    base_urls=st.dictionaries(
        st.sampled_from(["openai", "anthropic", "groq", "gemini"]),
        st.sampled_from(["https://llm.example.com/v1", "http://127.0.0.1:9/v1"]),
    ),
    credentials=st.dictionaries(PROVIDER_NAMES, st.sampled_from(["env:GROQ_KEY", "file:/run/secrets/a key"])),
    rules=several(RULES),
    limits=LIMITS,
    budgets=several(BUDGETS),
    prices=several(PRICES, lambda price: (price.provider, price.model, price.since_ms)),
    drain_features=several(FEATURES, lambda feature: feature),
    usage_features=several(FEATURES, lambda feature: feature),
)
REGISTRIES = st.lists(ORGS, max_size=2, unique_by=lambda org: org.org).filter(
    lambda orgs: len({key.sha256 for org in orgs for key in org.keys}) == sum(len(org.keys) for org in orgs)
)
"""Organisations of one installation."""

ONE, TWO = "1" * 63 + "a", "2" * 63 + "b"
ACME = Org(
    org="acme",
    version=0,
    keys=(Key(name="default", sha256=ONE), Key(name="ci", sha256=TWO, limits=Limits(requests_per_s=0.5))),
    limits=Limits(requests_per_s=0.5),
    rules=(
        Rule(
            name="cheap",
            feature="chat",
            model="gpt-4o*",
            target=Target(model="gpt-4o-mini"),
            failover=(Target(provider="groq"),),
        ),
    ),
    budgets=(
        Budget(name="month", limit_usd=Decimal("250.10")),
        Budget(name="day", limit_usd=Decimal("0.1"), period="day", action="block"),
        Budget(name="whole", limit_usd=Decimal(7)),
    ),
    azure=(Azure(endpoint="https://acme.openai.azure.com", api_version="2024-10-21", deployments={"gpt-4o": "team"}),),
    base_urls={"openai": "https://llm.example.com/v1"},
    credentials={"groq": "env:GROQ_KEY"},
    prices=(Price(provider="openai", model="gpt-4o", input_usd=Decimal("2.50"), output_usd=Decimal(10)),),
    drain_features=("*",),
    usage_features=("chat",),
)
"""Something in every field that can be declared."""
