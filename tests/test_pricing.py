"""What requests cost: own arithmetic from published rates, and everything that must not become a false zero."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TimeOfDateConstraint
from genai_prices.types import Usage as LibraryUsage

from ingestor.pricelist import LIBRARY_IDS, PRICE_VERSION, SLOT_MS, PriceList, RateCard
from ingestor.pricing import UNPRICED_REASONS, Cost, Pricer, cost_of
from shared.event import Usage
from tests.ingestor_process import TS_MS, event

MILLION = Decimal(1_000_000)


SENT_IN_VAIN: dict[str, Any] = {"usage_source": "absent", "usage": Usage(), "overhead_us": 1}


@pytest.fixture(scope="module")
def pricer() -> Pricer:
    return Pricer()


def ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1_000)


def dollars(pricer: Pricer, **changes: Any) -> Decimal:
    cost = pricer.price(event(**changes))
    assert cost.dollars is not None, cost
    assert (cost.source, cost.unpriced_reason) == ("list_price", "")
    return cost.dollars


def per_million(*parts: tuple[int, str]) -> Decimal:
    """The sum of tokens x dollars per million."""
    return sum((Decimal(tokens) * Decimal(rate) for tokens, rate in parts), Decimal(0)) / MILLION


def test_openai(pricer: Pricer) -> None:
    """gpt-4o-mini: $0.15 in, $0.075 cached, $0.60 out per million."""
    usage = Usage(input_uncached_tokens=1_234, input_cache_read_tokens=1_024, output_text_tokens=77)
    expected = per_million((1_234, "0.15"), (1_024, "0.075"), (77, "0.60"))
    assert dollars(pricer, usage=usage, model_actual="gpt-4o-mini-2024-07-18") == expected


def test_reasoning_is_billed_as_output(pricer: Pricer) -> None:
    """gpt-5: reasoning tokens cost the output rate of $10 per million."""
    usage = Usage(input_uncached_tokens=10, output_text_tokens=3, output_reasoning_tokens=640)
    assert dollars(pricer, usage=usage, model_actual="gpt-5") == per_million((10, "1.25"), (643, "10"))


def test_anthropic_caches(pricer: Pricer) -> None:
    """claude-opus-4-8: $5 in, $0.50 read, $6.25 written for 5 minutes or unknown, $10 for an hour, $25 out."""
    usage = Usage(
        input_uncached_tokens=11,
        input_cache_read_tokens=2_000,
        input_cache_write_5m_tokens=300,
        input_cache_write_1h_tokens=40,
        input_cache_write_other_tokens=5,
        output_text_tokens=600,
        output_reasoning_tokens=7,
    )
    expected = per_million((11, "5"), (2_000, "0.5"), (305, "6.25"), (40, "10"), (607, "25"))
    assert dollars(pricer, provider="anthropic", model_actual="claude-opus-4-8", usage=usage) == expected


def test_anthropic_web_searches(pricer: Pricer) -> None:
    """Searches cost $10 per thousand on top of the tokens."""
    usage = Usage(output_text_tokens=100, web_search_requests=3)
    expected = per_million((100, "25")) + Decimal("0.03")
    assert dollars(pricer, provider="anthropic", model_actual="claude-opus-4-8", usage=usage) == expected


@pytest.mark.parametrize(
    ("read", "in_rate", "read_rate", "out_rate"),
    [(100_000, "3", "0.3", "15"), (100_001, "6", "0.6", "22.5")],
)
def test_a_tier_counts_all_input_and_applies_to_all_tokens(
    pricer: Pricer, read: int, in_rate: str, read_rate: str, out_rate: str
) -> None:
    """claude-sonnet-4-5 doubles beyond 200,000 input tokens, cached ones included, for the whole request."""
    usage = Usage(input_uncached_tokens=100_000, input_cache_read_tokens=read, output_text_tokens=10)
    expected = per_million((100_000, in_rate), (read, read_rate), (10, out_rate))
    assert dollars(pricer, provider="anthropic", model_actual="claude-sonnet-4-5-20250929", usage=usage) == expected


def test_groq(pricer: Pricer) -> None:
    """llama-3.3-70b-versatile: $0.59 in, $0.79 out; its flex tier costs the same."""
    usage = Usage(input_uncached_tokens=999, output_text_tokens=333)
    changes: dict[str, Any] = {"provider": "groq", "model_actual": "llama-3.3-70b-versatile", "usage": usage}
    expected = per_million((999, "0.59"), (333, "0.79"))
    assert dollars(pricer, **changes) == expected
    assert dollars(pricer, **changes, service_tier="flex") == expected


@pytest.mark.parametrize(("seconds", "billed"), [(3_600.0, "3600"), (90.5, "90.5"), (0.4, "10")])
def test_groq_audio_is_billed_by_time(pricer: Pricer, seconds: float, billed: str) -> None:
    """whisper-large-v3-turbo: $0.04 an hour, ten seconds at least."""
    cost = dollars(
        pricer, provider="groq", model_actual="whisper-large-v3-turbo", usage=Usage(input_audio_seconds=seconds)
    )
    assert cost == (Decimal(billed) * Decimal("0.04") / 3_600).quantize(Decimal("1e-12"))


def test_openai_audio_by_the_minute(pricer: Pricer) -> None:
    """whisper-1: $0.006 a minute."""
    assert dollars(pricer, model_actual="whisper-1", usage=Usage(input_audio_seconds=30.0)) == Decimal("0.003")


@pytest.mark.parametrize("name", ["gemini-2.5-pro", "models/gemini-2.5-pro"])
def test_gemini(pricer: Pricer, name: str) -> None:
    """gemini-2.5-pro: $1.25 / $10 up to 200,000 input tokens, $2.50 / $15 beyond; with or without `models/`."""
    for count, in_rate, out_rate in ((200_000, "1.25", "10"), (200_001, "2.5", "15")):
        usage = Usage(input_uncached_tokens=count, output_text_tokens=50, output_reasoning_tokens=5)
        expected = per_million((count, in_rate), (55, out_rate))
        assert dollars(pricer, provider="gemini", model_actual=name, usage=usage) == expected


def test_gemini_audio_has_its_own_rate(pricer: Pricer) -> None:
    """gemini-2.5-flash: $1 per million audio tokens, $0.30 for text."""
    usage = Usage(input_uncached_tokens=100, input_audio_tokens=1_000)
    cost = dollars(pricer, provider="gemini", model_actual="gemini-2.5-flash", usage=usage)
    assert cost == per_million((100, "0.3"), (1_000, "1"))


def test_azure_is_priced_by_the_model_behind_the_deployment(pricer: Pricer) -> None:
    """A deployment called gpt-4o may serve anything: only the response's model counts."""
    usage = Usage(input_uncached_tokens=1_000, output_text_tokens=10)
    changes: dict[str, Any] = {"provider": "azure", "model_requested": "gpt-4o", "usage": usage}
    assert dollars(pricer, **changes, model_actual="gpt-35-turbo") == per_million((1_000, "0.5"), (10, "1.5"))
    assert pricer.price(event(**changes, model_actual="")) == Cost(None, unpriced_reason="model_missing")


@pytest.mark.parametrize(
    ("tier", "rates"),
    [("", ("1.25", "10")), ("default", ("1.25", "10")), ("flex", ("0.625", "5")), ("priority", ("2.5", "20"))],
)
def test_service_tiers(pricer: Pricer, tier: str, rates: tuple[str, str]) -> None:
    """gpt-5 costs half on flex and double on priority."""
    usage = Usage(input_uncached_tokens=1_000, output_text_tokens=10)
    cost = dollars(pricer, model_actual="gpt-5", usage=usage, service_tier=tier)
    assert cost == per_million((1_000, rates[0]), (10, rates[1]))


def test_anthropic_fast_mode(pricer: Pricer) -> None:
    """claude-opus-4-8 in fast mode: $10 in, $50 out."""
    usage = Usage(input_uncached_tokens=1_000, output_text_tokens=10)
    cost = dollars(pricer, provider="anthropic", model_actual="claude-opus-4-8", usage=usage, service_tier="fast")
    assert cost == per_million((1_000, "10"), (10, "50"))


@pytest.mark.parametrize(
    ("provider", "model", "tier"),
    [
        ("openai", "gpt-4o-mini", "scale"),
        ("openai", "gpt-4o-mini", "flex"),
        ("anthropic", "claude-opus-4-8", "priority"),
        ("azure", "gpt-4o-mini", "priority"),
    ],
)
def test_a_tier_without_a_known_price_is_unpriced(pricer: Pricer, provider: str, model: str, tier: str) -> None:
    """The list price is not assumed for a tier that is billed otherwise."""
    cost = pricer.price(event(provider=provider, model_actual=model, service_tier=tier))
    assert cost == Cost(None, unpriced_reason="tier_unknown")


def test_the_price_in_force_at_the_event_applies(pricer: Pricer) -> None:
    """o3 fell from $10 / $40 to $2 / $8 on 2025-06-10; the event's own time decides."""
    usage = Usage(input_uncached_tokens=1_000, output_text_tokens=10)
    before = dollars(pricer, model_actual="o3", usage=usage, ts_ms=ms(2025, 6, 10) - 1)
    after = dollars(pricer, model_actual="o3", usage=usage, ts_ms=ms(2025, 6, 10))
    assert (before, after) == (per_million((1_000, "10"), (10, "40")), per_million((1_000, "2"), (10, "8")))


def test_the_actual_model_counts(pricer: Pricer) -> None:
    """A rule or an alias changed the model: the cost follows what ran; what was asked for counts only without that."""
    usage = Usage(output_text_tokens=1_000)
    assert dollars(pricer, model_requested="gpt-5", model_actual="gpt-4o-mini", usage=usage) == Decimal("0.0006")
    assert dollars(pricer, model_requested="gpt-5", model_actual="", usage=usage) == Decimal("0.01")


def test_estimates_are_priced_too(pricer: Pricer) -> None:
    """An estimated or partial usage has a cost; usage_source tells how good it is."""
    for source in ("estimated", "provider_partial", "provider"):
        assert dollars(pricer, usage_source=source, usage=Usage(output_text_tokens=1_000)) == Decimal("0.0006")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_actual": "gpt-99-imaginary"}, "model_unknown"),
        ({"model_actual": "gpt-oss-120b"}, "model_unknown"),
        ({"model_actual": "", "model_requested": ""}, "model_missing"),
        ({"provider": "elsewhere"}, "provider_unknown"),
        ({"provider": "groq", "model_actual": "mixtral-8x7b-32768-imaginary"}, "model_unknown"),
        ({"usage": Usage(output_text_tokens=-1)}, "usage_out_of_range"),
        ({"usage": Usage(output_text_tokens=2**63)}, "usage_out_of_range"),
        ({"usage": Usage(input_audio_seconds=float("nan"))}, "usage_out_of_range"),
        ({"usage": Usage(input_audio_seconds=float("inf"))}, "usage_out_of_range"),
        ({"model_actual": "whisper-1", "usage": Usage(input_uncached_tokens=5)}, "unit_not_reported"),
        ({"model_actual": "tts-1", "usage": Usage()}, "unit_not_reported"),
        ({"model_actual": "gpt-4o-audio-preview", "usage": Usage(input_audio_tokens=5)}, "unit_without_price"),
        ({"model_actual": "text-embedding-3-small", "usage": Usage(output_text_tokens=5)}, "unit_without_price"),
        ({"usage": Usage(input_audio_seconds=5.0)}, "unit_without_price"),
        ({"usage_source": "absent", "usage": Usage()}, "no_usage"),
        ({**SENT_IN_VAIN, "status": 499, "error_source": "client"}, "no_usage"),
        ({**SENT_IN_VAIN, "status": 504, "error_source": "gateway"}, "no_usage"),
        ({"usage_source": "absent", "method": "GET", "endpoint": "/v1/realtime", "status": 101}, "no_usage"),
    ],
)
def test_unknown_is_null_and_never_zero(pricer: Pricer, changes: dict[str, Any], reason: str) -> None:
    """Whatever keeps a price from being known leaves cost NULL with its reason."""
    cost = pricer.price(event(**changes))
    assert cost.dollars is None
    assert cost.unpriced_reason == reason
    assert reason in UNPRICED_REASONS


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 429, "error_source": "provider"},
        {"status": 500, "error_source": "provider"},
        {"status": 429, "error_source": "gateway"},
        {"status": 502, "error_source": "gateway", "overhead_us": 1},
        {"status": 400, "error_source": "client", "overhead_us": -1},
        {"status": 408, "error_source": "client", "overhead_us": 1},
        {"status": 413, "error_source": "client", "overhead_us": 1},
        {"status": 499, "error_source": "client", "overhead_us": -1},
        {"method": "GET", "endpoint": "/v1/models", "model_actual": "", "model_requested": ""},
        {"endpoint": "/v1/messages/count_tokens", "provider": "anthropic"},
        {"endpoint": "/v1beta/models/gemini-2.5-pro:countTokens", "provider": "gemini"},
    ],
)
def test_what_nobody_bills_costs_nothing(pricer: Pricer, changes: dict[str, Any]) -> None:
    """Refused and failed requests, look-ups and counting cost 0, and say why."""
    cost = pricer.price(event(usage_source="absent", usage=Usage(), **changes))
    assert cost == Cost(Decimal(0), "not_billed")


def test_free_models_cost_zero_by_price_list(pricer: Pricer) -> None:
    """Moderation has no price: that zero is real, with or without usage."""
    absent: dict[str, Any] = {"usage_source": "absent", "usage": Usage()}
    for changes in ({}, absent):
        cost = pricer.price(event(model_actual="omni-moderation-latest", **changes))
        assert (cost.dollars, cost.source, cost.price_id) == (Decimal(0), "free_model", "openai/moderation")


def test_costs_are_rounded_to_the_column(pricer: Pricer) -> None:
    """A third of a cent stays within twelve decimals, rounded half to even."""
    cost = dollars(pricer, model_actual="whisper-1", usage=Usage(input_audio_seconds=1 / 3))
    assert cost == (Decimal(repr(1 / 3)) * Decimal("0.36") / 3_600).quantize(Decimal("1e-12"))
    assert cost.as_tuple().exponent == -12


def listed_models() -> Iterator[tuple[str, ModelInfo]]:
    listed = {provider.id: provider for provider in get_snapshot().providers}
    for ours, theirs in LIBRARY_IDS.items():
        yield from ((ours, info) for info in listed[theirs].models)


def test_every_listed_model_agrees_with_the_library(pricer: Pricer) -> None:
    """Our arithmetic over rate cards gives the library's own total for each model it lists, small and large."""
    compared = 0
    for provider, info in listed_models():
        for scale in (1, 400):
            ours = Usage(
                input_uncached_tokens=1_001 * scale,
                input_cache_read_tokens=103 * scale,
                input_cache_write_5m_tokens=17 * scale,
                input_cache_write_1h_tokens=5 * scale,
                output_text_tokens=211 * scale,
                output_reasoning_tokens=9 * scale,
            )
            cost = pricer.price(event(provider=provider, model_actual=info.id, usage=ours))
            if cost.dollars is None or cost.source == "free_model":
                continue
            written = ours.input_cache_write_5m_tokens + ours.input_cache_write_1h_tokens
            theirs = calc_price(
                LibraryUsage(
                    input_tokens=ours.input_tokens,
                    cache_read_tokens=ours.input_cache_read_tokens,
                    cache_write_tokens=written,
                    cache_write_5m_tokens=ours.input_cache_write_5m_tokens,
                    cache_write_1h_tokens=ours.input_cache_write_1h_tokens,
                    output_tokens=ours.output_tokens,
                    output_reasoning_tokens=ours.output_reasoning_tokens,
                ),
                info.id,
                provider_id=LIBRARY_IDS[provider],
                genai_request_timestamp=datetime.fromtimestamp(TS_MS / 1_000, tz=UTC),
            )
            assert cost.dollars == theirs.total_price.quantize(Decimal("1e-12")), (provider, info.id)
            compared += 1
    assert compared > 300


def test_prices_change_on_half_hours_only() -> None:
    """Rate cards are kept per half hour; the library's times of day must not fall in between."""
    for provider in get_snapshot().providers:
        for info in provider.models:
            for price in info.prices if isinstance(info.prices, list) else []:
                if isinstance(price.constraint, TimeOfDateConstraint):
                    for edge in (price.constraint.start_time, price.constraint.end_time):
                        seconds = edge.hour * 3_600 + edge.minute * 60 + edge.second
                        assert seconds * 1_000 % SLOT_MS == 0, (provider.id, info.id, edge)


def test_a_flood_of_model_names_grows_nothing() -> None:
    """Invented names turn over a bounded cache, and leave the library's own unbounded caches empty."""
    prices = PriceList(cards_cached=64)
    snapshot = get_snapshot()
    held = [len(value) for value in (snapshot._lookup_cache, snapshot._provider_cache, snapshot._provider_misses)]
    pricer = Pricer(prices)
    for number in range(1_000):
        pricer.price(event(model_actual=f"claude-3-haiku-{number}", provider="anthropic"))
        pricer.price(event(model_actual=f"invented-{number}"))
    assert prices.cards_held() == 64
    after = [len(value) for value in (snapshot._lookup_cache, snapshot._provider_cache, snapshot._provider_misses)]
    assert after == held


def test_reported_zeros_cost_zero() -> None:
    """Where tokens have rates, a provider that reports none of them billed nothing: that zero is real."""
    card = PriceList().card("openai", "gpt-4o-mini", TS_MS, "")
    assert isinstance(card, RateCard)
    assert cost_of(card, Usage()) == Cost(Decimal(0), "list_price", "openai/gpt-4o-mini", price_version=PRICE_VERSION)
    assert PRICE_VERSION.startswith("genai-prices ")


def test_a_hot_price_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its rate card at hand an event is priced without the price list, which takes a thousand times as long."""
    pricer = Pricer()
    first = pricer.price(event(0))
    monkeypatch.setattr("ingestor.pricelist.PriceList._find_model", None)
    assert {pricer.price(event(seq)) for seq in range(1, 100)} == {first}
    with pytest.raises(TypeError):
        pricer.price(event(100, model_actual="gpt-4o"))
