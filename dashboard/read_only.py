"""The registry of an installation whose organisations are declared in a file: it can be read, and nothing else.

What somebody changed here by hand would be undone when the file is applied next, so it is refused.
"""

from typing import Final

from dashboard.clickhouse import ClickHouse
from dashboard.registry import Edit, Registry
from shared.environment import SecretUrl
from shared.organisation import Org
from shared.registry import RegistryFault


class RegistryReadOnly(RegistryFault):
    """What is to be changed is declared in a file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"organisations are declared in {path!r} (LECTR_REGISTRY_FILE): change them there")


class ReadOnlyRegistry(Registry):
    """Refuses every change, whichever door it comes through."""

    def __init__(self, redis_url: SecretUrl, *, actor: str, path: str, clickhouse: ClickHouse | None = None) -> None:
        super().__init__(redis_url, actor=actor, clickhouse=clickhouse)
        self.path: Final = path

    def create(self, org: Org, action: str) -> Org:  # noqa: ARG002 - the registry's signature
        """Raises RegistryReadOnly."""
        raise RegistryReadOnly(self.path)

    def edit(self, name: str, edit: Edit, action: str, *, version: int | None = None) -> Org:  # noqa: ARG002 - as above
        """Raises RegistryReadOnly."""
        raise RegistryReadOnly(self.path)
