"""What an operator can do to an organisation: from a record to what it becomes. Pure.

Both doors, command line and HTTP, make their changes of these. Raises RegistryFault naming the field and the fix.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from dashboard import checks
from dashboard.registry import Edit, RecordExists, UnknownRecord
from dashboard.validation import problem_in
from shared.organisation import ALL_FEATURES, MOST_KEYS, Budget, Key, Limits, Org, Price, Rule, plain_amount
from shared.registry import DEFAULT_KEY, RegistryFault, hash_key, shown_of
from shared.rules import problems_of

_MOST_FEATURES: Final = 100
_NAMED: Final = 10
"""Of what is there, in a fault about what is not."""
_KEY_BURST: Final = "limits.burst_requests"
"""The field, as a key has it."""
N = TypeVar("N", bound=Key | Rule | Budget)


def new_org(name: str, key: str, now_ms: int) -> Org:
    """An organisation with one key."""
    return Org(org=name, version=0, keys=(new_key_record(DEFAULT_KEY, key, now_ms),))


def new_key_record(name: str, key: str, now_ms: int, limits: Limits | None = None) -> Key:
    """What is kept of a key."""
    return checked(
        Key(name=name, sha256=hash_key(key), shown=shown_of(key), created_ms=now_ms, limits=limits or Limits())
    )


def switch(*, enabled: bool) -> Edit:
    """Serve the organisation, or refuse it."""
    return lambda org: msgspec.structs.replace(org, enabled=enabled)


def add_key(added: Key) -> Edit:
    """One more key."""

    def edit(org: Org) -> Org:
        if any(key.name == added.name for key in org.keys):
            raise RecordExists(f"key {added.name!r} exists; rotate it, or choose another name", field="name")
        if len(org.keys) >= MOST_KEYS:
            raise RegistryFault(f"org {org.org!r} has {MOST_KEYS} keys, which is the most; remove one first")
        checks.check_burst(added.limits, org.limits, field=_KEY_BURST)
        return msgspec.structs.replace(org, keys=(*org.keys, added))

    return edit


def rotate_key(rotated: Key) -> Edit:
    """The same key by name, with its limits, under another secret; what was disabled stays so."""

    def edit(org: Org) -> Org:
        old = named(org.keys, rotated.name, "key", org)
        new = msgspec.structs.replace(rotated, enabled=old.enabled, limits=old.limits)
        return msgspec.structs.replace(org, keys=_replaced(org.keys, new))

    return edit


def change_key(name: str, *, enabled: bool | None = None, limits: Limits | None = None) -> Edit:
    """What is not None becomes so."""

    def edit(org: Org) -> Org:
        key = named(org.keys, name, "key", org)
        key = msgspec.structs.replace(
            key,
            enabled=key.enabled if enabled is None else enabled,
            limits=key.limits if limits is None else checked(limits),
        )
        if limits is not None:
            checks.check_burst(limits, org.limits, field=_KEY_BURST)
        return msgspec.structs.replace(org, keys=_replaced(org.keys, key))

    return edit


def remove_key(name: str) -> Edit:
    """The key is gone for good."""

    def edit(org: Org) -> Org:
        named(org.keys, name, "key", org)
        return msgspec.structs.replace(org, keys=tuple(key for key in org.keys if key.name != name))

    return edit


def set_limits(limits: Limits) -> Edit:
    """Those of all keys that have none of their own."""
    checked(limits)
    checks.check_burst(limits, Limits(), field="burst_requests")

    def edit(org: Org) -> Org:
        for key in org.keys:
            # It may have had its rate from those that are replaced.
            checks.check_burst(key.limits, limits, field="requests_per_s", whose=f"key {key.name!r}: ")
        return msgspec.structs.replace(org, limits=limits)

    return edit


def put_rule(rule: Rule) -> Edit:
    """Add a rule, or replace the one of this name in its place."""
    checked(rule)
    if errors := problems_of((rule,)).errors:
        raise RegistryFault(errors[0], field=_starred(rule))
    return lambda org: msgspec.structs.replace(org, rules=_sound(_put(org.rules, rule)))


def set_rules(rules: Sequence[Rule]) -> Edit:
    """All rules at once, in the order in which those of one priority are looked at."""
    made = _sound(tuple(checked(rule) for rule in rules))
    return lambda org: msgspec.structs.replace(org, rules=made)


def switch_rule(name: str, *, enabled: bool) -> Edit:
    """Apply the rule, or pass it over."""

    def edit(org: Org) -> Org:
        rule = msgspec.structs.replace(named(org.rules, name, "rule", org), enabled=enabled)
        return msgspec.structs.replace(org, rules=_replaced(org.rules, rule))

    return edit


def remove_rule(name: str) -> Edit:
    """The rule is gone."""

    def edit(org: Org) -> Org:
        named(org.rules, name, "rule", org)
        return msgspec.structs.replace(org, rules=tuple(rule for rule in org.rules if rule.name != name))

    return edit


def put_budget(budget: Budget) -> Edit:
    """Add a budget, or replace the one of this name."""
    sound = sound_budget(budget)
    return lambda org: checked(msgspec.structs.replace(org, budgets=_put(org.budgets, sound)))


def sound_budget(budget: Budget) -> Budget:
    """A budget as it may be stored. Raises RegistryFault."""
    checked(budget)
    checks.check_money([budget], ())
    if not budget.limit_usd:
        raise RegistryFault(
            f"budget {budget.name!r}: limit_usd {budget.limit_usd} is no amount above 0, like 250.00", field="limit_usd"
        )
    return msgspec.structs.replace(budget, limit_usd=plain_amount(budget.limit_usd))


def remove_budget(name: str) -> Edit:
    """The budget is gone."""

    def edit(org: Org) -> Org:
        named(org.budgets, name, "budget", org)
        return msgspec.structs.replace(org, budgets=tuple(one for one in org.budgets if one.name != name))

    return edit


def set_prices(prices: Sequence[Price]) -> Edit:
    """All negotiated prices at once."""
    sound = sound_prices(prices)
    return lambda org: checked(msgspec.structs.replace(org, prices=sound))


def put_price(price: Price) -> Edit:
    """Add a price, or replace the one of this provider and model from this moment on."""
    _check_price(price)
    sound = _plain_price(price)

    def edit(org: Org) -> Org:
        if any(_place(one) == _place(sound) for one in org.prices):
            prices = tuple(sound if _place(one) == _place(sound) else one for one in org.prices)
        else:
            prices = (*org.prices, sound)
        return checked(msgspec.structs.replace(org, prices=prices))

    return edit


def remove_price(provider: str, model: str, since_ms: int | None) -> Edit:
    """The prices of this provider and model are gone; `since_ms`: only the one from this moment on."""

    def edit(org: Org) -> Org:
        gone = {
            _place(one)
            for one in org.prices
            if (one.provider, one.model) == (provider, model) and since_ms in {None, one.since_ms}
        }
        if not gone:
            known = ", ".join(f"{one.provider}/{one.model} since_ms {one.since_ms}" for one in org.prices[:_NAMED])
            which = "" if since_ms is None else f" since_ms {since_ms}"
            raise UnknownRecord(
                f"org {org.org!r} has no price of {provider}/{model}{which}; it has: {known or 'none'}"
                + (", …" if len(org.prices) > _NAMED else "")
            )
        return msgspec.structs.replace(org, prices=tuple(one for one in org.prices if _place(one) not in gone))

    return edit


def sound_prices(prices: Sequence[Price]) -> tuple[Price, ...]:
    """Prices as they may be stored. Raises RegistryFault."""
    for number, price in enumerate(prices):
        _check_price(price, f"prices[{number}].")
    if len({_place(price) for price in prices}) < len(prices):
        twice = next(one for one in prices if sum(_place(one) == _place(other) for other in prices) > 1)
        raise RegistryFault(
            f"price of {twice.provider}/{twice.model}: two of them have since_ms {twice.since_ms}; leave one out",
            field="prices",
        )
    return tuple(map(_plain_price, prices))


def _check_price(price: Price, place: str = "") -> None:
    """`place`: where it stands among several, in front of the field's name."""
    try:
        checked(price)
        checks.check_model(price.model)
        checks.check_money((), [price])
    except RegistryFault as fault:
        fault.field = f"{place}{fault.field or ''}".rstrip(".") or None
        raise


def _plain_price(price: Price) -> Price:
    read, write = price.cache_read_usd, price.cache_write_usd
    return msgspec.structs.replace(
        price,
        input_usd=plain_amount(price.input_usd),
        output_usd=plain_amount(price.output_usd),
        cache_read_usd=None if read is None else plain_amount(read),
        cache_write_usd=None if write is None else plain_amount(write),
    )


def _place(price: Price) -> tuple[str, str, int]:
    """What there is one price of."""
    return price.provider, price.model, price.since_ms


def set_azure(endpoint: str, api_version: str, name: str, deployments: dict[str, str]) -> Edit:
    """Add an Azure resource, or replace the one of this name in its place."""
    resource = checked(checks.azure(endpoint, api_version, name, deployments))

    def edit(org: Org) -> Org:
        if any(one.name == name for one in org.azure):
            return msgspec.structs.replace(org, azure=tuple(resource if one.name == name else one for one in org.azure))
        return msgspec.structs.replace(org, azure=(*org.azure, resource))

    return edit


def remove_azure(name: str) -> Edit:
    """The Azure resource is gone."""

    def edit(org: Org) -> Org:
        if all(one.name != name for one in org.azure):
            raise UnknownRecord(f"org {org.org!r} has no azure resource {name!r}; it has: {_names(org.azure)}")
        return msgspec.structs.replace(org, azure=tuple(one for one in org.azure if one.name != name))

    return edit


def set_base_url(provider: str, url: str | None) -> Edit:
    """Where this organisation's requests to a provider go; None: to the installation's own."""
    checks.check_provider(provider)
    checked_url = None if url is None else checks.check_base_url(provider, url)
    return lambda org: msgspec.structs.replace(org, base_urls=_with(org.base_urls, provider, checked_url))


def set_credential(provider: str, reference: str | None) -> Edit:
    """Where gateways find this organisation's key of a provider; None: nowhere."""
    checks.check_provider(provider)
    checked_reference = None if reference is None else checks.check_reference(reference)
    return lambda org: msgspec.structs.replace(org, credentials=_with(org.credentials, provider, checked_reference))


def set_drain(feature: str, *, drain: bool) -> Edit:
    """Whether answers for a feature (`*`: all) are read to their end when the client leaves."""
    checks.check_feature(feature)
    return lambda org: msgspec.structs.replace(
        org, drain_features=_switched(org.drain_features, feature, drain, "drain")
    )


def set_usage(feature: str, *, ask: bool) -> Edit:
    """Whether streams of a feature (`*`: all) are asked for their usage."""
    checks.check_feature(feature)
    return lambda org: msgspec.structs.replace(
        org, usage_features=_switched(org.usage_features, feature, ask, "have their usage asked for")
    )


def set_policies(drain_features: Sequence[str], usage_features: Sequence[str]) -> Edit:
    """Both lists of features at once."""
    for field, features in (("drain_features", drain_features), ("usage_features", usage_features)):
        for feature in features:
            checks.check_feature(feature, field)
        if len(set(features)) < len(features):
            raise RegistryFault(f"{field}: a feature stands in it twice; name each once", field=field)
        if len(features) > _MOST_FEATURES:
            raise RegistryFault(f"{field}: {_MOST_FEATURES} features at most; use {ALL_FEATURES} for all", field=field)
    return lambda org: msgspec.structs.replace(
        org, drain_features=tuple(drain_features), usage_features=tuple(usage_features)
    )


def checked(record: "R") -> "R":
    """A record whose values are within the bounds of their types. Raises RegistryFault."""
    try:
        return msgspec.convert(msgspec.to_builtins(record), type(record))
    except msgspec.ValidationError as error:
        problem = problem_in(error, type(record))
        raise RegistryFault(problem.told("record"), field=problem.field) from None


R = TypeVar("R", bound=msgspec.Struct)


def named(records: Iterable[N], name: str, kind: str, org: Org) -> N:
    """The one of this name. Raises RegistryFault."""
    records = tuple(records)
    for record in records:
        if record.name == name:
            return record
    raise UnknownRecord(f"org {org.org!r} has no {kind} {name!r}; it has: {_names(records)}")


def _names(records: Sequence[msgspec.Struct]) -> str:
    return ", ".join(getattr(record, "name", "") for record in records) or "none"


def _replaced(records: Sequence[N], new: N) -> tuple[N, ...]:
    return tuple(new if record.name == new.name else record for record in records)


def _put(records: Sequence[N], new: N) -> tuple[N, ...]:
    if any(record.name == new.name for record in records):
        return _replaced(records, new)
    return (*records, new)


def _sound(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules that may be stored together. Raises RegistryFault."""
    errors = problems_of(rules).errors
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        one = next((number for number, rule in enumerate(rules) if errors[0] in problems_of((rule,)).errors), None)
        field = "rules" if one is None else f"rules[{one}].{_starred(rules[one])}"
        raise RegistryFault(f"{errors[0]}{more}", field=field)
    return rules


def _starred(rule: Rule) -> str:
    """Of a rule that cannot be stored even alone, the first field that has a * where none may be."""
    if "*" in (rule.model or "")[:-1]:
        return "model"
    if "*" in (rule.target.model or ""):
        return "target.model"
    return f"failover[{next(n for n, one in enumerate(rule.failover) if '*' in (one.model or ''))}].model"


def _with(values: dict[str, str], key: str, value: str | None) -> dict[str, str]:
    others = {name: known for name, known in values.items() if name != key}
    return others if value is None else {**others, key: value}


def _switched(features: Sequence[str], feature: str, on: bool, what: str) -> tuple[str, ...]:
    others = tuple(one for one in features if one != feature)
    if on and len(others) >= _MOST_FEATURES:
        raise RegistryFault(f"feature: {_MOST_FEATURES} features {what} already; use {ALL_FEATURES} for all")
    return (*others, feature) if on else others
