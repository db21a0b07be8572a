"""Keys as they are made: with a new organisation, as one more, or in place of another.

In: the registry, and names. Out: the organisation with the key's hash in it, and the key itself, which is told once and
kept nowhere. Raises what Registry.create and Registry.edit raise.
"""

from typing import NamedTuple

from dashboard import edits
from dashboard.registry import Registry
from shared.clock import unix_ms
from shared.environment import Secret
from shared.organisation import Limits, Org
from shared.registry import DEFAULT_KEY, new_key


class NewKey(NamedTuple):
    """A key for the only time that it can be shown."""

    org: Org
    name: str
    key: Secret


def create_org(registry: Registry, org: str) -> NewKey:
    """A new organisation with one key."""
    key = new_key()
    return NewKey(registry.create(edits.new_org(org, key, unix_ms()), "create org"), DEFAULT_KEY, Secret(key))


def add_key(
    registry: Registry, org: str, name: str, limits: Limits | None = None, *, version: int | None = None
) -> NewKey:
    """One more key of an organisation."""
    key = new_key()
    edit = edits.add_key(edits.new_key_record(name, key, unix_ms(), limits))
    return NewKey(registry.edit(org, edit, f"add key {name}", version=version), name, Secret(key))


def rotate_key(registry: Registry, org: str, name: str, *, version: int | None = None) -> NewKey:
    """Another key under the same name, with its limits; the old one stops working at once."""
    key = new_key()
    edit = edits.rotate_key(edits.new_key_record(name, key, unix_ms()))
    return NewKey(registry.edit(org, edit, f"rotate key {name}", version=version), name, Secret(key))
