"""What must hold for a declared organisation beyond the types of its fields, as for every other change. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from dashboard import checks, edits
from dashboard.declared.faults import place_of
from dashboard.registry import Edit
from shared.organisation import Limits, Org
from shared.registry import MOST_RECORD_BYTES, RegistryFault, encode_org
from shared.rules import problems_of


class Checked(NamedTuple):
    """What became of a declared organisation."""

    org: Org
    """As every other change would have stored it."""
    problems: list[str]
    warnings: list[str]


def checked(org: Org, place: str) -> Checked:
    """Look at an organisation whose fields have the right types."""
    rules = problems_of(org.rules)
    problems = [f"{place}.rules: {error}" for error in rules.errors]
    for field, check in _CHECKS.items():
        try:
            org = check(org)
        except RegistryFault as fault:
            problems.append(f"{place}.{field}: {fault}")
    if (size_bytes := len(encode_org(org))) > MOST_RECORD_BYTES:
        problems.append(f"{place}: it takes {size_bytes} bytes, and {MOST_RECORD_BYTES} is the most: leave rules out")
    return Checked(org, problems, [f"{place}.rules: {warning}" for warning in rules.warnings])


def shared_keys(orgs: Iterable[Org]) -> Iterator[str]:
    """A problem for each key that another has too: a gateway finds the organisation by it."""
    owners: dict[str, str] = {}
    for org in orgs:
        for number, key in enumerate(org.keys):
            place = f"{place_of(org.org)}.keys[{number}]"
            owner = owners.setdefault(key.sha256, place)
            if owner != place:
                yield f"{place}.sha256: {owner} has the same: give each a key of its own, made with: key new"


def _keys(org: Org) -> Org:
    _refuse_repeated("key", (key.name for key in org.keys))
    for key in org.keys:
        checks.check_burst(key.limits, org.limits, field="keys", whose=f"key {key.name!r}: ")
    return org


def _limits(org: Org) -> Org:
    checks.check_burst(org.limits, Limits(), field="limits")
    return org


def _azure(org: Org) -> Org:
    _refuse_repeated("resource", (one.name for one in org.azure))
    made = (checks.azure(one.endpoint, one.api_version, one.name, one.deployments) for one in org.azure)
    return msgspec.structs.replace(org, azure=tuple(made))


def _base_urls(org: Org) -> Org:
    made = {checks.check_provider(name): checks.check_base_url(name, url) for name, url in org.base_urls.items()}
    return msgspec.structs.replace(org, base_urls=made)


def _credentials(org: Org) -> Org:
    for provider, reference in org.credentials.items():
        checks.check_provider(provider)
        checks.check_reference(reference)
    return org


def _budgets(org: Org) -> Org:
    _refuse_repeated("budget", (budget.name for budget in org.budgets))
    return msgspec.structs.replace(org, budgets=tuple(edits.sound_budget(budget) for budget in org.budgets))


def _prices(org: Org) -> Org:
    return msgspec.structs.replace(org, prices=edits.sound_prices(org.prices))


def _drain_features(org: Org) -> Org:
    return _features(org, org.drain_features, lambda feature: edits.set_drain(feature, drain=True))


def _usage_features(org: Org) -> Org:
    return _features(org, org.usage_features, lambda feature: edits.set_usage(feature, ask=True))


def _features(org: Org, features: Sequence[str], put: Callable[[str], Edit]) -> Org:
    _refuse_repeated("feature", features)
    bare = Org(org=org.org, version=0)
    for feature in features:
        bare = put(feature)(bare)
    return org


def _refuse_repeated(kind: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise RegistryFault(f"{kind} {name!r} stands {count} times: remove or rename all but one")


_CHECKS: Final[dict[str, Callable[[Org], Org]]] = {
    "keys": _keys,
    "azure": _azure,
    "base_urls": _base_urls,
    "credentials": _credentials,
    "limits": _limits,
    "budgets": _budgets,
    "prices": _prices,
    "drain_features": _drain_features,
    "usage_features": _usage_features,
}
"""By field."""
