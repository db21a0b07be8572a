"""What an operation is asked, read out of a request, and what it answers. Pure.

Raises InvalidRequest, InvalidJson and InvalidValue, each with the field and what is expected there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from dashboard.api.faults import InvalidJson, InvalidRequest, InvalidValue
from dashboard.api.operation import Operation
from dashboard.api.request_bodies import converted
from dashboard.registry import Edit, Registry, VersionConflict
from dashboard.validation import problem_in
from shared.organisation import Org

T = TypeVar("T")
ETAG: Final = re.compile(r'^"[0-9]{1,16}"$')
_TAG: Final = r'(W/)?"[!#-~\x80-\xff]*"'
IF_MATCH: Final = re.compile(rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$")
ACTOR: Final = re.compile(r"^[!-~]([ -~]{0,98}[!-~])?$")
_ACTOR_NAME: Final = "api"
_JSON: Final = "application/json"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation is asked."""

    registry: Registry
    """As the actor of this request."""
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
    versions: frozenset[int] | None = None
    """Of which the organisation must have one still, by If-Match; None: it may have any."""
    is_ending: Callable[[], bool] = lambda: False
    """Whether the server ends, so that what takes long must do so too."""

    @property
    def org(self) -> str:
        """The name of the organisation that it is about."""
        return self.path["org"]

    def read(self) -> Org:
        """The organisation. Raises as Registry.org."""
        return self.registry.org(self.org)

    def edit(self, edit: Edit, action: str) -> Org:
        """Change the organisation, if its version allows it. Raises as Registry.edit."""
        return self.registry.edit(self.org, edit, action, version=self.version())

    def version(self) -> int | None:
        """The one version that the organisation must have still; None: any. Raises VersionConflict, as Registry.org."""
        if self.versions is None or len(self.versions) == 1:
            return None if self.versions is None else next(iter(self.versions))
        at = self.read().version
        if at not in self.versions:
            raise VersionConflict(f"org {self.org!r} is at version {at}, which If-Match does not name: read it again")
        return at


class Answer(msgspec.Struct, frozen=True):
    """What it answers when all is well."""

    body: msgspec.Struct | msgspec.Raw | None = None
    version: int | None = None
    """Of the one organisation that it is about."""
    location: str | None = None
    """Where that is which was made."""


def path_of(operation: Operation, given: Mapping[str, str]) -> dict[str, str]:
    """The names in the path."""
    return {name: _value("path", name, given[name], kind) for name, kind in operation.parameters.items()}


def query_of(operation: Operation, given: Sequence[tuple[str, str]]) -> Any:
    """The query as its type; None where there is none."""
    names = [name for name, _ in given]
    known = () if operation.query is None else operation.query.__struct_fields__
    for name in names:
        if name not in known:
            there_are = f"there are: {', '.join(known)}" if known else "there are none here"
            raise InvalidRequest(f"query: no parameter is named {name!r}; {there_are}", field=name)
        if names.count(name) > 1:
            raise InvalidRequest(f"query: {name} stands in it twice; give it once", field=name)
    return None if operation.query is None else _converted("query", dict(given), operation.query)


def actor_of(names: Sequence[str]) -> str:
    """Who makes a change, by X-Lectr-Actor."""
    if not names:
        return _ACTOR_NAME
    if len(names) > 1:
        raise InvalidRequest("X-Lectr-Actor: it is given twice; give it once", field="X-Lectr-Actor")
    if not ACTOR.fullmatch(names[0]):
        raise InvalidRequest(
            "X-Lectr-Actor: give 1 to 100 printable ASCII characters, like a name, or leave it out",
            field="X-Lectr-Actor",
        )
    return f"{_ACTOR_NAME}:{names[0]}"


def versions_of(values: Sequence[str]) -> frozenset[int] | None:
    """The versions that a change may be made from, by If-Match; None: any. A tag that is no version matches none."""
    if not values:
        return None
    given = ",".join(values)
    if not IF_MATCH.fullmatch(given):
        raise InvalidRequest(
            'If-Match: give a version as an ETag told it, like "1764072000000" with its quotation marks, or *',
            field="If-Match",
        )
    if given == "*":
        return None
    tags = [tag.strip(" \t") for tag in given.split(",")]
    return frozenset(int(tag.strip('"')) for tag in tags if ETAG.fullmatch(tag))


def is_json(content_type: str | None, content_encoding: str | None) -> bool:
    """Whether a body is sent as plain JSON."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return media_type == _JSON and (content_encoding or "identity").strip().lower() == "identity"


def body_of(operation: Operation, data: bytes) -> Any:
    """The body as its type; None where there is none."""
    if operation.body is None:
        return None
    if operation.read_body is not None:
        return operation.read_body(data)
    try:
        return msgspec.json.decode(data, type=operation.body)
    except msgspec.ValidationError as error:
        raise _invalid_value(error, operation.body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is no JSON: {error}") from None


def record_of(body: Any, kind: type[T]) -> T:
    """A body as what is stored, whose bounds may be narrower."""
    try:
        return converted(body, kind)
    except msgspec.ValidationError as error:
        raise _invalid_value(error, kind) from None


def same_name(given: str, in_path: str) -> None:
    """A name in a body is that of the path, or left out."""
    if given not in {"", in_path}:
        raise InvalidValue(
            f"name: it is {in_path!r} in the path; leave it out of the body, or give the same", field="name"
        )


def _value(where: str, name: str, value: str, kind: Any) -> str:
    found: str = _converted(where, value, kind, name)
    return found


def _converted(where: str, value: Any, kind: Any, name: str | None = None) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        problem = problem_in(error, kind)
        raise InvalidRequest(problem.told(name or where), field=problem.field or name) from None


def _invalid_value(error: msgspec.ValidationError, kind: Any) -> InvalidValue:
    problem = problem_in(error, kind)
    return InvalidValue(problem.told("body"), field=problem.field)
