"""Whether a request may pass, given what was spent: `allow`, `alert` or `block`. Pure; the time is told.

In: an organisation's budgets, a request's feature, the latest totals of what was spent (the ingestor's, some seconds
old), the Unix time in ms. Out: a Verdict. Money is Decimal US dollars. Nothing here waits for a total.

The rules:
1. A budget is over when what was spent in its period is not less than its limit. Days and months are those of UTC.
2. What was spent is the total, and for each request that this process let pass since `as_of` the mean of a request.
   Other processes' requests since then are not in it, nor what a request of ours costs beyond the mean.
3. Nobody is blocked for what is not known. No total, one of another period or one that is too old: the request passes.
   But a total that alone reaches the limit does so however old it is, for as long as its period lasts: it only grows.
4. All budgets of the organisation and of the feature apply. One that blocks counts for more than one that alerts;
   among equals the one whose period ends last, as only then a blocked request passes again.
"""

import decimal
from collections import OrderedDict, deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from gateway.faults import BudgetExceeded
from shared.organisation import Budget
from shared.spending import PeriodName, Spend, period_of

Decision = Literal["allow", "alert", "block"]
SumName = tuple[str, str | None, PeriodName]
"""Of what requests are summed up: organisation, feature or None for all, period."""

MARK_OVER_BUDGET: Final = "over_budget"
MAX_AGE_MS: Final = 10 * 60_000
"""A total that is older says nothing of the present but that it was reached."""
MOST_KEPT: Final = 65_536
"""Sums (organisation, feature, period) that are remembered. Beyond, the one that was not looked at for longest is
forgotten: it is unknown, so that requests pass."""
_LOOKS: Final = 2
"""How many of the kept are looked at for each one that comes: more than one, so that they become fewer."""
_SECOND_MS: Final = 1_000
_MONEY: Final = decimal.Context(prec=60)
_SHOWN: Final = Decimal("0.000001")


class Verdict(NamedTuple):
    """What becomes of a request, and which budget says so."""

    decision: Decision
    budget: Budget | None = None
    """The one that is over; None: none is."""
    spent_usd: Decimal = Decimal(0)
    """In its period so far, to be compared with its `limit_usd`."""
    estimated: bool = False
    """Whether requests at the mean are part of it."""
    ends_ms: int = 0
    """When its period ends, Unix ms."""


ALLOWED: Final = Verdict("allow")


class OrgBudgets:
    """An organisation's budgets by what they are measured by; made once for each change of them."""

    __slots__ = ("_by_feature", "_overall")

    def __init__(self, org: str, budgets: Iterable[Budget]) -> None:
        by_sum: dict[SumName, tuple[Budget, ...]] = {}
        for budget in budgets:
            # What has no amount for a limit cannot be compared: it is as if it were not set.
            if budget.limit_usd.is_finite():
                name = org, budget.feature, budget.period
                by_sum[name] = (*by_sum.get(name, ()), budget)
        self._overall = tuple((name, set_) for name, set_ in by_sum.items() if name[1] is None)
        self._by_feature: dict[str, tuple[tuple[SumName, tuple[Budget, ...]], ...]] = {}
        for name, set_ in by_sum.items():
            feature = name[1]
            if feature is not None:
                self._by_feature[feature] = (*self._by_feature.get(feature, self._overall), (name, set_))

    def applying_to(self, feature: str) -> tuple[tuple[SumName, tuple[Budget, ...]], ...]:
        """The sums that a request of a feature is part of, each with its budgets: of all, then of the feature."""
        return self._by_feature.get(feature, self._overall)


class Budgets:
    """What is known of every organisation with budgets: totals, and the requests that passed since."""

    def __init__(self, *, max_age_ms: int, most: int = MOST_KEPT) -> None:
        self._max_age_ms = max_age_ms
        self._most = most
        # In the order in which they are looked at next.
        self._kept: OrderedDict[SumName, _Sum] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def learn(self, spend: Spend, now_ms: int) -> None:
        """Take over a total, unless a later one is known. What passed after its `as_of` stays counted.

        To be called for what has a budget: totals of anything else would push these out when they are very many.
        """
        name = spend.org, spend.feature, spend.period
        (self._kept.get(name) or self._keep(name, now_ms)).learn(spend, now_ms)

    def decide(self, budgets: OrgBudgets, feature: str, now_ms: int) -> Verdict:
        """Whether a request may pass; one that may is counted as passed."""
        kept, worst = self._kept, ALLOWED
        applying = budgets.applying_to(feature)
        for name, set_ in applying:
            sum_ = kept.get(name)
            if sum_ is None or sum_.spend is None:
                continue
            for budget in set_:
                verdict = judge(budget, sum_.spend, sum_.passed, now_ms, max_age_ms=self._max_age_ms)
                if verdict is not ALLOWED and _counts_for_more(verdict, worst):
                    worst = verdict
        if worst.decision != "block":
            for name, _ in applying:
                (kept.get(name) or self._keep(name, now_ms)).count(now_ms, self._max_age_ms)
        return worst

    def _keep(self, name: SumName, now_ms: int) -> "_Sum":
        """Start a sum; those that tell nothing go, as no timer would look for them."""
        kept = self._kept
        for _ in range(min(_LOOKS, len(kept))):
            oldest, sum_ = kept.popitem(last=False)
            if len(kept) < self._most - 1 and not sum_.tells_nothing(now_ms, self._max_age_ms):
                kept[oldest] = sum_
        started = kept[name] = _Sum()
        return started


def judge(budget: Budget, spend: Spend | None, passed: int, now_ms: int, *, max_age_ms: int) -> Verdict:
    """One budget's word on a request. `passed`: requests since the total's `as_of`."""
    if spend is None:
        return ALLOWED
    start_ms, end_ms = period_of(budget.period, now_ms)
    if spend.start_ms != start_ms:
        return ALLOWED
    spent_usd, estimated = spend.total_usd, False
    if spent_usd < budget.limit_usd:
        if spend.mean_usd is None or not passed or now_ms - spend.as_of_ms > max_age_ms:
            return ALLOWED
        spent_usd, estimated = _MONEY.fma(spend.mean_usd, passed, spent_usd), True
        if spent_usd < budget.limit_usd:
            return ALLOWED
    return Verdict(budget.action, budget, spent_usd, estimated, end_ms)


def budget_fault(org: str, verdict: Verdict, now_ms: int) -> BudgetExceeded:
    """The refusal that a verdict of `block` asks for. Raises ValueError for a verdict without a budget."""
    budget = verdict.budget
    if budget is None:
        raise ValueError("no budget is over")
    what = "all features" if budget.feature is None else f"feature {budget.feature!r}"
    spent = ("an estimated " if verdict.estimated else "") + _plain(_MONEY.quantize(verdict.spent_usd, _SHOWN))
    return BudgetExceeded(
        f"budget {budget.name!r} of {org} for {what} is {_plain(budget.limit_usd)} USD per UTC {budget.period}, and"
        f" {spent} USD are spent; wait for the next {budget.period}, or have its limit_usd raised or its action set to"
        " alert",
        retry_after_s=-(-(verdict.ends_ms - now_ms) // _SECOND_MS),
    )


def _tells_more(spend: Spend, known: Spend, now_ms: int) -> bool:
    """Whether a total is to replace another one of the same sum."""
    if spend.start_ms == known.start_ms:
        # A total of a moment to come was made, or taken, by a clock that was wrong: it must not outlast right ones.
        return spend.as_of_ms >= known.as_of_ms or known.as_of_ms > now_ms
    current_ms = period_of(spend.period, now_ms).start_ms
    return spend.start_ms == current_ms or known.start_ms != current_ms


def _counts_for_more(verdict: Verdict, other: Verdict) -> bool:
    if verdict.decision != other.decision:
        return verdict.decision == "block" or other.decision == "allow"
    return verdict.ends_ms > other.ends_ms


def _plain(usd: Decimal) -> str:
    """An amount in digits, with cents at least."""
    whole, _, cents = format(usd.normalize(_MONEY), "f").partition(".")
    return f"{whole}.{cents:0<2}"


class _Sum:
    """One (organisation, feature or all, period): its latest total, and how many requests passed since.

    Requests are counted by the second. Those of the second in which a total's `as_of` lies stay counted, so that none
    after it is lost: up to a second's requests count twice, until the next total.
    """

    __slots__ = ("_seconds", "passed", "spend")

    def __init__(self) -> None:
        self.spend: Spend | None = None
        self.passed = 0
        """Requests since `as_of` and since the period began; without a total, of as long as one would be fresh."""
        self._seconds: deque[list[int]] = deque()
        """[Unix second, requests], ascending; as many at most as there are seconds in the age that a total may have."""

    def learn(self, spend: Spend, now_ms: int) -> None:
        """Take over a total if it tells more than the known one."""
        if self.spend is not None and not _tells_more(spend, self.spend, now_ms):
            return
        self.spend = spend
        # A total of a new day may be as of a moment before it; yesterday's requests are none of its.
        self._forget_before(max(spend.as_of_ms + 1, spend.start_ms) // _SECOND_MS)

    def count(self, now_ms: int, max_age_ms: int) -> None:
        """One more request passed."""
        seconds, second = self._seconds, now_ms // _SECOND_MS
        self.passed += 1
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += 1
            return
        requests = 1
        # A clock that was set back: what it called later has happened by now.
        while seconds and seconds[-1][0] >= second:
            requests += seconds.pop()[1]
        seconds.append([second, requests])
        # A total from before this is stale, and then they do not count.
        self._forget_before((now_ms - max_age_ms) // _SECOND_MS)

    def tells_nothing(self, now_ms: int, max_age_ms: int) -> bool:
        """Whether it is as if it had never been: no total of this period, no request that a fresh one would lack."""
        spend = self.spend
        if spend is not None and spend.start_ms >= period_of(spend.period, now_ms).start_ms:
            return False
        return not self._seconds or self._seconds[-1][0] < (now_ms - max_age_ms) // _SECOND_MS

    def _forget_before(self, second: int) -> None:
        seconds = self._seconds
        while seconds and seconds[0][0] < second:
            self.passed -= seconds.popleft()[1]
