"""The one table of what the API has: routes and document are both made of it. Pure.

An operation's parameters, body, answer and faults follow from its line here (operation.py); what does the work is found
by its id in `handlers`, or in `probes` for those that are open to everybody.
"""

from typing import Any, Final

from dashboard.api import answer_bodies as answers
from dashboard.api import clickhouse_bodies, declaration_bodies, faults
from dashboard.api import request_bodies as bodies
from dashboard.api.operation import Operation
from dashboard.declared.text import MOST_BYTES

PREFIX: Final = "/api/v1"
_HTTP: Final[dict[str, Any]] = {"provider": bodies.HttpProvider}
_ABSENT: Final = (faults.RecordNotFound,)


def _of_all(method: str, path: str, name: str, summary: str, **more: Any) -> Operation:
    return Operation(method=method, path=PREFIX + path, id=name, summary=summary, **more)


def _declares(path: str, name: str, summary: str, **more: Any) -> Operation:
    return _of_all(
        "POST",
        path,
        name,
        summary,
        body=declaration_bodies.Declaration,
        read_body=declaration_bodies.declared_of,
        most_body_bytes=MOST_BYTES,
        load="registry",
        **more,
    )


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
    # what was done, and what is used
    _of_all(
        "GET",
        "/changes",
        "listChanges",
        "List changes, the latest first",
        description="From the log in ClickHouse, where a change is a moment after it was made.",
        query=clickhouse_bodies.ChangeQuery,
        answer=clickhouse_bodies.Changes,
        load="clickhouse",
    ),
    _of_org(
        "GET",
        "/use",
        "readUse",
        "Show how often keys and rules were used, and when last",
        description="From the rows of requests in ClickHouse, where a request is a moment after it ended.",
        query=clickhouse_bodies.UseQuery,
        answer=clickhouse_bodies.InUse,
        load="clickhouse",
    ),
    # the registry as a whole
    _of_all(
        "GET",
        "/export",
        "exportRegistry",
        "Write all organisations as a declaration",
        description=(
            "As `python -m dashboard export --json`: what `plan` and `apply` take, and a file. Keys stand in it by "
            "their hashes: no key can be found from one, and none is a secret, but whoever has the declaration knows "
            "who may do what, and where. Elsewhere this API shows no hash."
        ),
        answer=declaration_bodies.Declaration,
        load="registry",
    ),
    _declares(
        "/plan",
        "planRegistry",
        "Say what `apply` would do",
        description=(
            f"A declaration has {MOST_BYTES // 2**20} MiB at most, as a file, and is checked as a file is: with a "
            "fault anywhere in it nothing is planned. Organisations that it does not name are left alone without "
            "`prune`. Hashes are shown by their first digits."
        ),
        query=declaration_bodies.PlanQuery,
        answer=declaration_bodies.Plan,
        reads=True,
        more_faults=(faults.PlanRefused,),
    ),
    _declares(
        "/apply",
        "applyRegistry",
        "Make the registry what a declaration says",
        description=(
            f"A declaration has {MOST_BYTES // 2**20} MiB at most, as a file, and is checked as a file is: with a "
            "fault anywhere in it nothing is changed. Organisations are changed one after another, each whole, and "
            "only if nobody changed it meanwhile; if the rest fails, what was done stays done, and the same again does "
            "only the rest. Where those who are served would be refused, nothing is done without `shut_out`."
        ),
        query=declaration_bodies.ApplyQuery,
        answer=declaration_bodies.Applied,
        more_faults=(faults.PlanRefused, faults.WouldShutOut, faults.ApplyConflict, faults.ApplyStopped),
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
