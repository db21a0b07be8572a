"""Negotiated prices: which one is in force, what it says a request costs, and what it says nothing about."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.org_prices import OrgPrices, UnreadablePrices
from ingestor.pricing import UNPRICED_REASONS, Cost, Pricer
from shared.event import Event, Usage
from shared.organisation import Price
from tests.bench.ingest_events import traffic
from tests.ingestor_process import TS_MS, event
from tests.test_costs import PRICER, events, together

MILLION = 1_000_000
VERSION = 1_795_000_000_777


def ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000)


def price(model: str = "gpt-4o-mini", usd: str = "2", out: str = "8", **more: Any) -> Price:
    return Price(**{"provider": "openai", **more}, model=model, input_usd=Decimal(usd), output_usd=Decimal(out))


def own(*prices: Price, org: str = "acme") -> Pricer:
    return Pricer(PRICER._prices, {org: OrgPrices(VERSION, prices)})


def cost(pricer: Pricer, **changes: Any) -> Cost:
    """The same one by one and together."""
    item = event(**changes)
    found = pricer.price(item)
    assert together(pricer, [item]) == [found]
    return found


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(MILLION), "2"),
        (Usage(output_text_tokens=MILLION), "8"),
        (Usage(output_text_tokens=1, output_reasoning_tokens=3), "0.000032"),
        (Usage(input_cache_read_tokens=MILLION), "2"),
        (Usage(0, 0, 1_000, 2_000, 3_000), "0.012"),
        (Usage(), "0"),
        (Usage(input_uncached_tokens=300_000_000), "600"),
    ],
)
def test_tokens_cost_what_was_negotiated(usage: Usage, expected: str) -> None:
    """Text in and out, reasoning as output, caches as input where nothing else was agreed, at any length of input."""
    found = cost(own(price()), usage=usage)
    assert found == Cost(Decimal(expected), "org_price", "openai/gpt-4o-mini", "", f"registry {VERSION}")


def test_caches_at_rates_of_their_own() -> None:
    """Reading from a cache and writing to it, for however long."""
    pricer = own(price(cache_read_usd=Decimal("0.1"), cache_write_usd=Decimal(0)))
    assert cost(pricer, usage=Usage(0, MILLION)).dollars == Decimal("0.1")
    assert cost(pricer, usage=Usage(0, 0, 5, 6, 7)).dollars == 0


def test_a_rate_of_eighteen_decimals_loses_none() -> None:
    """A rate finer than the column is applied as it is; the sum is rounded once."""
    pricer = own(price(usd="0.123456789012345678", out="0"))
    assert cost(pricer, usage=Usage(1_000 * MILLION)).dollars == Decimal("123.456789012346")
    assert cost(pricer, usage=Usage(MILLION)).dollars == Decimal("0.123456789012")
    assert cost(pricer, usage=Usage(3)).dollars == Decimal("0.000000370370")


def test_a_price_of_zero_is_a_price() -> None:
    """What was given away costs 0, and says whose price that is."""
    found = cost(own(price(usd="0", out="0")), usage=Usage(5))
    assert (found.dollars, found.source) == (Decimal(0), "org_price")


PRICES = (
    price("gpt-4o-mini", "1"),
    price("gpt-4o-mini", "2", since_ms=ms("2026-01-01")),
    price("gpt-4o-mini", "3", since_ms=ms("2026-11-18T11:00:01")),
    price("gpt-4o*", "4"),
    price("gpt-*", "5", since_ms=ms("2026-02-01")),
    price("gpt-*", "6", since_ms=ms("2026-01-15")),
    price("o3", "7", since_ms=ms("2026-06-01")),
    price("o*", "8"),
    price("Models/GPT-5", "9"),
    price("*", "10", provider="azure"),
)


@pytest.mark.parametrize(
    ("model", "at", "expected"),
    [
        ("gpt-4o-mini", "2025-12-31T23:59:59.999", "1"),
        ("gpt-4o-mini", "2026-01-01", "2"),
        ("gpt-4o-mini", "2026-11-18T11:00:00.999", "2"),
        ("gpt-4o-mini", "2026-11-18T11:00:01", "3"),
        ("gpt-4o-mini", "1960-01-01", "1"),
        ("gpt-4o-mini", "2400-01-01", "3"),
        ("gpt-4o-mini-2024-07-18", "2026-06-01", "4"),
        ("gpt-4.1", "2026-01-14", None),
        ("gpt-4.1", "2026-01-31", "6"),
        ("gpt-4.1", "2026-02-01", "5"),
        ("o3", "2026-05-31", "8"),
        ("o3", "2026-06-01", "7"),
        ("GPT-5", "2026-06-01", "9"),
        ("text-embedding-3-small", "2026-06-01", None),
    ],
)
def test_the_price_in_force(model: str, at: str, expected: str | None) -> None:
    """A whole name before a beginning, a longer before a shorter, the latest begun; else the list."""
    found = cost(own(*PRICES), model_actual=model, ts_ms=ms(at), usage=Usage(MILLION))
    if expected is None:
        assert found.source == "list_price"
    else:
        assert (found.dollars, found.source) == (Decimal(expected), "org_price")


@pytest.mark.parametrize(
    "changes",
    [
        {"org": "other"},
        {"provider": "groq", "model_actual": "llama-3.3-70b-versatile"},
        {"provider": "elsewhere"},
        {"model_actual": "", "model_requested": ""},
    ],
)
def test_others_pay_what_the_list_says(changes: dict[str, Any]) -> None:
    """Another organisation, provider, or no model at all: nothing changes."""
    assert cost(own(*PRICES, price("*")), **changes) == PRICER.price(event(**changes))


def test_the_actual_model_counts() -> None:
    """As with the list: what answered, else what was asked for; of Azure never the name of a deployment."""
    pricer, usage = own(*PRICES), Usage(MILLION)
    asked = {"model_requested": "gpt-5", "ts_ms": ms("2026-01-01"), "usage": usage}
    assert cost(pricer, **asked, model_actual="gpt-4o-mini").dollars == 2
    assert cost(pricer, **asked, model_actual="").dollars == 9
    assert cost(pricer, **asked, provider="azure", model_actual="gpt-35-turbo").dollars == 10
    assert cost(pricer, **asked, provider="azure", model_actual="").unpriced_reason == "model_missing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"usage": Usage(1, input_audio_tokens=1)}, "unit_without_price"),
        ({"usage": Usage(1, output_audio_tokens=1)}, "unit_without_price"),
        ({"usage": Usage(1, web_search_requests=1)}, "unit_without_price"),
        ({"usage": Usage(input_audio_seconds=1.0)}, "unit_without_price"),
        ({"model_actual": "whisper-1", "usage": Usage(input_audio_seconds=1.0)}, "unit_without_price"),
        ({"model_actual": "gpt-image-1", "usage": Usage(input_image_tokens=1)}, "unit_without_price"),
        ({"model_actual": "our-own", "usage": Usage(input_image_tokens=1)}, "unit_without_price"),
        ({"model_actual": "tts-1", "usage": Usage()}, "unit_not_reported"),
        ({"service_tier": "flex"}, "tier_unknown"),
        ({"service_tier": "priority"}, "tier_unknown"),
        ({"usage": Usage(-1)}, "usage_out_of_range"),
        ({"usage_source": "absent", "usage": Usage()}, "no_usage"),
    ],
)
def test_what_the_price_says_nothing_about_is_unpriced(changes: dict[str, Any], reason: str) -> None:
    """Neither the list's rate nor 0 takes the place of what was not negotiated."""
    found = cost(own(price("*")), **changes)
    assert (found.dollars, found.unpriced_reason) == (None, reason)
    assert reason in UNPRICED_REASONS


def test_images_cost_what_text_does_where_the_list_says_so() -> None:
    """A model that reads images at its input rate by the list does by a negotiated price."""
    pricer = own(price("*", provider="gemini"), price("*", provider="anthropic"))
    for provider, model in (("gemini", "gemini-2.5-flash"), ("anthropic", "claude-opus-4-8")):
        usage = Usage(input_uncached_tokens=1, input_image_tokens=2)
        assert cost(pricer, provider=provider, model_actual=model, usage=usage).dollars == Decimal("0.000006")


@pytest.mark.parametrize("tier", ["", "default", "Standard", "auto"])
def test_the_usual_tier_is_priced(tier: str) -> None:
    """A tier that is billed at the list price by the list is billed at the negotiated one."""
    assert cost(own(price()), service_tier=tier).source == "org_price"


def test_a_model_that_no_list_has_can_be_priced() -> None:
    """A negotiated price needs no entry in the list."""
    found = cost(own(price("our-finetune:*")), model_actual="our-finetune:v2", usage=Usage(MILLION))
    assert (found.dollars, found.price_id) == (Decimal(2), "openai/our-finetune:*")


def test_what_nobody_bills_still_costs_nothing() -> None:
    """A refused request costs 0 whatever was negotiated, and even if that cannot be read."""
    refused: dict[str, Any] = {"status": 429, "error_source": "provider", "usage_source": "absent", "usage": Usage()}
    for pricer in (own(price("*")), Pricer(own={"acme": UnreadablePrices()})):
        assert cost(pricer, **refused) == Cost(Decimal(0), "not_billed")


def test_unknown_prices_are_no_list_prices() -> None:
    """As long as nobody knows whether an organisation has prices, its requests have no cost, and say why."""
    pricer = Pricer(own={"acme": UnreadablePrices()})
    assert cost(pricer) == Cost(None, unpriced_reason="org_prices_unknown")
    assert cost(pricer, org="other").source == "list_price"
    assert "org_prices_unknown" in UNPRICED_REASONS


MANY = Pricer(
    PRICER._prices,
    {
        "acme": OrgPrices(
            VERSION,
            (
                *PRICES,
                price("*", "0.0000001", provider="openai", since_ms=TS_MS + 700),
                price("claude-*", "3.3", provider="anthropic", cache_read_usd=Decimal("0.3")),
                price("gemini-2.5-pro", "0.7", provider="gemini", since_ms=TS_MS + 1_800_000),
                price("whisper*", provider="groq"),
            ),
        ),
        "unreadable": UnreadablePrices(),
    },
)


@st.composite
def of_some_orgs(draw: st.DrawFn) -> Event:
    item = draw(events())
    ts_ms = draw(st.sampled_from([item.ts_ms, TS_MS + 699, TS_MS + 700]))
    org = draw(st.sampled_from(["acme", "acme", "acme", "unreadable", "other"]))
    return msgspec.structs.replace(item, org=org, ts_ms=ts_ms)


@given(st.lists(of_some_orgs(), min_size=1, max_size=30))
def test_together_as_one_by_one(some: list[Event]) -> None:
    """Whatever the events hold and whoever they are of, many costs at once are the costs one by one."""
    assert together(MANY, some) == [MANY.price(item) for item in some]


def test_organisations_without_prices_do_not_take_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand events of others are priced without one look at negotiated prices."""
    looked: list[str] = []

    def spans(self: Pricer, org: str, *place: Any) -> Any:
        looked.append(org)
        return (), ()

    monkeypatch.setattr(Pricer, "own_spans", spans)
    some = [item for item in traffic(1_000) if item.usage_source != "absent" and not item.usage.web_search_requests]
    together(own(price("*"), org="not among these"), some)
    assert looked == []
    together(own(price("*"), org="org-1"), some)
    assert set(looked) == {"org-1"}
    assert len(looked) < 30, "once for each model and half hour"
