"""Requests since a total: counted once for each sum, taken out by the next total, and never more than are needed."""

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets import ALLOWED, Budgets, OrgBudgets, judge
from shared.organisation import MOST_BUDGETS
from shared.spending import Spend, period_of
from tests.budget_site import DAY, DAY_MS, MAX_AGE_MS, NOON, ask, budget, known, monthly, spend


def test_requests_since_the_total_count() -> None:
    """Each request that passes adds the mean; the one that would begin at the limit is blocked and adds nothing."""
    budgets = known(spend("9", mean="0.25"))
    decisions = [ask(budgets, budget()).decision for _ in range(7)]
    assert decisions == ["allow"] * 4 + ["block"] * 3
    budgets.learn(spend("9.5", mean="0.25", as_of_ms=NOON - 5_000), NOON)
    assert ask(budgets, budget()).spent_usd == Decimal("10.5")


def test_a_request_counts_once_for_each_sum() -> None:
    """Several budgets over the same sum count a request once; other features' requests count for all, not for one."""
    budgets = known(spend("0", mean="1"), spend("0", mean="1", feature="chat"))
    set_ = (budget("a", action="alert"), budget("b", "11"), budget("c", "6", feature="chat"))
    for feature in ("chat", "search") * 5:
        assert ask(budgets, *set_, feature=feature).decision == "allow"
    found = ask(budgets, *set_, feature="search")
    assert (found.decision, found.spent_usd, found.estimated) == ("alert", Decimal(10), True)
    assert ask(budgets, *set_, feature="search")[:3] == ("block", set_[1], Decimal(11))
    assert ask(budgets, budget("c", "5", feature="chat"))[2] == Decimal(5)


def test_requests_after_as_of_stay() -> None:
    """A newer total takes out what it has: the seconds up to its as_of, not the second in which it lies."""
    budgets = known(spend("0", mean="1", as_of_ms=NOON - 60_000))
    for second in range(10):
        for part in (0, 500):
            ask(budgets, budget(usd="1000"), now_ms=NOON + second * 1000 + part)
    later = NOON + 10_000
    for as_of_ms, left in ((NOON - 1, 20), (NOON, 20), (NOON + 998, 20), (NOON + 999, 18), (NOON + 4_500, 12)):
        budgets.learn(spend("0", mean="1", as_of_ms=as_of_ms), later)
        assert judge_all(budgets, later) == left
    budgets.learn(spend("0", mean="1", as_of_ms=NOON + 3_000), later)
    assert judge_all(budgets, later) == 12, "an older total changes nothing"


def judge_all(budgets: Budgets, now_ms: int) -> int:
    """How many requests are counted since the day's total, read through a budget of nothing, which blocks."""
    found = budgets._kept["acme", None, "day"]
    assert judge(budget(usd="1E-9"), found.spend, found.passed, now_ms, max_age_ms=MAX_AGE_MS).spent_usd == found.passed
    return found.passed


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 2_500)),
            st.tuples(st.just("ask"), st.sampled_from([0, 1, 999, 1000, 20_000])),
            st.tuples(st.just("learn"), st.integers(0, 40_000)),
        ),
        max_size=80,
    ),
    st.integers(1, 9),
)
def test_the_estimate_is_its_definition(steps: list[tuple[str, int]], limit: int) -> None:
    """Over any asks and totals around midnight: blocked exactly if total and requests since reach the limit."""
    max_age_ms, now_ms = 15_000, DAY - 30_000
    budgets, set_ = Budgets(max_age_ms=max_age_ms), budget(usd=str(limit))
    passed: list[int] = []
    latest: Spend | None = None
    for what, number in steps:
        start_ms = period_of("day", now_ms).start_ms
        if what == "learn":
            as_of_ms = now_ms - number
            made = spend(str(number % 3), mean="1", start_ms=start_ms, as_of_ms=as_of_ms)
            budgets.learn(made, now_ms)
            if latest is None or (start_ms, as_of_ms) >= (latest.start_ms, latest.as_of_ms):
                latest = made
            continue
        now_ms += number
        start_ms = period_of("day", now_ms).start_ms
        total = since = 0
        if latest is not None and latest.start_ms == start_ms:
            total = int(latest.total_usd)
            if now_ms - latest.as_of_ms <= max_age_ms:
                first = max(latest.as_of_ms + 1, start_ms) // 1000
                since = sum(moment // 1000 >= first for moment in passed)
        blocked = latest is not None and latest.start_ms == start_ms and total + since >= limit
        assert (ask(budgets, set_, now_ms=now_ms).decision == "block") == blocked
        if not blocked:
            passed.append(now_ms)


@pytest.mark.parametrize("jumps_ms", [[0, -3_600_000], [0, 3_600_000, 0], [0, -1, -2_000, 500]])
def test_a_clock_that_jumps_blocks_nobody_for_long(jumps_ms: list[int]) -> None:
    """Requests counted by a clock that was set back are taken out by the next total, as of the clock's now."""
    budgets = known(spend("0", mean="1"))
    now_ms = NOON
    for jump_ms in jumps_ms:
        now_ms = NOON + jump_ms
        for _ in range(5):
            assert ask(budgets, budget(usd="100"), now_ms=now_ms) is ALLOWED
    budgets.learn(spend("0", mean="1", as_of_ms=now_ms + 1_000), now_ms + 2_000)
    assert judge_all(budgets, now_ms + 2_000) == 0


def test_a_flood_of_features_is_not_counted() -> None:
    """Features without a budget of their own leave nothing behind, nor do organisations without budgets."""
    budgets = Budgets(max_age_ms=MAX_AGE_MS)
    for number in range(10_000):
        ask(budgets, feature=f"feature {number}")
    assert len(budgets) == 0
    for number in range(10_000):
        ask(budgets, budget(), monthly("m"), budget("c", feature="chat"), feature=f"feature {number}")
    assert len(budgets) == 2


def test_seconds_are_bounded() -> None:
    """A day of requests at every second keeps as many seconds as a total may be old, and counts no more."""
    budgets = Budgets(max_age_ms=60_000)
    for second in range(5_000):
        ask(budgets, budget(), now_ms=DAY + second * 1000)
    sum_ = budgets._kept["acme", None, "day"]
    assert len(sum_._seconds) == sum_.passed == 61


def many(numbers: Iterable[int]) -> OrgBudgets:
    return OrgBudgets("acme", (budget(feature=f"feature {number}") for number in numbers))


def test_what_is_over_is_forgotten() -> None:
    """Budgets that come and go leave those of the last minutes and of this period's totals, not all there ever were."""
    budgets, now_ms = Budgets(max_age_ms=60_000), DAY
    for number in range(20_000):
        now_ms = DAY + number * 1000
        budgets.decide(many([number]), f"feature {number}", now_ms)
        assert len(budgets) <= 2 * 61 + 2
    for number in range(1_000):
        budgets.learn(spend("1", feature=f"old {number}"), now_ms)
    assert len(budgets) >= 1_000
    for number in range(2_000):
        budgets.decide(many([number]), f"feature {number}", DAY + DAY_MS + number * 1000)
    assert len(budgets) <= 2 * 61 + 2


def test_what_is_kept_has_a_bound() -> None:
    """However many totals come, no more than the bound are kept; a forgotten one is unknown and its requests pass."""
    budgets = Budgets(max_age_ms=MAX_AGE_MS, most=50)
    for number in range(1_000):
        budgets.learn(spend("99", feature=f"feature {number}"), NOON)
        assert len(budgets) <= 50
    assert budgets.decide(many([999]), "feature 999", NOON).decision == "block"
    assert budgets.decide(many([0]), "feature 0", NOON) is ALLOWED


def test_the_first_request_counts_for_every_budget() -> None:
    """What passes before any total is known counts once a total of an earlier moment comes."""
    budgets = known()
    set_ = (budget("all", "2"), monthly("all, monthly", usd="2"), budget("chat", "2", feature="chat"))
    assert ask(budgets, *set_) is ALLOWED
    assert [(name, sum_.passed) for name, sum_ in budgets._kept.items()] == [
        (("acme", None, "day"), 1),
        (("acme", None, "month"), 1),
        (("acme", "chat", "day"), 1),
    ]
    budgets.learn(spend("1", mean="1", feature="chat"), NOON)
    assert ask(budgets, *set_).spent_usd == 2


def test_requests_wait_for_their_first_total() -> None:
    """Requests that no total has yet are remembered for as long as one would be fresh, whatever else comes."""
    budgets = Budgets(max_age_ms=10_000)
    for number in range(9):
        assert budgets.decide(many([number]), f"feature {number}", NOON + number * 1_000) is ALLOWED
    budgets.learn(spend("9", mean="1", feature="feature 0", as_of_ms=NOON - 1), NOON + 9_000)
    assert budgets.decide(many([0]), "feature 0", NOON + 9_000).spent_usd == 10


def test_very_many_budgets_are_found_by_their_feature() -> None:
    """As many budgets as an organisation may have are each found for their feature, behind those of all."""
    set_ = OrgBudgets("acme", [*(budget(feature=f"feature {number}") for number in range(MOST_BUDGETS)), budget("all")])
    for number in range(MOST_BUDGETS):
        names = [name for name, _ in set_.applying_to(f"feature {number}")]
        assert names == [("acme", None, "day"), ("acme", f"feature {number}", "day")]


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 6), st.booleans()), max_size=80))
def test_what_is_forgotten_is_not_missed(steps: list[tuple[int, int, bool]]) -> None:
    """Every verdict is that of budgets that are never forgotten, in whatever order features come and go."""
    shared, alone, now_ms = Budgets(max_age_ms=10_000), [Budgets(max_age_ms=10_000) for _ in range(7)], DAY - 600_000
    for step_ms, number, learns in steps:
        now_ms += step_ms
        feature = f"feature {number}"
        for budgets in (shared, alone[number]):
            if learns:
                start_ms = period_of("day", now_ms).start_ms
                made = spend("8", mean="1", feature=feature, start_ms=start_ms, as_of_ms=now_ms - 5_000)
                budgets.learn(made, now_ms)
        verdicts = {budgets.decide(many(range(7)), feature, now_ms) for budgets in (shared, alone[number])}
        assert len(verdicts) == 1
