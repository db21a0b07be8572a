"""Negotiated prices by command: what is set, listed and removed, and what is refused by name."""

from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dashboard import edits
from dashboard.__main__ import main
from shared.organisation import MOST_PRICES, Budget, Org, Price
from shared.registry import RegistryFault, decode_org, encode_org
from tests.registry_operator import Operator, empty

SET = ("price", "set", "acme", "openai", "gpt-4o", "--input-usd", "2", "--output-usd", "8")
LIST = ("price", "list", "acme")


@pytest.fixture
def org(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Org:
    monkeypatch.setenv("LECTR_REDIS_URL", redis_url)
    empty(redis_url)
    operator = Operator(redis_url)
    made, _ = operator.create_org("acme")
    operator.close()
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def rows() -> list[list[str]]:
    done = run(*LIST)
    assert (done.exit_code, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()[1:]]


def test_prices_are_set_listed_and_removed(org: Org) -> None:
    """Dated ones beside one of always; the same model and day once more replaces it."""
    assert run(*SET).stdout == "price of openai/gpt-4o for acme: 2 USD per million input tokens, 8 output, always\n"
    later = run(*SET, "--since", "2126-01-01")
    assert (later.exit_code, later.stderr) == (2, "lectr: since_ms: expected a whole number from 0 to 4102444800000\n")
    dated = run(*SET, "--since", "2026-01-01T12:30", "--cache-read-usd", "0.5", "--cache-write-usd", "1e-7")
    assert dated.stdout.endswith("8 output, since 2026-01-01 12:30 UTC\n")
    assert run(*SET, "--since", "2026-01-01T12:30+00:00", "--cache-read-usd", "0.25").exit_code == 0
    assert run("price", "set", "acme", "anthropic", "claude-*", *SET[-4:]).exit_code == 0
    assert rows() == [
        ["anthropic", "claude-*", "always", "2", "8", "-", "-"],
        ["openai", "gpt-4o", "always", "2", "8", "-", "-"],
        ["openai", "gpt-4o", "2026-01-01", "12:30", "UTC", "2", "8", "0.25", "-"],
    ]
    assert run("price", "remove", "acme", "openai", "gpt-4o", "--since", "2026-01-01T12:30", "--yes").exit_code == 0
    assert len(rows()) == 2
    removed = run("price", "remove", "acme", "openai", "gpt-4o", "--yes")
    assert removed.stdout == "price of openai/gpt-4o for acme is removed\n"
    assert [row[0] for row in rows()] == ["anthropic"]


def test_json_has_amounts_as_text(org: Org) -> None:
    """No program rounds an amount that is text."""
    changed = decode_org(run(*SET, "--json").stdout.replace('"keys"', '"others"'))
    assert changed.prices == (Price(provider="openai", model="gpt-4o", input_usd=Decimal(2), output_usd=Decimal(8)),)
    assert '"input_usd": "2"' in run(*LIST, "--json").stdout
    assert run("price", "remove", "acme", "openai", "gpt-4o", "--json", "--yes").exit_code == 0
    assert run(*LIST, "--json").stdout == "[]\n"


def test_a_price_that_another_one_hides_is_said(org: Org) -> None:
    """A price of always does not replace one from a day on, which goes on to apply."""
    assert run(*SET, "--since", "2020-01-01").stderr == ""
    assert run(*SET).stderr == "lectr: from 2020-01-01 00:00 UTC on another price of openai/gpt-4o applies\n"
    assert run(*SET, "--since", "2021-01-01").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--input-usd", "NaN"), "price of openai/gpt-4o: input_usd NaN is no number"),
        (("--input-usd", "-1"), "price of openai/gpt-4o: input_usd -1 is not within 0 to 1000000000"),
        (("--output-usd", "1e10"), "price of openai/gpt-4o: output_usd 1E+10 is not within 0 to 1000000000"),
        (("--cache-read-usd", "Infinity"), "price of openai/gpt-4o: cache_read_usd Infinity is no number"),
        (("--cache-write-usd", "1e-19"), "price of openai/gpt-4o: cache_write_usd 1E-19 has more than 18 decimals"),
        (("--output-usd", "two"), "--output-usd 'two': give an amount of US dollars"),
        (("--since", "yesterday"), "--since 'yesterday': give a day in UTC, like 2026-01-01"),
        (("--since", "1969-12-31"), "--since '1969-12-31': give a day in UTC"),
    ],
)
def test_what_is_refused(org: Org, arguments: tuple[str, ...], said: str) -> None:
    """One line that names the field and the fix; nothing is stored."""
    done = run(*SET, *arguments)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith(f"lectr: {said}")
    assert rows() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("price", "set", "acme", "elsewhere", "m", *SET[-4:]), "provider 'elsewhere': one of openai, "),
        (("price", "set", "acme", "openai", "gpt*4o", *SET[-4:]), "model 'gpt*4o' has a * before its end"),
        (("price", "set", "acme", "openai", "", *SET[-4:]), "model: expected text of 1 to 1024 characters"),
        (("price", "remove", "acme", "openai", "o3", "--yes"), "org 'acme' has no price of openai/o3; it has: none"),
        (("price", "list", "nobody"), "org 'nobody' does not exist"),
    ],
)
def test_what_there_is_not_is_refused(org: Org, arguments: tuple[str, ...], said: str) -> None:
    """A provider, a model, a price, an organisation that cannot be meant."""
    done = run(*arguments)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"lectr: {said}")


def price(number: int, **more: Any) -> Price:
    fields: dict[str, Any] = {"input_usd": Decimal(1), "output_usd": Decimal(1), **more}
    return Price(provider="openai", model=f"model-{number}", **fields)


def test_a_whole_list_of_prices_is_checked(org: Org) -> None:
    """As each of them alone; and none may be there twice, nor more than a reader takes."""
    assert edits.set_prices([price(1), price(1, since_ms=1), price(2)])(org).prices[2] == price(2)
    with pytest.raises(RegistryFault, match=r"^price of openai/model-1: two of them have since_ms 0; leave one out"):
        edits.set_prices([price(1), price(2), price(1)])
    with pytest.raises(RegistryFault, match=r"^price of openai/model-2: input_usd NaN is no number"):
        edits.set_prices([price(1), price(2, input_usd=Decimal("NaN"))])
    full = edits.set_prices([price(number) for number in range(MOST_PRICES)])(org)
    with pytest.raises(RegistryFault, match="prices: expected a list of at most 1000"):
        edits.put_price(price(MOST_PRICES))(full)


AMOUNTS = ("NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "1000000000.01", "1e999999", "1e-19", "1" + "0" * 5_000)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("field", ["limit_usd", "input_usd", "output_usd", "cache_read_usd", "cache_write_usd"])
def test_a_record_with_an_amount_that_is_none_is_refused(org: Org, field: str, amount: str) -> None:
    """Every reader of a record is spared what no arithmetic is safe with; the fault names where it stands."""
    odd: dict[str, Any] = {field: Decimal(amount)}
    if field == "limit_usd":
        broken = Org(org="acme", version=1, budgets=(Budget(name="b", **odd),))
    else:
        broken = Org(org="acme", version=1, prices=(price(1), price(2, **odd)))
    with pytest.raises(RegistryFault, match=rf"(budget 'b'|price of openai/model-2): {field} \S+ (is|has) ") as refused:
        decode_org(encode_org(broken))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "amount",
    ["0", "1000000000", "0.000000000000000001", "999999999.999999999999999999", "1.50", "1e3", "3.0000000000000000"],
)
def test_amounts_that_are_taken(amount: str) -> None:
    """Up to a thousand million, to the last decimal that is applied exactly, and exactly as they were given."""
    made = Org(org="acme", version=1, prices=(price(1, input_usd=Decimal(amount)),))
    assert str(decode_org(encode_org(made)).prices[0].input_usd) == str(Decimal(amount))


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "1e10"])
def test_a_budget_needs_an_amount_above_zero(org: Org, amount: str) -> None:
    """And one that a record can hold."""
    done = run("budget", "set", "acme", "all", "--limit-usd", amount)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("lectr: budget 'all': limit_usd ")
