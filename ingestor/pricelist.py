"""The price library's entries as rate cards: what one unit of each kind of usage costs. Pure, given the library's data.

In: provider, model, moment, service tier. Out: a RateCard, or why there is none. Library: genai-prices, bundled data,
no network. Its own lookup caches are keyed by text that clients choose and never shrink, so they are not used.
Rates follow the library's rule: a kind of token without a rate of its own is billed at the rate of the wider kind.
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

import genai_prices
import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PRICE_VERSION: Final = f"genai-prices {genai_prices.__version__}"
LIST_PRICE: Final = "list_price"
CARDS_CACHED: Final = 8_192
"""A flood of invented model names turns over this many cards and no more."""
SLOT_MS: Final = 1_800_000
"""Prices change at most every half hour of the day (library data: daily start dates, off-peak hours on :00 and :30)."""

LIBRARY_IDS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "groq": "groq",
    "gemini": "google",
    "azure": "azure",
}
"""Our provider names to the library's."""

# Each kind of usage and the prices that apply to it, most specific first. Order of the names: shared.event.Usage.
_PRICE_KEYS: Final = (
    ("input_mtok",),
    ("cache_read_mtok", "input_mtok"),
    ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    ("cache_write_mtok", "input_mtok"),
    ("input_audio_mtok", "input_mtok"),
    ("input_image_mtok", "input_mtok"),
    ("output_mtok",),
    ("output_reasoning_mtok", "output_mtok"),
    ("output_audio_mtok", "output_mtok"),
    ("output_image_mtok", "output_mtok"),
)
_AUDIO_KEYS: Final = (("input_audio_mtok",), ("output_audio_mtok",))
"""Where audio costs many times the text rate, a model listed without an audio rate must not fall back to it."""
_AUDIO_APART: Final = frozenset({"openai", "azure"})
_SECONDS_KEYS: Final = ("input_audio_hours", "audio_hours")
_SEARCH_KEYS: Final = ("web_searches_kcount",)
_REQUEST_KEYS: Final = ("requests_kcount",)

PLAIN_TIERS: Final = {
    "openai": frozenset({"", "default", "auto", "standard"}),
    "anthropic": frozenset({"", "standard"}),
    # console.groq.com/docs/flex-processing: flex is billed at the on-demand rate.
    "groq": frozenset({"", "on_demand", "auto", "flex"}),
    "gemini": frozenset({"", "default", "standard"}),
    "azure": frozenset({"", "default", "auto", "standard"}),
}
"""Tiers billed at the list price; any other needs a price variant of its own."""

RATE_SCALE: Final = 24
"""Token rates are whole numbers of 10^-24 dollars per token: exact for list prices of up to 18 decimals per million,
and a tenth of the work of Decimal arithmetic."""

Rates = tuple[int | None, ...]


class Unlisted(msgspec.Struct, frozen=True):
    """No rate card; `reason` is one of the unpriced reasons."""

    reason: str


class RateCard(msgspec.Struct, frozen=True):
    """10^-24 dollars per token, in the order of Usage; dollars per hour of audio, per thousand searches, requests."""

    price_id: str
    free: bool
    """The library lists the model with no price at all: moderation, open models on a free tier."""
    bills_tokens: bool
    """Whether any token has a rate; models billed by the second or by characters have none."""
    levels: tuple[tuple[int, Rates], ...]
    """Cliff tiers: from more than this many input tokens on, all tokens of the request are at these rates."""
    audio_hour: Decimal | None
    searches_1000: Decimal | None
    requests_1000: Decimal | None
    minimum_audio_seconds: int
    source: str = LIST_PRICE
    """Of costs at these rates."""
    price_version: str = PRICE_VERSION

    def token_rates(self, input_tokens: int) -> Rates:
        """The rates for a request with this many input tokens in all."""
        rates = self.levels[0][1]
        for above, level in self.levels[1:]:
            if input_tokens <= above:
                break
            rates = level
        return rates


class PriceList:
    """Rate cards by provider, model, half hour and tier; remembers the last CARDS_CACHED of them."""

    def __init__(self, cards_cached: int = CARDS_CACHED) -> None:
        self._providers = {provider.id: provider for provider in get_snapshot().providers}
        self._all_providers = list(get_snapshot().providers)
        self._card = lru_cache(maxsize=cards_cached)(self._find_card)

    def card(self, provider: str, model: str, ts_ms: int, service_tier: str) -> RateCard | Unlisted:
        """The rate card in force at `ts_ms`, or why there is none."""
        return self._card(provider, model, ts_ms // SLOT_MS, service_tier)

    def cards_held(self) -> int:
        """How many cards are remembered."""
        return self._card.cache_info().currsize

    def _find_card(self, provider: str, model: str, slot: int, service_tier: str) -> RateCard | Unlisted:
        listed = self._providers.get(LIBRARY_IDS.get(provider, ""))
        if listed is None:
            return Unlisted("provider_unknown")
        info = self._find_model(listed, normal_model(model))
        if info is None:
            return Unlisted("model_unknown")
        moment = datetime.fromtimestamp(slot * SLOT_MS / 1_000, tz=UTC)
        # As in the library, a model that is priced by another provider's entry has no variants here.
        own = any(info is candidate for candidate in listed.models)
        context = _context(provider, info, moment, service_tier.lower()) if own else {}
        if context is None or (not own and service_tier.lower() not in PLAIN_TIERS[provider]):
            return Unlisted("tier_unknown")
        keys: tuple[tuple[str, ...], ...] = _PRICE_KEYS
        if provider in _AUDIO_APART:
            keys = tuple(next((apart for apart in _AUDIO_KEYS if apart[0] == kind[0]), kind) for kind in keys)
        price = info.get_prices(moment, context)
        return _to_card(f"{listed.id}/{info.id}", price, keys, _minimum_seconds(listed, info))

    def _find_model(self, provider: Provider, model: str) -> ModelInfo | None:
        # OpenAI does not serve its open models; the library lists another host's price for the bare name.
        if provider.id == "openai" and model.startswith("gpt-oss"):
            return None
        return provider.find_model(model, all_providers=self._all_providers)


def _context(provider: str, info: ModelInfo, moment: datetime, tier: str) -> dict[str, str] | None:
    """What selects the price variant of a tier; empty for the list price, None when the tier has no known price."""
    for candidate in ({"service_tier": tier}, {"processing": tier}, {"speed": tier}):
        for variant in info.price_variants or ():
            active = variant.constraint is None or variant.constraint.active(moment)
            if active and variant.when == candidate:
                return candidate
    return {} if tier in PLAIN_TIERS[provider] else None


def _minimum_seconds(provider: Provider, info: ModelInfo) -> int:
    # console.groq.com/docs/speech-to-text: ten seconds at least are billed per request.
    return 10 if provider.id == "groq" and info.id.startswith("whisper-") else 0


def _to_card(
    price_id: str, price: ModelPrice, price_keys: tuple[tuple[str, ...], ...], minimum_audio_seconds: int
) -> RateCard:
    stored = {key: value for key, value in price.__dict__.items() if value is not None}
    tiered = [value for value in stored.values() if isinstance(value, TieredPrices)]
    starts = sorted({tier.start for prices in tiered for tier in prices.tiers})

    def rate(keys: tuple[str, ...], above: int) -> Decimal | None:
        value = next((stored[key] for key in keys if key in stored), None)
        if isinstance(value, TieredPrices):
            return next((tier.price for tier in reversed(value.tiers) if above >= tier.start), value.base)
        return value

    levels = [(start, tuple(per_token(rate(keys, start)) for keys in price_keys)) for start in (-1, *starts)]
    return RateCard(
        price_id=price_id,
        free=not any(stored.values()),
        bills_tokens=any(token_rate is not None for token_rate in levels[0][1]),
        levels=tuple(levels),
        audio_hour=rate(_SECONDS_KEYS, -1),
        searches_1000=rate(_SEARCH_KEYS, -1),
        requests_1000=rate(_REQUEST_KEYS, -1),
        minimum_audio_seconds=minimum_audio_seconds,
    )


def normal_model(model: str) -> str:
    """A model's name as prices are looked up by it."""
    return model.lower().removeprefix("models/")


def per_token(dollars_per_million: Decimal | None) -> int | None:
    """A rate as RateCard has it."""
    return None if dollars_per_million is None else int(dollars_per_million.scaleb(RATE_SCALE - 6))
