"""Changes through the admin HTTP API that are made only if the organisation is as it was read."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from dashboard import edits
from dashboard.api.operation import Operation
from shared.organisation import Azure, Budget, Org, Rule
from tests.admin_api import AdminApi, admin_apis
from tests.admin_api_cases import CLOSED, CONDITIONAL, ask, by_id
from tests.registry_operator import Operator


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminApi]:
    with admin_apis(tmp_path_factory.mktemp("admin_versions")) as made:
        operator = made.operator()
        operator.create_org("acme")
        operator.close()
        yield made


@pytest.fixture
def operator(api: AdminApi) -> Iterator[Operator]:
    made = api.operator()
    yield made
    made.close()


@pytest.mark.parametrize("one", CONDITIONAL, ids=by_id)
def test_a_change_of_what_was_changed_meanwhile(api: AdminApi, operator: Operator, one: Operation) -> None:
    """412 for every version but the organisation's own, and nothing is changed."""
    before = operator.org("acme")
    for tag in (f'"{before.version - 1}"', f'"{before.version + 1}"', '"0"', '""', f'W/"{before.version}"', '"1", "2"'):
        assert ask(api, one, If_Match=tag).told == (412, "version_conflict", None), tag
    assert operator.org("acme") == before


@pytest.mark.parametrize("one", CONDITIONAL, ids=by_id)
def test_a_change_of_what_is_as_it_was_read(api: AdminApi, operator: Operator, one: Operation) -> None:
    """Made with the version that was read, with any, and with one of several; the new version is told."""
    for tag in ("{}", "*", '"1", {}'):
        operator.edit("acme", prepared, "prepare")
        version = operator.org("acme").version
        reply = ask(api, one, If_Match=tag.replace("{}", f'"{version}"'))
        assert reply.status == one.status, reply.data
        assert reply.headers["ETag"] == f'"{operator.org("acme").version}"'


def prepared(org: Org) -> Org:
    """An organisation that has what the cases here change."""
    key = edits.named(org.keys, "default", "key", org) if org.keys else None
    keys = (key,) if key else (edits.new_key_record("default", "lc_key_any", 0),)
    return msgspec.structs.replace(
        org,
        keys=keys,
        rules=(Rule(name="r", feature="prepared"),),
        budgets=(Budget(name="b", limit_usd=Decimal(5)),),
        azure=(Azure(endpoint="https://prepared.openai.azure.com"),),
    )


@pytest.mark.parametrize("tag", ["", "1", "**", '"', '"a', "*, *", '"1",', "W/", '"1" "2"'])
def test_a_version_that_is_none(api: AdminApi, tag: str) -> None:
    """400 for what is no tag, and nothing is changed."""
    told = api.refused("PATCH", "/orgs/acme", {"enabled": True}, If_Match=tag)
    assert told == (400, "invalid_request", "If-Match")


READS = [one for one in CLOSED if one.has_version and not one.changes and one.load != "clickhouse"]
"""Those that this API can answer, without ClickHouse."""


@pytest.mark.parametrize("one", READS, ids=by_id)
def test_reading_tells_the_version(api: AdminApi, operator: Operator, one: Operation) -> None:
    """Every answer about one organisation has its version."""
    assert ask(api, one).headers["ETag"] == f'"{operator.org("acme").version}"'
