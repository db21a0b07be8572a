"""The one table of what the API has: routes and document are both made of it. Pure.

An operation's parameters, body, answer and faults follow from its line here; what does the work is found by its id in
`handlers`, or in `probes` for those that are open to everybody.
"""

from typing import Any, Final

import msgspec

from dashboard.api import answer_bodies as answers
from dashboard.api import faults
from dashboard.api import request_bodies as bodies
from dashboard.api.faults import Fault
from shared.organisation import Name, Provider

PREFIX: Final = "/api/v1"
PATH_TYPES: Final[dict[str, Any]] = {
    "org": bodies.OrgName,
    "key": Name,
    "rule": Name,
    "budget": Name,
    "resource": Name,
    "provider": Provider,
}
"""What may stand in a path."""
_HTTP: Final[dict[str, Any]] = {"provider": bodies.HttpProvider}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: str
    path: str
    """With the names of its parameters in braces."""
    id: str
    summary: str
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    """None: an answer without a body."""
    status: int = 200
    reads: bool = False
    """Whether it changes nothing although it is no GET."""
    is_open: bool = False
    """Whether it is answered without the secret."""
    more_faults: tuple[type[Fault], ...] = ()
    """Besides those that follow from all of the above."""
    special_types: dict[str, Any] = {}
    """Instead of PATH_TYPES."""
    media_type: str = "application/json"

    @property
    def changes(self) -> bool:
        """Whether the registry is another one afterwards."""
        return self.method != "GET" and not self.reads

    @property
    def parameters(self) -> dict[str, Any]:
        """Name -> type of what stands in the path."""
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        return {name: self.special_types.get(name, PATH_TYPES[name]) for name in names}

    @property
    def is_conditional(self) -> bool:
        """Whether it heeds If-Match: it changes one organisation that is there already."""
        return self.changes and "org" in self.parameters

    @property
    def has_version(self) -> bool:
        """Whether its answer is about one organisation, whose version it tells as ETag."""
        return "org" in self.parameters or self.id == "createOrg"

    @property
    def faults(self) -> tuple[type[Fault], ...]:
        """All ways in which it can end but the good one."""
        if self.is_open:
            return (faults.InvalidRequest, *self.more_faults)
        found: list[type[Fault]] = [
            faults.InvalidRequest,
            faults.MissingAdminSecret,
            faults.InvalidAdminSecret,
            faults.TooManyFailedAttempts,
            faults.RateLimitExceeded,
            faults.Defect,
            faults.RecordUnreadable,
            faults.RegistryUnavailable,
            faults.ServerBusy,
            *self.more_faults,
        ]
        if self.body is not None:
            found += [
                faults.InvalidJson,
                faults.RequestTimeout,
                faults.RequestTooLarge,
                faults.UnsupportedMediaType,
                faults.InvalidValue,
            ]
        if "org" in self.parameters:
            found.append(faults.OrgNotFound)
        if self.changes:
            found.append(faults.RegistryReadOnly)
        if self.is_conditional:
            found.append(faults.VersionConflict)
        return tuple(found)


_ABSENT: Final = (faults.RecordNotFound,)


def _of_all(method: str, path: str, name: str, summary: str, **more: Any) -> Operation:
    return Operation(method=method, path=PREFIX + path, id=name, summary=summary, **more)


def _of_org(method: str, path: str, name: str, summary: str, **more: Any) -> Operation:
    return _of_all(method, "/orgs/{org}" + path, name, summary, **more)


OPERATIONS: Final = (
    # organisations
    _of_all("GET", "/orgs", "listOrgs", "List organisations", query=bodies.OrgQuery, answer=answers.OrgPage),
    _of_all(
        "POST",
        "/orgs",
        "createOrg",
        "Create an organisation and show its key, once",
        body=bodies.OrgCreate,
        answer=answers.NewKey,
        status=201,
        more_faults=(faults.OrgExists,),
    ),
    _of_org("GET", "", "readOrg", "Show all that is set for an organisation", answer=answers.Org),
    _of_org("PATCH", "", "switchOrg", "Serve or refuse an organisation", body=bodies.Switch, answer=answers.Org),
    # keys
    _of_org("GET", "/keys", "listKeys", "List keys", answer=answers.Keys),
    _of_org(
        "POST",
        "/keys",
        "addKey",
        "Make a key and show it, once",
        body=bodies.KeyCreate,
        answer=answers.NewKey,
        status=201,
        more_faults=(faults.RecordExists,),
    ),
    _of_org(
        "PATCH",
        "/keys/{key}",
        "changeKey",
        "Switch a key on or off, or replace its limits",
        body=bodies.KeyPatch,
        answer=answers.Key,
        more_faults=_ABSENT,
    ),
    _of_org("DELETE", "/keys/{key}", "removeKey", "Remove a key for good", status=204, more_faults=_ABSENT),
    _of_org(
        "POST",
        "/keys/{key}/rotate",
        "rotateKey",
        "Replace a key and show the new one, once; the old one stops working at once",
        answer=answers.NewKey,
        more_faults=_ABSENT,
    ),
    # rules
    _of_org("GET", "/rules", "listRules", "List rules in the order in which they stand", answer=answers.Rules),
    _of_org("PUT", "/rules", "setRules", "Replace all rules", body=bodies.RulesPut, answer=answers.Rules),
    _of_org(
        "PUT",
        "/rules/{rule}",
        "putRule",
        "Add a rule, or replace the one of this name in its place",
        body=bodies.RulePut,
        answer=answers.ChangedRule,
    ),
    _of_org(
        "PATCH",
        "/rules/{rule}",
        "switchRule",
        "Apply a rule, or pass it over",
        body=bodies.Switch,
        answer=answers.ChangedRule,
        more_faults=_ABSENT,
    ),
    _of_org("DELETE", "/rules/{rule}", "removeRule", "Remove a rule", status=204, more_faults=_ABSENT),
    _of_org(
        "POST",
        "/rules/test",
        "testRules",
        "What would happen to a request",
        body=bodies.RuleQuestion,
        answer=answers.RuleTest,
        reads=True,
    ),
    # limits, budgets, prices, policies
    _of_org("GET", "/limits", "readLimits", "Show the limits of every key without its own", answer=bodies.Limits),
    _of_org(
        "PUT",
        "/limits",
        "setLimits",
        "Replace all limits: what is not named is not limited",
        body=bodies.Limits,
        answer=bodies.Limits,
    ),
    _of_org("GET", "/budgets", "listBudgets", "List budgets", answer=answers.Budgets),
    _of_org(
        "PUT",
        "/budgets/{budget}",
        "putBudget",
        "Add a budget, or replace the one of this name",
        body=bodies.BudgetPut,
        answer=answers.Budget,
    ),
    _of_org("DELETE", "/budgets/{budget}", "removeBudget", "Remove a budget", status=204, more_faults=_ABSENT),
    _of_org("GET", "/prices", "listPrices", "List negotiated prices", answer=answers.Prices),
    _of_org("PUT", "/prices", "setPrices", "Replace all prices", body=bodies.PricesPut, answer=answers.Prices),
    _of_org("GET", "/policies", "readPolicies", "Show what becomes of streams", answer=bodies.Policies),
    _of_org(
        "PUT",
        "/policies",
        "setPolicies",
        "Replace what becomes of streams",
        body=bodies.Policies,
        answer=bodies.Policies,
    ),
    # where requests go
    _of_org("GET", "/azure", "listAzure", "List Azure resources", answer=answers.AzureResources),
    _of_org(
        "PUT",
        "/azure/{resource}",
        "putAzure",
        "Add an Azure resource, or replace the one of this name in its place",
        body=bodies.AzurePut,
        answer=answers.Azure,
    ),
    _of_org("DELETE", "/azure/{resource}", "removeAzure", "Remove an Azure resource", status=204, more_faults=_ABSENT),
    _of_org("GET", "/base-urls", "listBaseUrls", "List base URLs", answer=answers.BaseUrls),
    _of_org(
        "PUT",
        "/base-urls/{provider}",
        "putBaseUrl",
        "Send requests to a provider somewhere else",
        body=bodies.BaseUrlPut,
        answer=answers.BaseUrl,
        special_types=_HTTP,
    ),
    _of_org(
        "DELETE",
        "/base-urls/{provider}",
        "removeBaseUrl",
        "Send requests where the installation does, as without a base URL",
        status=204,
        special_types=_HTTP,
    ),
    _of_org("GET", "/credentials", "listCredentials", "List references to keys", answer=answers.Credentials),
    _of_org(
        "PUT",
        "/credentials/{provider}",
        "putCredential",
        "Say where gateways find the key of a provider",
        body=bodies.CredentialPut,
        answer=answers.Credential,
    ),
    _of_org(
        "DELETE",
        "/credentials/{provider}",
        "removeCredential",
        "Have no key of a provider, as without a reference",
        status=204,
    ),
    # open to everybody
    Operation(
        method="GET",
        path="/api/openapi.json",
        id="readDocument",
        summary="This document",
        answer=dict[str, Any],
        is_open=True,
    ),
    Operation(method="GET", path="/healthz", id="health", summary="Alive?", answer=answers.Health, is_open=True),
    Operation(
        method="GET",
        path="/readyz",
        id="readiness",
        summary="Does Redis answer?",
        answer=answers.Readiness,
        is_open=True,
        more_faults=(faults.RegistryUnavailable,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        id="metrics",
        summary="Numbers for Prometheus",
        answer=str,
        is_open=True,
        media_type="text/plain",
    ),
)
