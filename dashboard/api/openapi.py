"""The API's document, OpenAPI 3.1, from the table of operations. Pure."""

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from dashboard.api.answer_bodies import Error
from dashboard.api.calls import ACTOR, ETAG, IF_MATCH
from dashboard.api.faults import FAULTS, Fault
from dashboard.api.operation import Operation

_NO_LINE_BREAK: Final = r"(?!\n)"
"""What patterns end with for Python alone: elsewhere a $ is the end, and not everybody's patterns look ahead."""
_REFERENCE: Final = "#/components/schemas/{name}"
_SECURITY: Final = "admin_secret"
_DESCRIPTION: Final = (
    "What an operator sets for a Lectr installation. Send LECTR_ADMIN_SECRET as `Authorization: Bearer`. "
    "An answer about one organisation tells its version as `ETag`; with that as `If-Match`, a change is made only if "
    "nobody changed the organisation meanwhile."
)
_IF_MATCH: Final[dict[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "description": "Change it only if this is its version still, as an ETag told it; `*`: whatever it is.",
    "schema": {"type": "string", "pattern": IF_MATCH.pattern},
}
_ACTOR: Final[dict[str, Any]] = {
    "name": "X-Lectr-Actor",
    "in": "header",
    "description": "Who makes the change, as the log of changes will tell.",
    "schema": {"type": "string", "pattern": ACTOR.pattern},
}
_ETAG: Final = {
    "ETag": {"description": "The organisation's version.", "schema": {"type": "string", "pattern": ETAG.pattern}}
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE: Final = {"WWW-Authenticate": {"schema": {"type": "string"}}}
_LOCATION: Final = {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}
_TAGS: Final = (
    *("orgs", "keys", "rules", "limits", "budgets", "prices", "policies", "azure", "base-urls", "credentials"),
    *("use", "changes", "export", "plan", "apply"),
)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document as plain values."""
    types = {kind for one in operations for kind in (one.body, one.answer, one.query) if kind is not None} | {Error}
    ordered = sorted(types, key=str)
    made, components = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    schemas = dict(zip(ordered, made, strict=True))
    components["ErrorDetail"]["properties"]["code"]["enum"] = sorted(fault.code for fault in FAULTS)
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Lectr admin API", "version": "1", "description": _DESCRIPTION},
        "tags": [{"name": tag} for tag in (*_TAGS, "process")],
        "security": [{_SECURITY: []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {_SECURITY: {"type": "http", "scheme": "bearer"}},
        },
    }
    return cast("dict[str, Any]", _portable(whole))


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: part.removesuffix(_NO_LINE_BREAK) if name == "pattern" and isinstance(part, str) else _portable(part)
            for name, part in value.items()
        }
    return [_portable(part) for part in value] if isinstance(value, list) else value


def _operation(one: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": one.id, "summary": one.summary, "tags": [_tag(one)]}
    if one.description:
        made["description"] = one.description
    if one.is_open:
        made["security"] = []
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": msgspec.json.schema(kind)}
        for name, kind in one.parameters.items()
    ]
    if one.query is not None:
        parameters += _query(one.query)
    if one.is_conditional:
        parameters.append(_IF_MATCH)
    if one.changes:
        parameters.append(_ACTOR)
    if parameters:
        made["parameters"] = parameters
    if one.body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[one.body]}}}
    made["responses"] = {str(one.status): _good(one, schemas), **_bad(one, schemas)}
    return made


def _tag(one: Operation) -> str:
    return next((tag for tag in reversed(_TAGS) if f"/{tag}" in one.path), "process")


def _query(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([kind])
    properties: dict[str, Any] = components[kind.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _good(one: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": one.summary}
    headers: dict[str, Any] = dict(_ETAG) if one.has_version else {}
    if one.status == 201:  # noqa: PLR2004 - Created
        headers |= _LOCATION
    if headers:
        made["headers"] = headers
    if one.answer is not None:
        made["content"] = {one.media_type: {"schema": schemas[one.answer]}}
    return made


def _bad(one: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    by_status: dict[int, list[type[Fault]]] = {}
    for fault in one.faults:
        by_status.setdefault(fault.status, []).append(fault)
    made = {}
    for status, faults in sorted(by_status.items()):
        told = " ".join(f"`{fault.code}`: {' '.join((fault.__doc__ or '').split())}" for fault in faults)
        answer: dict[str, Any] = {
            "description": told,
            "content": {"application/json": {"schema": schemas[Error]}},
        }
        if status in {429, 503}:
            answer["headers"] = _RETRY_AFTER
        elif status == 401:  # noqa: PLR2004 - Unauthorized
            answer["headers"] = _CHALLENGE
        made[str(status)] = answer
    return made
