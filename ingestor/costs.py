"""What many events cost. Pure: the same prices as `pricing`, a thousand events at a time and a tenth of the work.

In: fields of events. Out: costs in 10^-12 dollars and how they came about. Plain usage of tokens at rates that are
whole in that unit is multiplied and added as integers, which is exact. Everything else (no usage, searches, audio by
the second, long inputs at other rates, counts that cannot be, rates of more decimals) is priced by `pricing`, one by
one. Organisations without prices of their own do not notice that others have some.
"""

import decimal
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from typing import Final

from ingestor.fields import Fields, Sums
from ingestor.pricelist import RATE_SCALE, SLOT_MS, RateCard, Unlisted
from ingestor.pricing import COST_SCALE, MAX_TOKENS, Cost, Pricer, cost_of, moment_of, priced_model
from shared.event import Event, Usage

_NO_RATE: Final = 1 << 80
"""Stands for a rate that is not known: one token at it costs more than any request can."""
_MONEY: Final = decimal.Context(prec=60)
_TO_UNITS: Final = 10 ** (RATE_SCALE - COST_SCALE)
_NOTHING: Final = (0,) * 11
_USUAL: Final = (0, 7)
"""Text in and out, which almost every event has."""
_SELDOM: Final = (1, 2, 3, 4, 5, 6, 8, 9, 10)
"""Caches, reasoning, audio, images."""
_NEVER: Final = -1
_ALWAYS: Final = 1 << 62


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """How a cost came about, as in Cost; `unpriced_reason` is empty when there is one. One object for all alike."""

    source: str
    price_id: str
    unpriced_reason: str
    price_version: str


@dataclass(frozen=True, eq=False, slots=True)
class _Quote:
    """What is the same for all events of one model."""

    rates: tuple[int, ...]
    """10^-12 dollars per token, by kind."""
    text_in: int
    text_out: int
    """Those of the kinds in _USUAL."""
    outcome: Outcome
    most_input: int
    """Up to so many input tokens. An event with more is priced alone."""


class _Quotes(dict[tuple[str, str, str, int], _Quote]):
    """By provider, model, service tier, half hour: found once per batch, then only looked up."""

    def __init__(self, pricer: Pricer) -> None:
        super().__init__()
        self._pricer = pricer
        self._outcomes: dict[tuple[str, str, str, str], Outcome] = {}

    def __missing__(self, key: tuple[str, str, str, int]) -> _Quote:
        provider, model, tier, slot = key
        quote = self[key] = self.quote(self._pricer.card(provider, model, slot * SLOT_MS, tier))
        return quote

    def outcome(self, cost: Cost) -> Outcome:
        """The one object for all that came about so."""
        key = (cost.source, cost.price_id, cost.unpriced_reason, cost.price_version)
        return self._outcomes.setdefault(key, Outcome(*key))

    def quote(self, card: RateCard | Unlisted) -> _Quote:
        """What is the same for all events at these rates."""
        if isinstance(card, Unlisted):
            return _quote_at(_NOTHING, self.outcome(Cost(None, unpriced_reason=card.reason)), _ALWAYS)
        nothing_used = cost_of(card, Usage())
        outcome = self.outcome(nothing_used)
        if nothing_used.source != card.source:
            return _quote_at(_NOTHING, outcome, _ALWAYS)
        rates = card.levels[0][1]
        if nothing_used.dollars or any(rate is not None and rate % _TO_UNITS for rate in rates):
            return _quote_at(_NOTHING, outcome, _NEVER)
        whole = tuple(_NO_RATE if rate is None else rate // _TO_UNITS for rate in rates)
        return _quote_at(whole, outcome, card.levels[1][0] if len(card.levels) > 1 else _ALWAYS)


_OwnQuotes = tuple[tuple[int, ...], list[_Quote]]
"""Moments in Unix ms, and the quote that counts from each of them on."""


class Costs:
    """Prices the events of one batch."""

    def __init__(self, pricer: Pricer) -> None:
        self._pricer = pricer
        self._quotes = _Quotes(pricer)
        self._own: dict[tuple[str, str, str, str, int], _OwnQuotes] = {}
        self._without_usage: dict[tuple[object, ...], tuple[int, Outcome]] = {}

    def price(self, fields: Fields, sums: Sums, doubtful: Iterable[int]) -> tuple[list[int], list[Outcome]]:
        """Per event: 10^-12 dollars, 0 where there is no price; how it came about.

        `doubtful`: rows with a count that is no count at all; in the others none is below 0.
        """
        quotes = self._quoted(fields)
        amounts = _products(fields, quotes)
        outcomes = [quote.outcome for quote in quotes]
        for row in _alone(fields, sums, quotes, amounts).union(doubtful):
            amounts[row], outcomes[row] = self._price_alone(fields.events[row])
        for row, source in enumerate(fields.columns["usage_source"]):
            if source == "absent":
                amounts[row], outcomes[row] = self._price_without_usage(fields.events[row], quotes[row])
        return amounts, outcomes

    def _price_alone(self, event: Event) -> tuple[int, Outcome]:
        cost = self._pricer.price(event)
        return units(cost), self._quotes.outcome(cost)

    def _price_without_usage(self, event: Event, quote: _Quote) -> tuple[int, Outcome]:
        """Alone, but only the first of those that are alike in all that their price depends on."""
        unsent = event.overhead_us < 0
        key = (quote, event.status, unsent, event.error_source, event.method, event.endpoint)
        found = self._without_usage.get(key)
        if found is None:
            found = self._without_usage[key] = self._price_alone(event)
        return found

    def _quoted(self, fields: Fields) -> list[_Quote]:
        models: Sequence[str] = fields.columns["model_actual"]
        if not all(models):
            asked = zip(models, fields.columns["provider"], fields.columns["model_requested"], strict=True)
            models = [actual or priced_model(provider, actual, requested) for actual, provider, requested in asked]
        first, last = min(fields.columns["ts_ms"]) // SLOT_MS, max(fields.columns["ts_ms"]) // SLOT_MS
        slots = repeat(first) if first == last else [ts_ms // SLOT_MS for ts_ms in fields.columns["ts_ms"]]
        quotes = list(
            map(
                self._quotes.__getitem__,
                zip(fields.columns["provider"], models, fields.columns["service_tier"], slots, strict=False),
            )
        )
        own = self._pricer.own
        if own and not own.keys().isdisjoint(fields.columns["org"]):
            self._quote_own(fields, models, quotes)
        return quotes

    def _quote_own(self, fields: Fields, models: Sequence[str], quotes: list[_Quote]) -> None:
        """Quotes of organisations with prices of their own, in place of the list's."""
        own, columns = self._pricer.own, fields.columns
        names = "org", "provider", "service_tier", "ts_ms"
        for row, (org, provider, tier, ts_ms) in enumerate(zip(*(columns[name] for name in names), strict=True)):
            if org not in own:
                continue
            moments, found = self._own_quotes(org, provider, models[row], tier, ts_ms)
            if place := bisect_right(moments, moment_of(ts_ms)):
                quotes[row] = found[place - 1]

    def _own_quotes(self, org: str, provider: str, model: str, tier: str, ts_ms: int) -> _OwnQuotes:
        key = (org, provider, model, tier, ts_ms // SLOT_MS)
        known = self._own.get(key)
        if known is None:
            moments, cards = self._pricer.own_spans(org, provider, model, ts_ms, tier)
            known = self._own[key] = (moments, [self._quotes.quote(card) for card in cards])
        return known


def units(cost: Cost) -> int:
    """Its dollars in units of the column, 0 for none. Exact: a Cost has no more decimals than the column."""
    return int(_MONEY.scaleb(cost.dollars, COST_SCALE)) if cost.dollars else 0


def _quote_at(rates: tuple[int, ...], outcome: Outcome, most_input: int) -> _Quote:
    text_in, text_out = (rates[kind] for kind in _USUAL)
    return _Quote(rates, text_in, text_out, outcome, most_input)


def _products(fields: Fields, quotes: Sequence[_Quote]) -> list[int]:
    """Counts times rates. The usual kinds in one go, the others for those that have them."""
    ins, outs = (fields.tokens[kind] for kind in _USUAL)
    amounts = [
        quote.text_in * counted_in + quote.text_out * counted_out
        for quote, counted_in, counted_out in zip(quotes, ins, outs, strict=True)
    ]
    rows = range(len(amounts))
    for kind in _SELDOM:
        counts = fields.tokens[kind]
        for row in compress(rows, counts):
            amounts[row] += quotes[row].rates[kind] * counts[row]
    return amounts


def _alone(fields: Fields, sums: Sums, quotes: Sequence[_Quote], amounts: Sequence[int]) -> set[int]:
    """Rows whose amount is not to be had by multiplying. Most events are none of these, so whole columns are asked."""
    rows: set[int] = set()
    for totals in (sums.inputs, sums.outputs):
        if max(totals) > MAX_TOKENS:
            rows.update(row for row, total in enumerate(totals) if total > MAX_TOKENS)
    for others in (fields.columns["input_audio_seconds"], fields.columns["web_search_requests"]):
        if any(others):
            rows.update(row for row, count in enumerate(others) if count)
    if max(sums.inputs) > min(quote.most_input for quote in set(quotes)):
        rows.update(row for row, quote in enumerate(quotes) if sums.inputs[row] > quote.most_input)
    if max(amounts) >= _NO_RATE:
        rows.update(row for row, amount in enumerate(amounts) if amount >= _NO_RATE)
    return rows
