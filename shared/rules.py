"""Which of an organisation's routing rules applies to a request. Pure.

In: the rules, once per change of the registry; then feature, task, provider and model of each request. Out: the rule
that applies, or None; for people, why it is that one, and what is wrong with the rules taken together. Never fails and
remembers nothing of what it is asked: what a question costs does not depend on what clients send.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final, Literal, get_args

import msgspec

from shared.organisation import MOST_RULES, REASONING, Provider, Rule, Target
from shared.rule_index import NO_RULE, Entry, RuleIndex, bytes_of, numbers_of, own_name_of, span_of

MOST_EXPLAINED: Final = 20
"""Rules that an explanation looks at: it is read by people."""

Reason = Literal["disabled", "feature", "task", "provider", "reasoning", "model"]


def is_reasoning(task: str) -> bool:
    """Whether this is the task that no recommendation may take a model from, however it is written."""
    word = task.strip()
    # Its length first: changing the case of a long text costs more than all the rest.
    return len(word) == len(REASONING) and word.casefold() == REASONING


def is_guarded(rule: Rule, task: str) -> bool:
    """Whether the rule must leave this task alone: it was made from a recommendation, and the task is `reasoning`."""
    return rule.recommended and is_reasoning(task)


class RuleTable:
    """The rules of one organisation, indexed. Built once; asking it changes nothing."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.ordered: Final = tuple(sorted(rules, key=lambda rule: rule.priority))
        """All rules, the first that is asked first; those that are not enabled as well."""
        spans = {rule.model: span_of(rule.model) for rule in rules}
        self._longest = max((len(model) for model in spans if model), default=0)
        self._edges = sorted({edge for span in spans.values() if span for edge in span})
        number_of = {edge: number for number, edge in enumerate(self._edges, start=1)}
        strips_of = {model: (number_of[span[0]], number_of[span[1]]) if span else None for model, span in spans.items()}
        self._features, of_feature = numbers_of((rule.feature for rule in rules), above=0)
        self._tasks, of_task = numbers_of((rule.task for rule in rules), above=of_feature)
        self._providers, of_provider = numbers_of((rule.provider for rule in rules), above=of_feature | of_task)
        entries = [
            Entry(
                place,
                self._group(rule.feature, rule.task, rule.provider),
                (0 if rule.feature is None else of_feature)
                | (0 if rule.task is None else of_task)
                | (0 if rule.provider is None else of_provider),
                strips_of[rule.model],
            )
            for place, rule in enumerate(self.ordered)
            if rule.enabled
        ]
        self._all = RuleIndex(entries)
        unguarded = [entry for entry in entries if not is_guarded(self.ordered[entry.place], REASONING)]
        self._has_guarded = len(unguarded) < len(entries)
        self._for_reasoning = RuleIndex(unguarded) if self._has_guarded else self._all

    def find(self, feature: str, task: str, provider: str, model: str) -> Rule | None:
        """The first enabled rule whose conditions all hold, by priority and then by where it stands."""
        index = self._all
        if not index.choices:
            return None
        if self._has_guarded and is_reasoning(task):
            index = self._for_reasoning
        strip = 0
        if self._edges:
            # What is cut off lies behind every edge that it could be compared with.
            strip = bisect_right(self._edges, bytes_of(model[: self._longest + 1]))
        place = index.first(self._group(feature, task, provider), strip)
        return None if place == NO_RULE else self.ordered[place]

    def taken_by(self, place: int) -> Rule | None:
        """Of an enabled rule in `ordered`: the earlier rule that takes all that it matches, so that it never applies.

        None where no single rule does. The rule is asked for by its own conditions: what it leaves unset, and a name of
        its own, are met only by rules that match everything that it matches.
        """
        rule = self.ordered[place]
        everywhere = not rule.recommended and (rule.task is None or is_reasoning(rule.task))
        index = self._for_reasoning if everywhere else self._all
        strip = bisect_right(self._edges, own_name_of(rule.model))
        first = index.first(self._group(rule.feature, rule.task, rule.provider), strip)
        return self.ordered[first] if first < place else None

    def _group(self, feature: str | None, task: str | None, provider: str | None) -> int:
        """The numbers of three values in one; 0 stands for unset, and for a value that no rule names."""
        return self._features.get(feature, 0) | self._tasks.get(task, 0) | self._providers.get(provider, 0)


class PassedOver(msgspec.Struct, frozen=True):
    """A rule that did not apply, and the first reason for it."""

    rule: Rule
    reason: Reason
    """`reasoning`: it was recommended, and the task is `reasoning`."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a request would be routed as it is."""

    rule: Rule | None
    """The rule that applies."""
    passed_over: tuple[PassedOver, ...]
    """The first rules before it, in order; MOST_EXPLAINED at most."""
    more: int
    """How many other rules before it did not apply either."""


def explain(table: RuleTable, feature: str, task: str, provider: str, model: str) -> Explanation:
    """What `find` answers, and why it is none of the rules before."""
    found = table.find(feature, task, provider, model)
    before = list(takewhile(lambda rule: rule is not found, table.ordered))
    looked_at = before[:MOST_EXPLAINED]
    return Explanation(
        rule=found,
        passed_over=tuple(PassedOver(rule, _reason(rule, feature, task, provider)) for rule in looked_at),
        more=len(before) - len(looked_at),
    )


def _reason(rule: Rule, feature: str, task: str, provider: str) -> Reason:
    """Why a rule that did not apply did not: if nothing else is the reason, its model is."""
    if not rule.enabled:
        return "disabled"
    if rule.feature not in {None, feature}:
        return "feature"
    if rule.task not in {None, task}:
        return "task"
    if rule.provider not in {None, provider}:
        return "provider"
    return "reasoning" if is_guarded(rule, task) else "model"


_PROVIDERS: Final = ", ".join(get_args(Provider))


class Problems(msgspec.Struct, frozen=True):
    """What is wrong with rules taken together; each text names the rule and the fix."""

    errors: list[str]
    """The rules must not be stored like this."""
    warnings: list[str]
    """They do what they say, which may not be what was meant."""


def problems_of(rules: Sequence[Rule]) -> Problems:
    """Look at rules in the order in which they stand. Of too many rules nothing else is said."""
    if len(rules) > MOST_RULES:
        return Problems([f"{len(rules)} rules, and an organisation may have {MOST_RULES}: remove some"], [])
    errors = [
        f"{count} rules are named {name!r}: rename all but one"
        for name, count in Counter(rule.name for rule in rules).items()
        if count > 1
    ]
    errors += [
        f"rule {rule.name!r}: model {rule.model!r} has a * before its end; only the last character may be one"
        for rule in rules
        if "*" in (rule.model or "")[:-1]
    ]
    errors += [
        f"rule {rule.name!r}: a target's model {target.model!r} has a *, and a request asks for one model: give its "
        "whole name"
        for rule in rules
        for target in (rule.target, *rule.failover)
        if "*" in (target.model or "")
    ]
    table = RuleTable(rules)
    warnings = []
    for place, rule in enumerate(table.ordered):
        if rule.target == Target() and not rule.failover:
            warnings.append(
                f"rule {rule.name!r} changes nothing, and keeps later rules off what it matches: set a target or a "
                "failover"
            )
        if rule.first_byte_timeout_s is not None and not rule.failover:
            warnings.append(
                f"rule {rule.name!r}: first_byte_timeout_s ends no try, as no other target is left: set a failover"
            )
        warnings += [
            f"rule {rule.name!r}: a target's model {model!r} goes to whatever provider the request was for: if "
            f"{model.partition('/')[0]!r} is meant as one, give provider and model apart, the provider one of "
            f"{_PROVIDERS}; if it is part of the model's name, give the provider that has the model"
            for model in _models_of_any_provider(rule)
        ]
        if not rule.enabled:
            continue
        if is_guarded(rule, rule.task or ""):
            warnings.append(
                f"rule {rule.name!r} never applies: it is recommended, and its task is {REASONING!r}; remove it"
            )
            continue
        taker = table.taken_by(place)
        if taker is not None:
            warnings.append(
                f"rule {rule.name!r} never applies: {taker.name!r} (priority {taker.priority}) comes first and "
                "matches all that it matches; put it before that one, or remove it"
            )
    return Problems(errors, warnings)


def _models_of_any_provider(rule: Rule) -> Iterator[str]:
    """Models of targets that read like `provider/model`, where nothing says which provider has a model so named."""
    if rule.provider is not None or "/" in (rule.model or ""):
        return
    for target in (rule.target, *rule.failover):
        if target.provider is None and target.model is not None and "/" in target.model:
            yield target.model
