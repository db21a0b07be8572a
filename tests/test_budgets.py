"""Budgets: nobody is blocked for what is not known, everybody for what is; days and months of UTC."""

import calendar
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest

from gateway.budgets import ALLOWED, Verdict, budget_fault, judge
from shared.organisation import Budget
from shared.spending import Spend, period_of
from tests.budget_site import DAY, DAY_MS, MAX_AGE_MS, MONTH, NOON, ask, budget, known, monthly, ms, spend

FRESH, STALE = NOON - MAX_AGE_MS, NOON - MAX_AGE_MS - 1
PARAMETERS = "total mean as_of_ms start_ms passed expected"


@pytest.mark.parametrize(
    PARAMETERS.split(),
    [
        ("9.99", None, FRESH, DAY, 1000, None),
        ("10", None, FRESH, DAY, 0, "10"),
        ("10", None, STALE, DAY, 0, "10"),
        ("12.5", "1", DAY, DAY, 3, "12.5"),
        ("9", "0.1", FRESH, DAY, 9, None),
        ("9", "0.1", FRESH, DAY, 10, "10.0"),
        ("9", "0.1", STALE, DAY, 10, None),
        ("9", "0.1", NOON + 60_000, DAY, 11, "10.1"),
        ("0", "0", FRESH, DAY, 10**9, None),
        ("99", "1", FRESH, DAY - DAY_MS, 10, None),
        ("99", "1", FRESH, DAY + DAY_MS, 10, None),
        ("9.99999999999999999999999999999", "1E-29", FRESH, DAY, 1, "10"),
        ("9.99999999999999999999999999999", "1E-30", FRESH, DAY, 1, None),
    ],
    ids=[
        "below",
        "reached",
        "reached, stale",
        "over since midnight",
        "estimated below",
        "estimated reached",
        "estimated, stale",
        "as of later than now",
        "free requests",
        "yesterday's",
        "tomorrow's",
        "to the last digit",
        "short of the last digit",
    ],
)
def test_one_budget(
    total: str, mean: str | None, as_of_ms: int, start_ms: int, passed: int, expected: str | None
) -> None:
    """A limit is reached by a total of this period however old, or by a fresh one and the requests since."""
    found = judge(
        budget(),
        spend(total, mean=mean, as_of_ms=as_of_ms, start_ms=start_ms),
        passed,
        NOON,
        max_age_ms=MAX_AGE_MS,
    )
    if expected is None:
        assert found is ALLOWED
    else:
        estimated = Decimal(expected) != Decimal(total)
        assert found == Verdict("block", budget(), Decimal(expected), estimated, DAY + DAY_MS)


def test_what_is_not_known_is_served() -> None:
    """Without a total, without budgets, or with another organisation's total, requests pass."""
    assert judge(budget(), None, 10**9, NOON, max_age_ms=MAX_AGE_MS) is ALLOWED
    assert ask(known()) is ALLOWED
    assert ask(known(spend("99", org="other")), budget()) is ALLOWED
    assert ask(known(spend("99", feature="chat")), budget()) is ALLOWED
    assert ask(known(spend("99", period="month", start_ms=MONTH)), budget()) is ALLOWED
    assert ask(known(spend("99")), budget(usd="NaN"), budget(usd="sNaN"), budget(usd="Infinity")) is ALLOWED


@pytest.mark.parametrize(
    ("set_", "decision", "name"),
    [
        ([budget("low", "5", action="alert")], "alert", "low"),
        ([budget("alerts", "5", action="alert"), budget("blocks", "8")], "block", "blocks"),
        ([budget("blocks", "8"), monthly("alerts", action="alert")], "block", "blocks"),
        ([budget("first", "8"), budget("second", "7")], "block", "first"),
        ([budget("day"), monthly("month"), budget("again")], "block", "month"),
        ([budget("day", action="alert"), monthly("month", action="alert")], "alert", "month"),
        ([budget("of chat", "2", feature="chat"), budget("of all", "100")], "block", "of chat"),
        ([budget("of chat", "5", feature="chat"), budget("of all", "9")], "block", "of all"),
        ([budget("of search", "0.5", feature="search")], "allow", None),
        ([budget("of star", "0.5", feature="*")], "allow", None),
        ([budget("high", "11"), monthly("higher", usd="101")], "allow", None),
    ],
)
def test_several_budgets(set_: list[Budget], decision: str, name: str | None) -> None:
    """Budgets of all and of the feature apply; block counts for more than alert, then the period that ends last."""
    budgets = known(
        spend("10"),
        spend("100", period="month", start_ms=MONTH),
        spend("3", feature="chat"),
        spend("3", feature="search"),
    )
    found = ask(budgets, *set_)
    assert (found.decision, found.budget and found.budget.name) == (decision, name)


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        ("2026-11-27T12:34:56.789", ("2026-11-27", "2026-11-28"), ("2026-11-01", "2026-12-01")),
        ("2026-12-31T23:59:59.999", ("2026-12-31", "2027-01-01"), ("2026-12-01", "2027-01-01")),
        ("2027-01-01T00:00", ("2027-01-01", "2027-01-02"), ("2027-01-01", "2027-02-01")),
        ("2027-02-28T23:59:59.999", ("2027-02-28", "2027-03-01"), ("2027-02-01", "2027-03-01")),
        ("2028-02-29T00:00", ("2028-02-29", "2028-03-01"), ("2028-02-01", "2028-03-01")),
        ("2028-02-28T23:59:59.999", ("2028-02-28", "2028-02-29"), ("2028-02-01", "2028-03-01")),
        ("2100-02-28T12:00", ("2100-02-28", "2100-03-01"), ("2100-02-01", "2100-03-01")),
        ("2000-02-29T12:00", ("2000-02-29", "2000-03-01"), ("2000-02-01", "2000-03-01")),
        ("1970-01-01T00:00", ("1970-01-01", "1970-01-02"), ("1970-01-01", "1970-02-01")),
    ],
)
def test_periods(moment: str, day: tuple[str, str], month: tuple[str, str]) -> None:
    """Days and months of UTC begin and end at midnight, in months of any length and leap years."""
    assert period_of("day", ms(moment)) == tuple(map(ms, day))
    assert period_of("month", ms(moment)) == tuple(map(ms, month))


def test_months_follow_each_other() -> None:
    """Over four centuries, each month begins where the one before ended, on the first, and has the calendar's days."""
    months = []
    moment = ms("1999-12-31T23:59:59.999")
    while moment < ms("2401-01-01"):
        months.append(period_of("month", moment))
        moment = months[-1].end_ms
    for before, after in pairwise(months):
        first = datetime.fromtimestamp(after.start_ms / 1000, UTC)
        assert before.end_ms == after.start_ms
        assert (after.end_ms - after.start_ms) // DAY_MS == calendar.monthrange(first.year, first.month)[1]
        assert first.day == 1
        assert period_of("month", after.end_ms - 1) == after


def test_a_budget_begins_anew_with_its_period() -> None:
    """Blocked up to the last ms, and told until when; the next period is served, without the old one's requests."""
    end = DAY + DAY_MS
    budgets = known(spend("9", mean="1", as_of_ms=end - 10_000))
    set_ = budget()
    assert ask(budgets, set_, now_ms=end - 2_000) is ALLOWED
    blocked = ask(budgets, set_, now_ms=end - 1_001)
    assert blocked.decision == "block"
    assert budget_fault("acme", blocked, end - 1_001).retry_after_s == 2
    assert budget_fault("acme", blocked, end - 1_000).retry_after_s == 1
    assert budget_fault("acme", blocked, end - 1).retry_after_s == 1
    assert ask(budgets, set_, now_ms=end - 1).decision == "block"
    assert ask(budgets, set_, now_ms=end) is ALLOWED
    # The new day's first total is as of a moment before it: yesterday's requests are none of its.
    budgets.learn(spend("0", mean="1", start_ms=end, as_of_ms=end - 3_000), end + 500)
    assert [ask(budgets, set_, now_ms=end + 600).decision for _ in range(10)] == ["allow"] * 9 + ["block"]


def test_month_and_day_end_apart() -> None:
    """At midnight inside a month the day's budget begins anew and the month's does not."""
    budgets = known(spend("10"), spend("10", period="month", start_ms=MONTH))
    day, month = budget("day"), budget("month", period="month")
    assert ask(budgets, day, month).budget == month
    assert ask(budgets, day).budget == day
    later = DAY + DAY_MS
    assert ask(budgets, day, now_ms=later) is ALLOWED
    blocked = ask(budgets, day, month, now_ms=later)
    assert blocked.budget == month
    assert budget_fault("acme", blocked, later).retry_after_s == 3 * 86_400


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        (["5 today 10", "7 today 20", "6 today 15"], "7"),
        (["5 today 10", "4 today 20"], "4"),
        (["5 today 10", "6 today 10"], "6"),
        (["5 today 10", "99 yesterday 30"], "5"),
        (["99 yesterday 30", "5 today 10"], "5"),
        (["5 today 10", "0 tomorrow 30"], "5"),
        (["0 tomorrow 30", "5 today 10"], "5"),
        (["5 today 5000", "6 today 20"], "6"),
    ],
)
def test_the_latest_total_counts(totals: list[str], expected: str) -> None:
    """The later as_of of the current period counts, even if lower; a total of a moment to come gives way to any."""
    starts = {"yesterday": DAY - DAY_MS, "today": DAY, "tomorrow": DAY + DAY_MS}
    now_ms = NOON + 60_000
    parts = [total.split() for total in totals]
    budgets = known(
        *(spend(usd, start_ms=starts[day], as_of_ms=NOON + int(second) * 1000) for usd, day, second in parts),
        now_ms=now_ms,
    )
    assert ask(budgets, budget(usd="0.01"), now_ms=now_ms).spent_usd == Decimal(expected)


def test_a_refusal_names_the_budget_its_limit_and_the_fix() -> None:
    """Who reads the error knows which budget, how much, whether it is an estimate, and what to do."""
    found = ask(known(spend("1E+3")), budget("daily", "999.5"))
    assert budget_fault("acme", found, NOON).message == (
        "budget 'daily' of acme for all features is 999.50 USD per UTC day, and 1000.00 USD are spent;"
        " wait for the next day, or have its limit_usd raised or its action set to alert"
    )
    third = spend("10", mean="0.3333333333333333333333333333", feature="chat", period="month", start_ms=MONTH)
    budgets = known(third)
    monthly_chat = monthly("chat", usd="10.001", feature="chat")
    assert ask(budgets, monthly_chat) is ALLOWED
    fault = budget_fault("acme", ask(budgets, monthly_chat), NOON)
    assert "for feature 'chat' is 10.001 USD per UTC month, and an estimated 10.333333 USD are spent" in fault.message
    assert fault.retry_after_s == (ms("2026-12-01") - NOON) // 1000
    with pytest.raises(ValueError, match="no budget is over"):
        budget_fault("acme", ALLOWED, NOON)


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "1E+18", "1E+999999"])
@pytest.mark.parametrize("field", ["total_usd", "mean_usd"])
def test_what_is_no_money_is_no_total(field: str, amount: str) -> None:
    """A total that cannot be compared or added is refused where it is read, and so never on a request's way."""
    document = {"org": "acme", "period": "day", "start_ms": DAY, "as_of_ms": NOON, "total_usd": "1", "mean_usd": "1"}
    assert msgspec.json.decode(msgspec.json.encode(document), type=Spend).total_usd == 1
    with pytest.raises(msgspec.ValidationError, match="are amounts from 0"):
        msgspec.json.decode(msgspec.json.encode({**document, field: amount}), type=Spend)


def test_money_is_never_a_float() -> None:
    """Ten dimes are a dollar, however many requests there are."""
    budgets = known(spend("0", mean="0.1"))
    decisions = [ask(budgets, budget(usd="100")).decision for _ in range(1_001)]
    assert decisions == ["allow"] * 1_000 + ["block"]
    assert ask(budgets, budget(usd="100")).spent_usd == Decimal("100.0")
