"""The BI views, read over HTTP with clickhouse-connect: their figures are those of the test's own arithmetic."""

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from deploy.local.providers.tokens import count_tokens
from tests.canaries import provider_key
from tests.lectr import Lectr, chat
from tests.parts import admin, fetch, wait_until

ORG = "bi-views"
PER_TOKEN = {
    "gpt-4o-mini": (Decimal("0.15") / 1_000_000, Decimal("0.60") / 1_000_000),
    "gpt-4o": (Decimal("2.50") / 1_000_000, Decimal("10.00") / 1_000_000),
}
"""Published list prices in dollars, written down here and not taken from the library that the product uses."""


class Ask:
    """One request of the test's traffic."""

    def __init__(self, feature: str, model: str, *, words: int = 1, stream: bool = False, status: int = 0) -> None:
        self.feature = feature
        self.body = chat(model, **({"stream": True} if stream else {}))
        self.body["messages"][0]["content"] += " more" * words
        self.status = status
        self.estimated = stream

    @property
    def model(self) -> str:
        model: str = self.body["model"]
        return model


TRAFFIC = [
    *(Ask("alpha", "gpt-4o-mini", words=n) for n in range(1, 8)),
    *(Ask("alpha", "gpt-4o", words=n) for n in (3, 30)),
    Ask("alpha", "gpt-4o", status=429),
    Ask("alpha", "gpt-4o", status=500),
    Ask("alpha", "nobody-knows-this", words=2),
    Ask("alpha", "gpt-4o-mini", stream=True),
    Ask("", "gpt-4o-mini", words=11),
    Ask("", "gpt-4o-mini", stream=True),
    Ask("", "gpt-4o", words=5),
]


@pytest.fixture(scope="module")
def traffic(lectr: Lectr) -> str:
    """Send the traffic once; the organisation it belongs to."""
    made = admin(lectr.redis_url, "org", "create", ORG)
    lectr.mock.reset()
    for ask in TRAFFIC:
        if ask.status:
            lectr.mock.behave(status=ask.status, times=1)

        def answered(ask: Ask = ask) -> bool:
            tag = {"X-Lectr-Feature": ask.feature} if ask.feature else {}
            head = {"X-Lectr-Key": made["key"], "Authorization": f"Bearer {provider_key('views')}", **tag}
            data = json.dumps(ask.body).encode()
            status, _ = fetch(
                f"{lectr.url}/v1/chat/completions", data=data, headers={"Content-Type": "application/json", **head}
            )
            return status == (ask.status or 200)

        wait_until(answered)
    lectr.rows(f"org = '{ORG}'", count=len(TRAFFIC))
    return ORG


@pytest.fixture
def client(lectr: Lectr) -> Iterator[Client]:
    parts = urlsplit(lectr.clickhouse_url)
    client = clickhouse_connect.get_client(host=parts.hostname, port=parts.port, database="lectr")
    yield client
    client.close()


def read(client: Client, query: str) -> list[dict[str, Any]]:
    return list(client.query(query).named_results())


def asked(feature: str) -> list[Ask]:
    return [ask for ask in TRAFFIC if ask.feature == ("" if feature == "untagged" else feature)]


@pytest.mark.parametrize("feature", ["alpha", "untagged"])
def test_feature_cost_daily(client: Client, traffic: str, feature: str) -> None:
    """Requests, errors, cost, unpriced and estimated shares and tokens per day, org and feature."""
    (row,) = read(client, f"SELECT * FROM feature_cost_daily WHERE org = '{traffic}' AND feature = '{feature}'")
    asks = asked(feature)
    exact = [ask for ask in asks if not ask.status and not ask.estimated]
    counts = [count_tokens(ask.body, ask.model) for ask in exact]
    estimates = read(
        client,
        f"SELECT input_tokens, output_tokens, cost, model_requested FROM requests "
        f"WHERE org = '{traffic}' AND feature = '{feature}' AND usage_source = 'estimated'",
    )
    assert len(estimates) == sum(ask.estimated for ask in asks)
    exact_cost = sum(
        (
            count.input_tokens * PER_TOKEN[ask.model][0] + count.output_tokens * PER_TOKEN[ask.model][1]
            for ask, count in zip(exact, counts, strict=True)
            if ask.model in PER_TOKEN
        ),
        Decimal(0),
    )
    estimated_cost = sum(
        (
            e["input_tokens"] * PER_TOKEN[e["model_requested"]][0]
            + e["output_tokens"] * PER_TOKEN[e["model_requested"]][1]
            for e in estimates
        ),
        Decimal(0),
    )
    unknown = sum(ask.model not in PER_TOKEN for ask in asks)
    assert row["requests"] == len(asks)
    assert row["errors"] == sum(bool(ask.status) for ask in asks)
    assert row["cost"] == exact_cost + estimated_cost
    assert row["unpriced_requests"] == unknown
    assert math.isclose(row["unpriced_share"], unknown / len(asks))
    assert row["estimated_requests"] == len(estimates)
    assert math.isclose(row["estimated_share"], len(estimates) / len(asks))
    assert row["input_tokens"] == sum(c.input_tokens for c in counts) + sum(e["input_tokens"] for e in estimates)
    assert row["output_tokens"] == sum(c.output_tokens for c in counts) + sum(e["output_tokens"] for e in estimates)


def quantile(values: list[float], share: float) -> float:
    """Linear between the closest ranks, both ends included."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@pytest.mark.parametrize("feature", ["alpha", "untagged"])
def test_feature_latency_hourly(client: Client, traffic: str, feature: str) -> None:
    """Requests, error rate and latency quantiles per hour, org and feature."""
    where = f"org = '{traffic}' AND feature = '{feature}'"
    for row in read(client, f"SELECT * FROM feature_latency_hourly WHERE {where}"):
        hour = row["hour"].strftime("%Y-%m-%d %H:%M:%S")
        requests = read(client, f"SELECT * FROM requests WHERE {where} AND toStartOfHour(ts) = '{hour}'")
        assert row["requests"] == len(requests)
        errors = sum(request["status"] >= 400 for request in requests)
        assert row["errors"] == errors
        assert math.isclose(row["error_rate"], errors / len(requests))
        latencies = [request["latency_ms"] for request in requests]
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
            assert math.isclose(row[f"latency_{name}_ms"], quantile(latencies, share), rel_tol=1e-5)
        firsts = [r["ttft_ms"] for r in requests if r["streaming"] and r["ttft_ms"] is not None]
        assert row["streams"] == len(firsts)
        if firsts:
            assert math.isclose(row["ttft_p95_ms"], quantile(firsts, 0.95), rel_tol=1e-5)
    total = read(client, f"SELECT sum(requests) AS n FROM feature_latency_hourly WHERE {where}")[0]["n"]
    assert total == len(asked(feature))


@pytest.mark.parametrize("view", ["feature_cost_daily", "feature_latency_hourly"])
def test_views_explain_their_columns(client: Client, view: str) -> None:
    """Every column of a BI view has a comment."""
    columns = read(client, f"SELECT name, comment FROM system.columns WHERE database = 'lectr' AND table = '{view}'")
    assert columns
    assert [column["name"] for column in columns if not column["comment"]] == []
