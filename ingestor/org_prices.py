"""Negotiated prices: which one is in force for a request, and its rate card. Pure.

In: prices as operators set them, and the list's card of the same model. Out: a RateCard, Unlisted where the price does
not say what the request costs, or None where none applies and the list counts. A model's whole name comes before the
longest beginning; of several prices of one name the latest that had begun by then counts.

What a price has a rate for: text of input and output, caches (input's where it has none of their own), reasoning as
output. Audio and images cost what text does where the list makes no difference either, and have no rate elsewhere. Nor
have searches, audio by the second, and tiers that the provider bills apart: such requests have no cost rather than a
wrong one.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from ingestor.pricelist import PLAIN_TIERS, RateCard, Unlisted, normal_model, per_token
from shared.organisation import Price

ORG_PRICE: Final = "org_price"
"""Source of a cost that follows a negotiated price."""
UNREADABLE: Final = Unlisted("org_prices_unknown")
_TEXT_IN, _TEXT_OUT = 0, 7
_AS_TEXT: Final = {5: _TEXT_IN, 6: _TEXT_IN, 9: _TEXT_OUT, 10: _TEXT_OUT}
"""Audio and images, by their places in Usage, and the text that they may cost as much as."""

Card = RateCard | Unlisted
Spans = tuple[tuple[int, ...], tuple[Card, ...]]
"""Moments in Unix ms, and the card that counts from each of them on."""
NO_SPANS: Final[Spans] = ((), ())


class OrgPrices:
    """Of one organisation at one version of its record."""

    def __init__(self, version: int, prices: Sequence[Price]) -> None:
        self.version = version
        self._whole: dict[tuple[str, str], list[Price]] = {}
        self._beginnings: dict[str, list[tuple[str, Price]]] = {}
        for price in sorted(prices, key=lambda one: one.since_ms):
            model = normal_model(price.model)
            if model.endswith("*"):
                self._beginnings.setdefault(price.provider, []).append((model[:-1], price))
            else:
                self._whole.setdefault((price.provider, model), []).append(price)

    def __bool__(self) -> bool:
        return bool(self._whole or self._beginnings)

    def spans(self, provider: str, model: str, tier: str, listed: Card) -> Spans:
        """The cards of a model over time, none before the first; `listed`: its card in the price list."""
        name = normal_model(model)
        fitting = [(len(name) + 1, price) for price in self._whole.get((provider, name), ())]
        fitting += [
            (len(start), price) for start, price in self._beginnings.get(provider, ()) if name.startswith(start)
        ]
        moments = tuple(sorted({price.since_ms for _, price in fitting}))
        chosen = (_in_force(fitting, moment) for moment in moments)
        return moments, tuple(_card_of(price, provider, tier, listed, self.version) for price in chosen)


class UnreadablePrices(OrgPrices):
    """Of an organisation whose record nobody can read: whether it has any, and which, is not known."""

    def __init__(self) -> None:
        super().__init__(0, ())

    def __bool__(self) -> bool:
        return True

    def spans(self, provider: str, model: str, tier: str, listed: Card) -> Spans:  # noqa: ARG002 - as above
        """Unlisted at all times."""
        return (0,), (UNREADABLE,)


AllPrices = Mapping[str, OrgPrices]
"""By organisation; those without prices are not in it."""
NO_PRICES: Final[AllPrices] = {}


def card_at(spans: Spans, ts_ms: int) -> Card | None:
    """The card that counts at a moment; None before the first."""
    moments, cards = spans
    place = bisect_right(moments, ts_ms)
    return cards[place - 1] if place else None


def _in_force(fitting: Sequence[tuple[int, Price]], ts_ms: int) -> Price:
    begun = [
        (length, price.since_ms, place) for place, (length, price) in enumerate(fitting) if price.since_ms <= ts_ms
    ]
    return fitting[max(begun)[2]][1]


def _card_of(price: Price, provider: str, tier: str, listed: Card, version: int) -> Card:
    if tier.lower() not in PLAIN_TIERS.get(provider, frozenset()):
        return Unlisted("tier_unknown")
    return RateCard(
        price_id=f"{price.provider}/{price.model}",
        free=False,
        # What is billed by a unit that answers do not report has no tokens to be priced, or too few.
        bills_tokens=not isinstance(listed, RateCard) or listed.free or listed.bills_tokens,
        levels=((-1, _rates(price, listed)),),
        audio_hour=None,
        searches_1000=None,
        requests_1000=None,
        minimum_audio_seconds=0,
        source=ORG_PRICE,
        price_version=f"registry {version}",
    )


def _rates(price: Price, listed: Card) -> tuple[int | None, ...]:
    read = _or_input(price.cache_read_usd, price)
    write = _or_input(price.cache_write_usd, price)
    usd = (price.input_usd, read, write, write, write, None, None, price.output_usd, price.output_usd, None, None)
    rates = [per_token(rate) for rate in usd]
    for kind, text in _AS_TEXT.items():
        if _costs_as_text(listed, kind, text):
            rates[kind] = rates[text]
    return tuple(rates)


def _or_input(rate: Decimal | None, price: Price) -> Decimal:
    return price.input_usd if rate is None else rate


def _costs_as_text(listed: Card, kind: int, text: int) -> bool:
    if not isinstance(listed, RateCard):
        return False
    return all(rates[kind] is not None and rates[kind] == rates[text] for _, rates in listed.levels)
