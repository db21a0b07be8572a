"""What a request cost, or why nobody knows. Pure decisions over the price list and prices of organisations' own.

In: an event. Out: a Cost, all money in Decimal. Unknown is never 0: `dollars` is None with a reason, and a zero always
has its own source. Never raises for anything an event can hold.
"""

import decimal
from decimal import Decimal
from typing import Final

import msgspec

from ingestor.org_prices import NO_PRICES, NO_SPANS, UNREADABLE, AllPrices, Spans, card_at
from ingestor.pricelist import RATE_SCALE, PriceList, RateCard, Unlisted
from shared.event import Event, Usage

COST_SCALE: Final = 12
_INPUT_KINDS: Final = 7
"""How many kinds of input there are, first in the order of Usage; their sum selects the tier."""
_QUANTUM: Final = Decimal(1).scaleb(-COST_SCALE)
_MONEY: Final = decimal.Context(prec=60)
MAX_TOKENS: Final = 1_000_000_000
"""No request has that many tokens, so such a count is no basis for money."""
MAX_AUDIO_SECONDS: Final = 1_000_000_000.0
_MIN_TS_MS: Final = 0
_MAX_TS_MS: Final = 4_102_444_800_000  # 2100-01-01; the library's dates end long before

_TIMEOUT_STATUS: Final = 504
_CLIENT_LEFT_STATUS: Final = 499
_FIRST_ERROR_STATUS: Final = 400
_UPGRADE_STATUS: Final = 101
_LOOK_UPS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
# Counting, moderating, uploading and cancelling are free at every provider.
_FREE_ENDINGS: Final = (
    "/count_tokens",
    "/input_tokens",
    ":counttokens",
    "/moderations",
    "/files",
    "/uploads",
    "/cancel",
)


class Cost(msgspec.Struct, frozen=True, gc=False):
    """`dollars` with its source and price entry, or None with the reason."""

    dollars: Decimal | None
    source: str = ""
    price_id: str = ""
    unpriced_reason: str = ""
    price_version: str = ""
    """Of the list, or of the organisation's record, that the entry is of."""


NOT_BILLED: Final = Cost(Decimal(0), "not_billed")
_NO_USAGE: Final = Cost(None, unpriced_reason="no_usage")
_OUT_OF_RANGE: Final = Cost(None, unpriced_reason="usage_out_of_range")
_NO_MODEL: Final = Unlisted("model_missing")
_UNPRICED: Final = {
    reason: Cost(None, unpriced_reason=reason)
    for reason in ("model_missing", "provider_unknown", "model_unknown", "tier_unknown", UNREADABLE.reason)
}
UNPRICED_REASONS: Final = frozenset(
    {
        "no_usage",
        "model_missing",
        "model_unknown",
        "provider_unknown",
        "tier_unknown",
        "unit_without_price",
        "unit_not_reported",
        "usage_out_of_range",
        UNREADABLE.reason,
    }
)


class Pricer:
    """Prices events. Deterministic within one release and one state of `own`: the same event always costs the same."""

    def __init__(self, prices: PriceList | None = None, own: AllPrices = NO_PRICES) -> None:
        self._prices = prices or PriceList()
        self.own: Final = own
        """Prices that organisations negotiated, which come before the list's."""

    def price(self, event: Event) -> Cost:
        """The cost of one request."""
        if event.usage_source == "absent":
            return self._price_without_usage(event)
        card = self._card_of(event)
        if isinstance(card, Unlisted):
            return _UNPRICED[card.reason]
        return cost_of(card, event.usage)

    def card(self, provider: str, model: str, ts_ms: int, service_tier: str) -> RateCard | Unlisted:
        """What a model costs by the list at a moment, or why nobody knows."""
        if not model:
            return _NO_MODEL
        return self._prices.card(provider, model, moment_of(ts_ms), service_tier)

    def own_spans(self, org: str, provider: str, model: str, ts_ms: int, service_tier: str) -> Spans:
        """What a model costs an organisation by its own prices over time; `ts_ms`: to compare with the list of then."""
        prices = self.own.get(org)
        if not model or not prices:
            return NO_SPANS
        return prices.spans(provider, model, service_tier, self.card(provider, model, ts_ms, service_tier))

    def _card_of(self, event: Event) -> RateCard | Unlisted:
        model = priced_model(event.provider, event.model_actual, event.model_requested)
        place = event.provider, model, event.ts_ms, event.service_tier
        own = card_at(self.own_spans(event.org, *place), moment_of(event.ts_ms)) if self.own else None
        return own or self.card(*place)

    def _price_without_usage(self, event: Event) -> Cost:
        if _not_billed(event):
            return NOT_BILLED
        card = self._card_of(event)
        if isinstance(card, RateCard) and card.free:
            return _free(card)
        return _NO_USAGE


def cost_of(card: RateCard, usage: Usage) -> Cost:
    """What this usage costs on this rate card."""
    counts = (
        usage.input_uncached_tokens,
        usage.input_cache_read_tokens,
        usage.input_cache_write_5m_tokens,
        usage.input_cache_write_1h_tokens,
        usage.input_cache_write_other_tokens,
        usage.input_audio_tokens,
        usage.input_image_tokens,
        usage.output_text_tokens,
        usage.output_reasoning_tokens,
        usage.output_audio_tokens,
        usage.output_image_tokens,
    )
    seconds, searches = usage.input_audio_seconds, usage.web_search_requests
    if not _plausible((*counts, searches), seconds):
        return _OUT_OF_RANGE
    if card.free:
        return _free(card)
    if not card.bills_tokens and not seconds:
        # Billed by a unit that was not reported: the sum over the rest would be a false zero.
        return _unpriced(card, "unit_not_reported")
    units = 0
    for count, rate in zip(counts, card.token_rates(sum(counts[:_INPUT_KINDS])), strict=True):
        if count:
            if rate is None:
                return _unpriced(card, "unit_without_price")
            units += count * rate
    total = _MONEY.scaleb(Decimal(units), -RATE_SCALE)
    if seconds or searches or card.requests_1000:
        if (seconds and card.audio_hour is None) or (searches and card.searches_1000 is None):
            return _unpriced(card, "unit_without_price")
        total = _MONEY.add(total, _other_units(card, seconds, searches))
    return Cost(_MONEY.quantize(total, _QUANTUM), card.source, card.price_id, price_version=card.price_version)


def _plausible(counts: tuple[int, ...], seconds: float) -> bool:
    return min(counts) >= 0 and max(counts) <= MAX_TOKENS and 0 <= seconds <= MAX_AUDIO_SECONDS


def _free(card: RateCard) -> Cost:
    return Cost(Decimal(0), "free_model", card.price_id, price_version=card.price_version)


def _unpriced(card: RateCard, reason: str) -> Cost:
    return Cost(None, price_id=card.price_id, unpriced_reason=reason, price_version=card.price_version)


def _other_units(card: RateCard, seconds: float, searches: int) -> Decimal:
    billed = Decimal(repr(max(seconds, card.minimum_audio_seconds))) if seconds else Decimal(0)
    by_time = _MONEY.divide(_MONEY.multiply(billed, card.audio_hour or Decimal(0)), Decimal(3_600))
    by_search = _MONEY.scaleb(_MONEY.multiply(Decimal(searches), card.searches_1000 or Decimal(0)), -3)
    by_request = _MONEY.scaleb(card.requests_1000 or Decimal(0), -3)
    return _MONEY.add(_MONEY.add(by_time, by_search), by_request)


def moment_of(ts_ms: int) -> int:
    """The moment whose prices count, of a request with any time."""
    return min(max(ts_ms, _MIN_TS_MS), _MAX_TS_MS)


def priced_model(provider: str, actual: str, requested: str) -> str:
    """The name that the cost follows; empty when there is none."""
    # An Azure deployment's name is free text and says nothing about the model behind it.
    if provider == "azure":
        return actual
    return actual or requested


def _not_billed(event: Event) -> bool:
    """Requests without usage that no provider charges for.

    1. refused or failed at the provider, with an error status;
    2. never sent to a provider, refused while it was being sent, or the provider could not be reached; not a timeout
       or a client that left after that, as the provider may have worked;
    3. look-ups and deletions, except upgraded connections (realtime sessions start with a GET and are billed);
    4. endpoints that are free everywhere.
    """
    if event.status >= _FIRST_ERROR_STATUS:
        if event.overhead_us < 0:
            return True
        refused = event.error_source == "client" and event.status != _CLIENT_LEFT_STATUS
        failed = event.error_source == "gateway" and event.status != _TIMEOUT_STATUS
        return event.error_source == "provider" or refused or failed
    endpoint = event.endpoint.lower()
    if event.method in _LOOK_UPS:
        return event.status != _UPGRADE_STATUS and "realtime" not in endpoint
    return endpoint.rstrip("/").endswith(_FREE_ENDINGS)
