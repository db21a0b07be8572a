"""Budgets from what requests cost to what becomes of the next ones: gateway, ingestor, both stores, and back."""

import json
from collections.abc import Iterator
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any, Final, NamedTuple

import pytest

from dashboard import edits
from shared.organisation import Budget
from tests.canaries import provider_key
from tests.ingestor_process import Stores, serving
from tests.lectr import chat
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, running, upstreams_of, wait_until
from tests.registry_operator import Operator, mark_whole

LEAST_USD: Final = Decimal("0.000000001")
"""Less than any priced request costs."""
MONTH_S: Final = 31 * 86_400
ROWS: Final = "SELECT status, cost > 0 AS priced, marks, error_category, error_source FROM lectr.requests WHERE"


class Answered(NamedTuple):
    status: int
    retry_after: str | None
    body: Any


@pytest.fixture
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


def sent(gateway: Gateway, key: str, feature: str, path: str = "/v1/chat/completions") -> Answered:
    fields = {"X-Lectr-Key": key, "X-Lectr-Feature": feature, "Authorization": f"Bearer {provider_key('budget')}"}
    client = HTTPConnection(gateway.url.removeprefix("http://"), timeout=30)
    client.request("POST", path, json.dumps(chat("gpt-4o-mini")).encode(), fields)
    answer = client.getresponse()
    found = Answered(answer.status, answer.getheader("Retry-After"), json.loads(answer.read()))
    client.close()
    return found


def test_what_requests_cost_stops_or_marks_the_next_ones(own: Stores, mock: MockProcess) -> None:
    """One priced request makes both budgets full: `alert` serves on and marks the rows, `block` refuses and says why.

    What is refused never reaches a provider and is a row too; features without a budget go on as they were.
    """
    mark_whole(own.redis_url)
    operator = Operator(own.redis_url)
    _, key = operator.create_org("acme")
    for feature, action in (("watched", "alert"), ("capped", "block")):
        made = Budget(name=feature, feature=feature, limit_usd=LEAST_USD, action=action)  # type: ignore[arg-type]
        operator.edit("acme", edits.put_budget(made), "set budget")
    operator.close()
    gateway = Gateway(own.directory / "gateway", own.redis_url, upstreams_of(mock.url), LECTR_FLUSH_INTERVAL_MS="20")
    with running(gateway), serving(own.eager()):
        gateway.wait()
        for feature in ("watched", "capped"):
            assert sent(gateway, key, feature).status == 200
        wait_until(lambda: sent(gateway, key, "capped").status == 429)
        reached = len(mock.requests())
        refused = sent(gateway, key, "capped")
        of_anthropic = sent(gateway, key, "capped", "/v1/messages")
        assert len(mock.requests()) == reached
        assert sent(gateway, key, "other").status == 200

        def marked() -> list[dict[str, Any]]:
            assert sent(gateway, key, "watched").status == 200
            return own.select(f"{ROWS} feature = 'watched' AND has(marks, 'over_budget')")

        for row in wait_until(marked):
            assert row == {
                "status": 200,
                "priced": 1,
                "marks": ["over_budget"],
                "error_category": "",
                "error_source": "",
            }
        blocked = wait_until(lambda: own.select(f"{ROWS} feature = 'capped' AND status = 429"))
        rest = own.select(f"{ROWS} feature IN ('capped', 'other') AND has(marks, 'over_budget')")
    assert of_anthropic.body["type"] == "error"
    assert of_anthropic.body["error"]["type"] == refused.body["error"]["type"] == "rate_limit_error"
    for answer in (refused, of_anthropic):
        assert answer.body["error"]["code"] == "budget_exceeded"
        assert "budget 'capped' of acme for feature 'capped'" in answer.body["error"]["message"]
        assert answer.retry_after is not None
        assert 0 < int(answer.retry_after) <= MONTH_S
    assert {(row["error_category"], row["error_source"], row["priced"]) for row in blocked} == {("quota", "client", 0)}
    assert rest == []
