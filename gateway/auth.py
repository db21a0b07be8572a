"""Who is asking: the X-Lectr-Key to an organisation. No I/O; the registry is in memory."""

from typing import Protocol

from gateway.faults import InvalidKey, MissingKey, OrgDisabled
from shared.registry import Org, hash_key, same_hash

_HOW = "send your organisation's key in the X-Lectr-Key header"
_LONGEST_KEY_BYTES = 512
"""Hashing a header of the maximum size for every stranger would be work given away."""


class Directory(Protocol):
    """Where organisations are looked up."""

    def find(self, key_sha256: str) -> Org | None:
        """The organisation whose current key has this hash."""


def hash_of_key(key: str | None) -> str | None:
    """What a header's key is looked up by: None when there is none, empty when it is too long to be one."""
    if not key:
        return None
    return hash_key(key) if len(key) <= _LONGEST_KEY_BYTES else ""


def authenticate(key_sha256: str | None, directory: Directory) -> Org:
    """The organisation of a key by `hash_of_key`, enabled or not. Raises MissingKey or InvalidKey.

    The lookup is by hash, so its timing tells nothing about keys; the final comparison is in constant time.
    """
    if key_sha256 is None:
        raise MissingKey(f"X-Lectr-Key is missing or empty; {_HOW}")
    org = directory.find(key_sha256)
    if org is None or not same_hash(org.key_sha256, key_sha256):
        raise InvalidKey(
            f"X-Lectr-Key is not a key of any organisation here; {_HOW}, or have it rotated if it was lost"
        )
    return org


def require_enabled(org: Org) -> None:
    """Raise OrgDisabled for an organisation that is switched off."""
    if not org.enabled:
        raise OrgDisabled(f"organisation {org.org} is disabled; ask whoever runs this gateway to enable it")
