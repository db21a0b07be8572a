"""What does the work of each operation: a plain function from a call to an answer, run in a thread.

Raises what the registry and its edits raise; `door` says it over HTTP.
"""

from collections.abc import Callable
from typing import Final

from dashboard.api.calls import Answer, Call
from dashboard.api.handlers import clickhouse, declarations, endpoints, keys, limits, orgs, rules

Handler = Callable[[Call], Answer]

HANDLERS: Final[dict[str, Handler]] = {
    "listOrgs": orgs.list_page,
    "createOrg": orgs.create,
    "readOrg": orgs.read,
    "switchOrg": orgs.switch,
    "listKeys": keys.list_all,
    "addKey": keys.add,
    "changeKey": keys.change,
    "removeKey": keys.remove,
    "rotateKey": keys.rotate,
    "listRules": rules.list_all,
    "setRules": rules.set_all,
    "putRule": rules.put,
    "switchRule": rules.switch,
    "removeRule": rules.remove,
    "testRules": rules.explain,
    "readLimits": limits.read_limits,
    "setLimits": limits.set_limits,
    "listBudgets": limits.list_budgets,
    "putBudget": limits.put_budget,
    "removeBudget": limits.remove_budget,
    "listPrices": limits.list_prices,
    "setPrices": limits.set_prices,
    "readPolicies": orgs.read_policies,
    "setPolicies": orgs.set_policies,
    "listAzure": endpoints.list_azure,
    "putAzure": endpoints.put_azure,
    "removeAzure": endpoints.remove_azure,
    "listBaseUrls": endpoints.list_base_urls,
    "putBaseUrl": endpoints.put_base_url,
    "removeBaseUrl": endpoints.remove_base_url,
    "listCredentials": endpoints.list_credentials,
    "putCredential": endpoints.put_credential,
    "removeCredential": endpoints.remove_credential,
    "listChanges": clickhouse.list_changes,
    "readUse": clickhouse.read_use,
    "exportRegistry": declarations.export,
    "planRegistry": declarations.plan_declared,
    "applyRegistry": declarations.apply_declared,
}
"""By the ids of operations.py, those that need the secret. A test compares the two."""
