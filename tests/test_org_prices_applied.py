"""Negotiated prices in a running ingestor: the row says what they make of a request, and never the list's price."""

from collections.abc import Iterator

import pytest

from shared.event import Usage
from shared.registry import COMPLETE_KEY, ORGS_KEY
from tests.ingestor_process import TS_MS, Stores, event, metric, serving, stores_in
from tests.parts import admin, wait_until
from tests.registry_operator import mark_whole

USAGE = Usage(input_uncached_tokens=1_000_000, output_text_tokens=1_000_000)
ROW = "SELECT toString(cost) AS cost, cost_source, price_id, price_version, unpriced_reason FROM lectr.requests"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, clickhouse_url: str) -> Iterator[Stores]:
    with stores_in(tmp_path_factory.mktemp("org-prices"), clickhouse_url) as made:
        yield made


def row(stores: Stores, source: int, org: str) -> dict[str, str]:
    """The one row of an event of its own."""
    stores.pusher.push(source, [event(org=org, usage=USAGE, ts_ms=TS_MS)])
    found: list[dict[str, str]] = wait_until(lambda: stores.select(f"{ROW} WHERE gateway_boot = {source}"))
    assert len(found) == 1
    return found[0]


def test_a_price_set_by_command_is_on_the_next_row(shared: Stores) -> None:
    """Set, dated and removed while the ingestor runs; the record's version leads to who set it."""
    url = shared.redis_url
    mark_whole(url)
    admin(url, "org", "create", "acme")
    with serving(shared.eager()) as ingestor:
        assert row(shared, 1, "acme")["cost_source"] == "list_price"
        command = ("price", "set", "acme", "openai", "gpt-4o-mini", "--output-usd", "0.5")
        admin(url, *command, "--input-usd", "4", "--since", "2026-11-19")
        changed = admin(url, *command, "--input-usd", "3", "--since", "2026-11-18")
        found = row(shared, 2, "acme")
        assert found == {
            "cost": "3.5",
            "cost_source": "org_price",
            "price_id": "openai/gpt-4o-mini",
            "price_version": f"registry {changed['version']}",
            "unpriced_reason": "",
        }
        where = f"WHERE org = 'acme' AND version = {found['price_version'].split()[1]}"
        [change] = wait_until(lambda: shared.select(f"SELECT action FROM lectr.registry_changes {where}"))
        assert change["action"] == "set price of openai/gpt-4o-mini"
        admin(url, "price", "remove", "acme", "openai", "gpt-4o-mini")
        assert row(shared, 3, "acme")["cost_source"] == "list_price"
        shared.pusher.client.hset(ORGS_KEY, "broken", b"nonsense")
        shared.pusher.client.set(COMPLETE_KEY, "another")
        assert row(shared, 4, "broken")["unpriced_reason"] == "org_prices_unknown"
        assert metric(ingestor, "lectr_ingestor_registry_bad_records_total") >= 1
        wait_until(lambda: metric(ingestor, "lectr_ingestor_events_unpriced_total") == 1)
