"""Many costs at once are the costs one by one, to the last digit and in every reason."""

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor import costs
from ingestor.costs import Costs
from ingestor.fields import Fields, fields_of, sums_of
from ingestor.pricelist import PriceList, RateCard
from ingestor.pricing import Cost, Pricer
from shared.event import Event, Usage
from tests.bench.ingest_events import traffic
from tests.ingestor_process import TS_MS, event

PRICER = Pricer()
MODELS = (
    ("openai", "gpt-4o-mini", ""),
    ("openai", "gpt-5", "flex"),
    ("openai", "gpt-4o-mini", "scale"),
    ("openai", "whisper-1", ""),
    ("openai", "tts-1", ""),
    ("openai", "omni-moderation-latest", ""),
    ("openai", "gpt-4o-audio-preview", ""),
    ("openai", "text-embedding-3-small", ""),
    ("openai", "o3", ""),
    ("openai", "", ""),
    ("anthropic", "claude-sonnet-4-5-20250929", "standard"),
    ("anthropic", "claude-opus-4-8", "fast"),
    ("groq", "whisper-large-v3-turbo", ""),
    ("groq", "llama-3.3-70b-versatile", "flex"),
    ("gemini", "models/gemini-2.5-pro", ""),
    ("gemini", "gemini-2.5-flash", ""),
    ("azure", "", ""),
    ("azure", "gpt-35-turbo", ""),
    ("elsewhere", "gpt-4o", ""),
    ("openai", "imaginary", ""),
)
counts = st.one_of(
    st.just(0), st.integers(0, 300_000), st.sampled_from([-1, 1, 10**9, 10**9 + 1, 2**32, 2**63, 2**64 - 1])
)
seconds = st.sampled_from([0.0, -0.0, 0.4, 1 / 3, 3_600.0, 1e9, 2e9, -1.0, float("nan"), float("inf")])
usages = st.builds(Usage, *([counts] * 11), seconds, st.sampled_from([0, 0, 0, 1, 7, -1, 2**40]))


@st.composite
def events(draw: st.DrawFn) -> Event:
    provider, model, tier = draw(st.sampled_from(MODELS))
    return event(
        provider=provider,
        model_requested=draw(st.sampled_from(["", "gpt-4o"])),
        model_actual=model,
        service_tier=tier,
        ts_ms=TS_MS + draw(st.sampled_from([0, 0, 0, 1_800_000, -10 * 31_536_000_000, 2**62, -(2**63)])),
        usage=draw(usages),
        usage_source=draw(st.sampled_from(["provider", "provider", "estimated", "absent"])),
        status=draw(st.sampled_from([101, 200, 429, 499, 504])),
        overhead_us=draw(st.sampled_from([-1, 300])),
        error_source=draw(st.sampled_from(["", "provider", "gateway", "client"])),
        method=draw(st.sampled_from(["GET", "POST"])),
        endpoint=draw(st.sampled_from(["/v1/chat/completions", "/v1/realtime", "/v1/files"])),
    )


def together(pricer: Pricer, some: list[Event]) -> list[Cost]:
    fields = fields_of(some)
    amounts, outcomes = Costs(pricer).price(fields, sums_of(fields.tokens), negative(fields))
    return [
        Cost(
            None if outcome.unpriced_reason else Decimal(amount).scaleb(-12),
            outcome.source,
            outcome.price_id,
            outcome.unpriced_reason,
            outcome.price_version,
        )
        for amount, outcome in zip(amounts, outcomes, strict=True)
    ]


def negative(fields: Fields) -> Iterable[int]:
    return {row for counted in fields.tokens for row, count in enumerate(counted) if count < 0}


@given(st.lists(events(), min_size=1, max_size=30))
def test_together_as_one_by_one(some: list[Event]) -> None:
    """Whatever the events hold, amounts and reasons are those of Pricer.price."""
    assert together(PRICER, some) == [PRICER.price(item) for item in some]


def test_every_listed_model_costs_the_same_together() -> None:
    """All models of all providers, at usage below and above their tiers."""
    prices = PriceList()
    dice = random.Random(3)
    some = [
        event(
            provider=provider,
            model_actual=info.id,
            usage=Usage(*(dice.randrange(scale) if dice.random() < 0.4 else 0 for _ in range(11))),
        )
        for provider in ("openai", "anthropic", "groq", "gemini", "azure")
        for info in prices._providers["google" if provider == "gemini" else provider].models
        for scale in (50, 90_000)
    ]
    expected = [PRICER.price(item) for item in some]
    assert together(PRICER, some) == expected
    assert sum(cost.source == "list_price" for cost in expected) > 300


def test_outcomes_alike_are_one_object() -> None:
    """Thousands of models and half hours come to a handful of outcomes: a batch of a month is not sorted by them."""
    fields = fields_of([event(ts_ms=TS_MS + 1_800_000 * slot, model_actual="gpt-4o-mini") for slot in range(1_500)])
    _, outcomes = Costs(PRICER).price(fields, sums_of(fields.tokens), ())
    assert len({id(outcome) for outcome in outcomes}) == len({outcome.price_id for outcome in outcomes})


def test_usual_traffic_is_not_priced_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only events without usage and with searches take the long way."""
    alone = []
    price = Pricer.price

    def counted(self: Pricer, item: Event) -> Cost:
        alone.append(item)
        return price(self, item)

    monkeypatch.setattr(Pricer, "price", counted)
    together(PRICER, list(traffic(2_000)))
    assert all(item.usage_source == "absent" or item.usage.web_search_requests for item in alone)


def test_rates_finer_than_the_column_are_rounded_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of more than six decimals per million is no whole number of units: those events are priced alone."""
    fine = RateCard("a/b", False, True, ((-1, (123_456_789_012_345_678,) + (None,) * 10),), None, None, None, 0)  # noqa: FBT003 - a record
    per_request = RateCard("a/c", False, True, ((-1, (10**17,) + (None,) * 10),), None, None, Decimal("2.5"), 0)  # noqa: FBT003
    cards: dict[str, Any] = {"fine": fine, "per_request": per_request}
    monkeypatch.setattr(PriceList, "card", lambda _self, _provider, model, *_: cards[model])
    some = [event(model_actual=model, usage=Usage(count)) for model in cards for count in (0, 1, 7, 10**9)]
    pricer = Pricer(PriceList())
    assert together(pricer, some) == [pricer.price(item) for item in some]
    assert costs.units(pricer.price(some[1])) == 123_457
