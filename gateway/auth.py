"""Who is asking: the X-Lectr-Key to an organisation and one of its keys. No I/O; the registry is in memory."""

from gateway.directory import Access, Directory
from gateway.faults import InvalidKey, MissingKey, OrgDisabled
from shared.registry import hash_key, same_hash

_HOW = "send your organisation's key in the X-Lectr-Key header"
_LONGEST_KEY_BYTES = 512
"""Hashing a header of the maximum size for every stranger would be work given away."""


def hash_of_key(key: str | None) -> str | None:
    """What a header's key is looked up by: None when there is none, empty when it is too long to be one."""
    if not key:
        return None
    return hash_key(key) if len(key) <= _LONGEST_KEY_BYTES else ""


def authenticate(key_sha256: str | None, directory: Directory) -> Access:
    """What a key by `hash_of_key` gives access to, enabled or not. Raises MissingKey or InvalidKey.

    The lookup is by hash, so its timing tells nothing about keys; the final comparison is in constant time.
    """
    if key_sha256 is None:
        raise MissingKey(f"X-Lectr-Key is missing or empty; {_HOW}")
    access = directory.find(key_sha256)
    if access is None or not same_hash(access.key.sha256, key_sha256):
        raise InvalidKey(
            f"X-Lectr-Key is not a key of any organisation here; {_HOW}, or have it rotated if it was lost"
        )
    return access


def require_enabled(access: Access) -> None:
    """Raise OrgDisabled for an organisation that is switched off, InvalidKey for a key that is."""
    org, key = access.org, access.key
    if not org.enabled:
        raise OrgDisabled(f"organisation {org.org} is disabled; ask whoever runs this gateway to enable it")
    if not key.enabled:
        raise InvalidKey(f"this key of organisation {org.org} is disabled; {_HOW}: another one, or have it enabled")
