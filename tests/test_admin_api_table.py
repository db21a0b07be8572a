"""The admin API's table of operations, its faults and bodies: one says what the other does, and none lags behind."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from dashboard import registry as registries
from dashboard.api import answer_bodies as answers
from dashboard.api import declaration_bodies as declarations
from dashboard.api import faults
from dashboard.api import request_bodies as bodies
from dashboard.api.faults import FAULTS, Fault, error_body, error_headers
from dashboard.api.handlers import HANDLERS
from dashboard.api.openapi import document
from dashboard.api.operation import Operation
from dashboard.api.operations import OPERATIONS, PREFIX
from dashboard.api.probes import Probes
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.translation import fault_of
from dashboard.clickhouse import ClickHouseFault, ClickHouseRefused, ClickHouseUnavailable
from dashboard.declared.faults import DeclarationFault
from dashboard.declared.records import document_of
from shared import organisation as stored
from shared.environment import SecretUrl
from shared.registry import RegistryFault
from tests.declared_orgs import ACME

DOCUMENT = document(OPERATIONS)
EXPECTED_FAULTS = {
    "invalid_request": 400,
    "invalid_json": 400,
    "missing_admin_secret": 401,
    "invalid_admin_secret": 401,
    "registry_read_only": 403,
    "unknown_path": 404,
    "org_not_found": 404,
    "record_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "org_exists": 409,
    "record_exists": 409,
    "plan_refused": 409,
    "would_shut_out": 409,
    "apply_conflict": 409,
    "version_conflict": 412,
    "request_too_large": 413,
    "unsupported_media_type": 415,
    "invalid_value": 422,
    "too_many_failed_attempts": 429,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
    "registry_record_unreadable": 500,
    "registry_unavailable": 503,
    "clickhouse_not_configured": 503,
    "clickhouse_unavailable": 503,
    "apply_stopped": 503,
    "server_busy": 503,
}


def by_name(kind: Any) -> str:
    name: str = kind.__name__
    return name


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


# faults


def test_the_family_is_closed() -> None:
    """Every fault is in the list, with the status that clients were told; a code names one fault."""
    assert set(subclasses(Fault)) == set(FAULTS)
    assert {fault.code: fault.status for fault in FAULTS} == EXPECTED_FAULTS
    assert len({fault.code for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=by_name)
def test_one_form_of_errors(fault: type[Fault]) -> None:
    """Message, type, code and field, whatever stands in the message; a type says whose the fault is."""
    error = json.loads(error_body(fault("what 'é' \x00 and \udcff", field="a.b")))["error"]
    assert error == {"message": "what 'é' \x00 and ?", "type": fault.type, "code": fault.code, "field": "a.b"}
    assert json.loads(error_body(fault("x" * 10_000)))["error"]["field"] is None
    assert len(error_body(fault("x" * 10_000))) < 5_000
    assert (fault.type == "api_error") == (fault.status >= 500)
    assert (fault.type == "rate_limit_error") == (fault.status == 429)
    assert (fault.type == "authentication_error") == (fault.status == 401)
    assert ("WWW-Authenticate" in error_headers(fault("x"))) == (fault.status == 401)
    assert error_headers(fault("x", retry_after_s=0)).get("Retry-After") == "1"


OF_RECORDS = [kind for kind in subclasses(RegistryFault) if kind is not DeclarationFault]
"""A body that declares something is read before: what is wrong with it is a wrong value."""


@pytest.mark.parametrize("kind", [RegistryFault, *OF_RECORDS, registries.RegistryUnavailable], ids=by_name)
def test_every_fault_of_the_registry_has_one_here(kind: type[Any]) -> None:
    """None is a defect, its text is told, and each class but the family's own name has a fault of its own."""
    found = fault_of(kind("what and how to fix it"))
    assert "what and how to fix it" in found.message
    assert (type(found) is faults.InvalidValue) == (kind is RegistryFault)


@pytest.mark.parametrize("kind", [ClickHouseFault, *subclasses(ClickHouseFault)], ids=by_name)
def test_every_fault_of_clickhouse_is_one_here(kind: type[Any]) -> None:
    """Its text is told; when to ask again only where time may mend it, as it does not mend a refusal."""
    found = fault_of(kind("what and how to fix it", *([164] if issubclass(kind, ClickHouseRefused) else [])))
    assert isinstance(found, faults.ClickHouseUnavailable)
    assert found.message == "what and how to fix it"
    assert (found.retry_after_s is not None) == (kind is ClickHouseUnavailable)


# operations


def test_each_operation_is_done_by_something() -> None:
    """Every id is one operation's, and has a handler, or a probe where it is open; there is no other one."""
    ids = [one.id for one in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert len({(one.method, one.path) for one in OPERATIONS}) == len(OPERATIONS)
    assert set(HANDLERS) == {one.id for one in OPERATIONS if not one.is_open}
    probes = Probes(RegistryCalls(SecretUrl("redis://127.0.0.1:1"), actor="test"), None)
    assert set(probes.handlings) == {one.id for one in OPERATIONS if one.is_open}


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.id)
def test_what_follows_from_a_line_of_the_table(one: Operation) -> None:
    """What needs the secret is below the prefix, and says so; only changes heed versions and can be forbidden."""
    assert one.is_open != one.path.startswith(PREFIX)
    assert (faults.MissingAdminSecret in one.faults) == (not one.is_open)
    assert (faults.RegistryReadOnly in one.faults) == one.changes
    assert (faults.VersionConflict in one.faults) == one.is_conditional
    assert (faults.InvalidJson in one.faults) == (one.body is not None)
    assert (faults.ClickHouseUnavailable in one.faults) == (one.load == "clickhouse")
    assert len(set(one.faults)) == len(one.faults)
    assert one.changes == (
        one.method in {"POST", "PUT", "PATCH", "DELETE"} and one.id not in {"testRules", "planRegistry"}
    )
    assert (one.status == 204) == (one.answer is None)


# document


def test_the_document_has_every_operation() -> None:
    """Each with its id, its statuses and codes, and whether it needs the secret."""
    found = {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert set(found) == {(one.method, one.path) for one in OPERATIONS}
    for one in OPERATIONS:
        operation = found[one.method, one.path]
        assert operation["operationId"] == one.id
        assert (operation.get("security") == []) == one.is_open
        assert set(operation["responses"]) == {str(one.status), *(str(fault.status) for fault in one.faults)}
        for fault in one.faults:
            assert f"`{fault.code}`" in operation["responses"][str(fault.status)]["description"]


def test_the_document_stands_alone() -> None:
    """Every reference leads somewhere, every schema is used, and patterns are of the kind that every tool reads."""
    text = json.dumps(DOCUMENT)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named <= set(DOCUMENT["components"]["schemas"])
    assert set(DOCUMENT["components"]["schemas"]) - named <= {one.query.__name__ for one in OPERATIONS if one.query}
    assert "(?" not in "".join(re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', text))
    assert DOCUMENT["components"]["schemas"]["ErrorDetail"]["properties"]["code"]["enum"] == sorted(EXPECTED_FAULTS)


def test_hashes_have_one_place() -> None:
    """A key that is declared: it stands in what is exported, planned and applied, and nowhere else."""
    schemas = dict(DOCUMENT["components"]["schemas"])
    assert "sha256" in schemas.pop("DeclaredKey")["properties"]
    assert "hash" not in json.dumps(schemas)
    assert "sha256" not in json.dumps({**DOCUMENT, "components": schemas})

    def users(name: str) -> set[str]:
        return {one for one, schema in schemas.items() if f'/{name}"' in json.dumps(schema)}

    assert (users("DeclaredKey"), users("DeclaredOrg"), users("Declaration")) == (
        {"DeclaredOrg"},
        {"Declaration"},
        set(),
    )
    paths = {path for path, methods in DOCUMENT["paths"].items() if '/Declaration"' in json.dumps(methods)}
    assert paths == {f"{PREFIX}/{name}" for name in ("export", "plan", "apply")}


# bodies

OTHER_TYPES = {"target", "failover", "endpoint", "api_version"}
NESTED = {answers.Org, answers.Key, declarations.DeclaredKey}
"""Whose fields are of types of their own."""


@pytest.mark.parametrize(
    ("kind", "record", "without"),
    [
        (answers.Org, stored.Org, set()),
        (answers.Key, stored.Key, {"sha256"}),
        (answers.Azure, stored.Azure, set()),
        (answers.Budget, stored.Budget, set()),
        (answers.Price, stored.Price, set()),
        (bodies.Rule, stored.Rule, set()),
        (bodies.Target, stored.Target, set()),
        (bodies.Limits, stored.Limits, set()),
        (bodies.RulePut, stored.Rule, set()),
        (bodies.BudgetPut, stored.Budget, set()),
        (bodies.PricePut, stored.Price, set()),
        (bodies.AzurePut, stored.Azure, set()),
        (declarations.DeclaredKey, stored.Key, set()),
        (declarations.DeclaredBudget, stored.Budget, set()),
        (declarations.DeclaredPrice, stored.Price, set()),
        (declarations.DeclaredAzure, stored.Azure, set()),
    ],
)
def test_bodies_have_every_field_of_the_records(kind: Any, record: Any, without: set[str]) -> None:
    """A field that a record gets is in the API too, with the same bounds and default."""
    assert set(kind.__struct_fields__) == set(record.__struct_fields__) - without
    ours = {field.name: field.default for field in msgspec.structs.fields(kind)}
    theirs = {field.name: field.default for field in msgspec.structs.fields(record)}
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    # What is left out of this one is as it was.
    kept = {"recommended"} if issubclass(kind, bodies.RuleWanted) else set()
    for field in msgspec.structs.fields(record):
        if not field.name.endswith("_usd") and field.name not in OTHER_TYPES | without | kept:
            assert types[field.name] == field.type or kind in NESTED, field.name
    has_names = {name for name in ours if name == "name"} if issubclass(kind, bodies.Body) else set()
    nested = {name for name in ours if name in {"target", "limits"}}
    if kind not in NESTED:
        for name in set(ours) - has_names - nested - kept:
            assert ours[name] == theirs[name], name


def test_a_declaration_has_every_field_of_an_organisation() -> None:
    """But its name, under which it stands, and its version; an example with something in each fits the types."""
    assert set(declarations.DeclaredOrg.__struct_fields__) == set(stored.Org.__struct_fields__) - {"org", "version"}
    made = msgspec.json.decode(msgspec.json.encode(document_of([ACME])), type=declarations.Declaration)
    assert all(getattr(made.orgs["acme"], name) for name in made.orgs["acme"].__struct_fields__)


@pytest.mark.parametrize(
    "kind",
    [
        *subclasses(bodies.Body),
        *(bodies.Limits, bodies.Rule, bodies.Target, answers.Budget, answers.Price, answers.Azure),
        *(declarations.DeclaredKey, declarations.DeclaredAzure),
    ],
)
def test_every_body_refuses_what_it_does_not_know(kind: Any) -> None:
    """An unknown field is an error, and an answer leaves nothing out."""
    assert kind.__struct_config__.forbid_unknown_fields
    assert not kind.__struct_config__.omit_defaults
    assert kind.__struct_config__.frozen
