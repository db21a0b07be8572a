"""The admin API against what Schemathesis makes of its own document: one operation at a time, and one after another.

Checked of every answer: no server error, no status, media type, header or body that the document does not have; what
breaks the document is refused. The same each time; with --full (`make faults`) many times more, and other requests each
time.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import settings

from dashboard.api.openapi import document
from dashboard.api.operations import OPERATIONS
from tests.admin_api import PREFIX, SECRET, AdminApi, admin_apis
from tests.ingestor_process import new_database
from tests.registry_operator import empty

FULL: Final = "--full" in sys.argv
HEADERS: Final = {"Authorization": f"Bearer {SECRET}"}
SCHEMA: Final = schemathesis.openapi.from_dict(document(OPERATIONS))
NOT_CHECKED: Final = {
    # A document cannot say all that a value must be: that names are unique, a URL is https, an amount is not 0.
    "positive_data_acceptance",
    # It tries wrong secrets, and after ten of them the answer is 429: tests/test_admin_api_door.py does it.
    "ignored_auth",
}
# A rule may be named `test`: the path has more methods than the document has where the path is written out.
NOT_CHECKED_OF: Final = {"testRules": {"allow_header_conformance"}}
# A wrong body may be replaced by one of an earlier answer, and still count as wrong.
NOT_CHECKED_IN_TURN: Final = {"negative_data_rejection"}
Seen = defaultdict[str, Counter[int]]
"""How often each operation answered with each status."""
Making = tuple[str, str, str, dict[str, str]]
RULE: Final[Making] = ("rule", "PUT", "/rules/made", {})
KEY: Final[Making] = ("key", "POST", "/keys", {"name": "made"})
MADE_FIRST: Final[dict[str, Making]] = {
    **dict.fromkeys(("changeKey", "rotateKey", "removeKey"), KEY),
    **dict.fromkeys(("switchRule", "removeRule"), RULE),
    "removeBudget": ("budget", "PUT", "/budgets/made", {"limit_usd": "1"}),
    "removeAzure": ("resource", "PUT", "/azure/made", {"endpoint": "https://made.openai.azure.com"}),
}
"""What few requests would hit by its name: the parameter that has it, and how it is made."""


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """What was answered; printed at the end."""
    made: Seen = defaultdict(Counter)
    yield made
    print(*(f"{name}: {sorted(statuses.items())}" for name, statuses in made.items()), sep="\n")


def succeeded(statuses: Counter[int]) -> bool:
    return any(200 <= status < 300 for status in statuses)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that are used again."""
    with requests.Session() as made:
        made.headers.update(HEADERS)
        yield made


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, clickhouse_url: str) -> Iterator[AdminApi]:
    new_database(clickhouse_url)
    directory = tmp_path_factory.mktemp("admin_fuzz")
    with admin_apis(directory, LECTR_CLICKHOUSE_URL=f"{clickhouse_url}/lectr") as made:
        for name in ("acme", "made"):
            made.ok("POST", "/orgs", {"org": name})
        yield made
        assert '"defect"' not in made.process.output


def id_of(case: Any) -> str:
    return str(case.operation.definition.raw["operationId"])


def check(case: Any, response: Any, seen: Seen, *, not_checked: AbstractSet[str] = frozenset()) -> None:
    operation = id_of(case)
    seen[operation][response.status_code] += 1
    names = NOT_CHECKED | NOT_CHECKED_OF.get(operation, set()) | not_checked
    case.validate_response(response, excluded_checks=[schemathesis.checks.CHECKS.get_one(name) for name in names])


@pytest.mark.full_timeout(600)
@SCHEMA.parametrize()
@settings(max_examples=200 if FULL else 5, derandomize=not FULL)
def test_each_operation(case: Any, api: AdminApi, session: requests.Session, seen: Seen) -> None:
    """Whatever is asked of it, the answer is one that the document has; an organisation that can be is there."""
    parts = case.meta.components if case.meta else {}
    if "org" in (case.path_parameters or {}) and all(part.mode.is_positive for part in parts.values()):
        case.path_parameters["org"] = "acme"
        if id_of(case) in MADE_FIRST and not succeeded(seen[id_of(case)]):
            parameter, method, path, body = MADE_FIRST[id_of(case)]
            assert api.ask(method, f"{PREFIX}/orgs/made{path}", body).status in {200, 201, 409}
            case.path_parameters |= {"org": "made", parameter: "made"}
    check(case, case.call(base_url=api.url, session=session), seen)


@pytest.mark.full_timeout(600)
def test_one_after_another(api: AdminApi, session: requests.Session, seen: Seen) -> None:
    """Operations on what earlier ones made: the same holds."""

    class Operators(SCHEMA.as_state_machine()):  # type: ignore[misc] # made at run time
        def setup(self) -> None:
            empty(api.redis_url)  # what an earlier run made would be another answer to the same request

        def call(self, case: Any, **_: Any) -> Any:
            return case.call(base_url=api.url, session=session)

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            check(case, response, seen, not_checked=NOT_CHECKED_IN_TURN)

    examples, steps = (100, 20) if FULL else (8, 10)
    Operators.run(settings=settings(max_examples=examples, stateful_step_count=steps, derandomize=not FULL))


def test_every_operation_did_what_it_is_for(seen: Seen) -> None:
    """By the end of this file each has succeeded at least once: what was refused every time was not tried."""
    assert [one.id for one in OPERATIONS if not succeeded(seen[one.id])] == []
