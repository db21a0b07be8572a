"""Where a rule sends a request: to another model, to another provider, and where next if that fails. Pure.

In: the request as it came, and a rule's targets. Out: steps to try in order, each with the head and body to send. What
cannot be done is left out; without any step of the rule's target the request goes its own way: a rule never blocks or
spoils a request.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.destination import Router, Way, azure_of
from gateway.form_edit import replace_form_model
from gateway.headers import RequestFields
from gateway.model_edit import replace_model, replace_path_model
from gateway.request_body import model_in_path
from gateway.routes import query_without, route_of

if TYPE_CHECKING:
    from gateway.client_head import ClientHead
    from shared.environment import Secret
    from shared.organisation import Org, Rule, Target

MARK_NO_CREDENTIAL: Final = "rule_credential_missing"
MARK_NOT_SERVED: Final = "rule_endpoint_unsupported"
"""The target's provider does not speak as the client does on this path."""
MARK_MODEL_KEPT: Final = "rule_model_not_replaced"
_COMMON: Final = frozenset({"openai", "groq", "gemini", "azure"})
_SPOKEN: Final[Mapping[str, frozenset[str]]] = {
    "/chat/completions": _COMMON | {"anthropic"},
    "/embeddings": frozenset({"openai", "gemini", "azure"}),
    "/responses": frozenset({"openai", "groq", "azure"}),
    "/completions": frozenset({"openai", "azure"}),
    "/audio/transcriptions": frozenset({"openai", "groq", "azure"}),
    "/audio/translations": frozenset({"openai", "groq", "azure"}),
    "/audio/speech": frozenset({"openai", "groq", "azure"}),
    "/images/generations": frozenset({"openai", "gemini", "azure"}),
    "/messages": frozenset({"anthropic", "azure"}),
    "/messages/count_tokens": frozenset({"anthropic", "azure"}),
}
"""Endpoints that several providers serve in the same words, and which."""
_OWN_SURFACES: Final = frozenset({"gemini", "azure"})
"""Paths that nobody else has."""
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie"})
_ACCOUNT: Final = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project", b"anthropic-beta"})
"""Of the client's account with the provider that it asked: nothing to the other one."""


class Step(msgspec.Struct, frozen=True):
    """One try."""

    provider: str
    model: str
    """What is asked for there."""
    way: Way
    body: bytes | None = None
    """Instead of what was read of the client's; None: as it came."""
    by_rule: bool = True
    asks_usage: bool = False
    """The body asks for the usage of its stream, as the client did not."""
    first_byte_timeout_s: float | None = None
    """How long it may take until its answer begins, if another step is left; None: no less than any."""


class Plan(msgspec.Struct, frozen=True):
    """The steps to try, in order: at least one."""

    steps: tuple[Step, ...]
    marks: tuple[str, ...] = ()
    """Why a target was left out."""


class Asked(msgspec.Struct, frozen=True):
    """A request as it came, and where it would go without a rule."""

    head: "ClientHead"
    target: str
    held: bytes | bytearray
    """What was read of the body; JSON is whole."""
    readable: bool
    """Whether that is a JSON object."""
    provider: str
    model: str
    way: Way
    org: "Org"
    credentials: Mapping[str, "Secret"]
    """The organisation's provider keys that this gateway has, by provider."""


def plan(router: Router, rule: "Rule", asked: Asked) -> Plan:
    """What to try."""
    unchanged = Step(asked.provider, asked.model, asked.way, by_rule=False)
    steps: list[Step] = []
    marks: dict[str, None] = {}
    for place, wanted in enumerate((rule.target, *rule.failover)):
        found = _step(router, wanted, asked)
        if isinstance(found, Step):
            steps.append(found)
            continue
        marks[found] = None
        if place == 0:
            steps.append(unchanged)
    if rule.first_byte_timeout_s is not None:
        steps = [msgspec.structs.replace(step, first_byte_timeout_s=rule.first_byte_timeout_s) for step in steps]
    return Plan(tuple(steps), tuple(marks))


def _step(router: Router, wanted: "Target", asked: Asked) -> Step | str:
    """A step to this target, or the mark that says why there is none."""
    provider, model = wanted.provider or asked.provider, wanted.model or asked.model
    head, target, body = asked.head, asked.target, None
    if (provider, model) == (asked.provider, asked.model):
        return Step(provider, model, asked.way)
    if model != asked.model:
        edited = _with_model(asked, model)
        if edited is None:
            return MARK_MODEL_KEPT
        target, body = edited
    if provider != "azure" and _names_deployment(asked.target):
        # No other provider has a deployment's name in its paths: the body's model is what counts there.
        named = _edited(asked, asked.held, model)
        if named is None:
            return MARK_MODEL_KEPT
        body = named if model != asked.model else None
    fields = head.fields
    if provider != asked.provider:
        if not speaks(provider, target):
            return MARK_NOT_SERVED
        credential = asked.credentials.get(provider)
        if credential is None:
            return MARK_NO_CREDENTIAL
        fields = RequestFields(_with_credential(fields.raw, credential))
        target = query_without(target, "key", "api-version")
    way = router.way(provider, fields, head=head, target=target, model=model, org=asked.org)
    return Step(provider, model, way, body) if isinstance(way, Way) else MARK_NOT_SERVED


def as_deployed(step: Step, asked: Asked) -> Step:
    """The step with the name of its model's Azure deployment in the body, where the path does not have it.

    A body that cannot be edited goes as it is: Azure says what it does not know.
    """
    resource = azure_of(asked.org, step.model) if step.provider == "azure" else None
    deployment = step.model if resource is None else resource.deployments.get(step.model, step.model)
    if deployment == step.model or b"/deployments/" in step.way.target:
        return step
    body = _edited(asked, asked.held if step.body is None else step.body, deployment)
    return step if body is None else msgspec.structs.replace(step, body=body)


def speaks(provider: str, target: str) -> bool:
    """Whether another provider than the one that the client asked understands a request for this target."""
    route = route_of(target.partition("?")[0])
    if route is None or route.surface in _OWN_SURFACES:
        return False
    return provider in _SPOKEN.get(route.endpoint, frozenset())


def _with_model(asked: Asked, model: str) -> tuple[str, bytes | None] | None:
    """Target and body with another model, where they name one; None if it cannot be replaced."""
    target = asked.target
    if model_in_path(target):
        moved = replace_path_model(target, model)
        # The body of such a request may name a model as well, which nobody reads.
        return None if moved is None else (moved, None)
    body = _edited(asked, asked.held, model)
    return None if body is None else (target, body)


def _names_deployment(target: str) -> bool:
    route = route_of(target.partition("?")[0])
    return route is not None and route.surface == "deployments"


def _edited(asked: Asked, body: bytes | bytearray, model: str) -> bytes | None:
    if asked.head.body_kind == "multipart":
        return replace_form_model(body, asked.head.headers.get("Content-Type", ""), model)
    return replace_model(body, model) if asked.readable else None


def _with_credential(raw: Sequence[tuple[bytes, bytes]], credential: "Secret") -> list[tuple[bytes, bytes]]:
    """The head with the operator's key, and nothing of the client's account."""
    kept = [(name, value) for name, value in raw if name.lower() not in _CREDENTIALS | _ACCOUNT]
    return [*kept, (b"Authorization", b"Bearer " + credential.reveal().encode("ascii"))]
