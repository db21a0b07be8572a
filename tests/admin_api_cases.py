"""A valid request for each operation of the admin HTTP API."""

from typing import Any

from dashboard.api.operation import Operation
from dashboard.api.operations import OPERATIONS
from tests.admin_api import AdminApi, Reply

CLOSED = [one for one in OPERATIONS if not one.is_open]
CHANGES = [one for one in CLOSED if one.changes]
CONDITIONAL = [one for one in CLOSED if one.is_conditional]
BODIES: dict[str, Any] = {
    "createOrg": {"org": "new"},
    "switchOrg": {"enabled": True},
    "addKey": {"name": "new"},
    "changeKey": {"enabled": True},
    "setRules": {"rules": []},
    "putRule": {},
    "switchRule": {"enabled": True},
    "testRules": {"provider": "openai", "model": "gpt-4o"},
    "setLimits": {},
    "putBudget": {"limit_usd": "1"},
    "setPrices": {"prices": []},
    "setPolicies": {"drain_features": [], "usage_features": []},
    "putAzure": {"endpoint": "https://one.openai.azure.com"},
    "putBaseUrl": {"url": "https://llm.example.com/v1"},
    "putCredential": {"reference": "env:KEY"},
    "planRegistry": {"orgs": {"declared": {}}},
    "applyRegistry": {"orgs": {"declared": {}}},
}
NAMES = {"key": "default", "rule": "r", "budget": "b", "resource": "default", "provider": "openai"}


def by_id(one: Operation) -> str:
    return one.id


def path_of(one: Operation, org: str = "acme", **names: str) -> str:
    path = one.path
    for name, value in {**NAMES, "org": org, **names}.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def ask(api: AdminApi, one: Operation, org: str = "acme", **more: Any) -> Reply:
    return api.ask(one.method, path_of(one, org), BODIES.get(one.id), **more)
