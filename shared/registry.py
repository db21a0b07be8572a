"""Records of organisations as Redis serves them, and how keys are made and recognised.

The gateway reads (gateway/registry.py), the dashboard writes (dashboard/registry.py). A record is never removed, only
disabled, and its version only goes up: a reader keeps the record with the higher version, so a Redis that lost its
memory cannot take an organisation away from a running gateway.
"""

import hashlib
import hmac
import re
import secrets
from typing import Annotated, Final

import msgspec

from shared.organisation import Azure, Key, Org, Sha256, money_problem

KEY_PREFIX: Final = "lc_key_"
ORGS_KEY: Final = "lectr:registry:orgs"
"""Hash: organisation name -> Org as JSON."""
VERSION_KEY: Final = f"{{{ORGS_KEY}}}:version"
"""Highest version written so far; polled to notice a missed push. Its hash tag puts it into the slot of ORGS_KEY."""
VERSIONS_KEY: Final = f"{{{ORGS_KEY}}}:versions"
"""Sorted set: organisation name -> version of its record, to read only what changed."""
COMPLETE_KEY: Final = f"{{{ORGS_KEY}}}:complete"
"""Random text, there as long as Redis holds every record that the log in ClickHouse has; a Redis that lost its memory
lost this, and gets another one when it was refilled."""
LOG_KEY: Final = f"{{{ORGS_KEY}}}:log"
"""Stream: changes on their way to the log in ClickHouse."""
CHANGES_CHANNEL: Final = "lectr:registry:changes"
"""Pub/sub: a changed Org as JSON, pushed at once."""
_LONGEST_REASON: Final = 300
"""It may quote the record."""
MOST_RECORD_BYTES: Final = 8 * 1024 * 1024
"""Redis cuts subscribers off for whom more than 32 MB wait, and reading a record holds up a gateway: 3 ms each MB."""
_ORG_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class RegistryFault(ValueError):
    """A registry value that cannot be used; the text names the field and the fix.

    `field` is the name of the field alone, for programs, where it is known. `hint` is a fix in the words of the command
    line, at the end of the text; other doors say `message`, which is without it.
    """

    def __init__(self, message: str, *, field: str | None = None, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.field = field
        self.hint = hint


class _OrgBefore(msgspec.Struct, frozen=True, kw_only=True):
    """A record from when an organisation had one key and one Azure resource."""

    org: str
    key_sha256: Sha256
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    enabled: bool = True
    azure: Azure | None = None
    drain_features: tuple[str, ...] = ()


class _KeyOfBefore(msgspec.Struct):
    """What only such a record has."""

    key_sha256: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_org_decoder = msgspec.json.Decoder(Org)
_before_decoder = msgspec.json.Decoder(_OrgBefore)
_key_decoder = msgspec.json.Decoder(_KeyOfBefore)
DEFAULT_KEY: Final = "default"
"""Name of the key that an organisation is created with."""


def encode_org(org: Org) -> bytes:
    """An Org as the JSON that Redis holds."""
    return msgspec.json.encode(org)


def decode_org(data: bytes | str) -> Org:
    """Read an Org; raises RegistryFault if it is none, holds an amount that is none, or is over MOST_RECORD_BYTES."""
    if len(data) > MOST_RECORD_BYTES:
        raise RegistryFault(
            f"registry record unreadable: {len(data)} bytes, and {MOST_RECORD_BYTES} is the most: remove some rules"
        )
    try:
        org = _from_before(_before_decoder.decode(data)) if _is_from_before(data) else _org_decoder.decode(data)
        check_org_name(org.org)
    # What a field that nobody knows holds may be nested deeper than a decoder goes.
    except (msgspec.DecodeError, UnicodeError, RecursionError, RegistryFault) as error:
        raise RegistryFault(f"registry record unreadable: {str(error)[:_LONGEST_REASON]}") from None
    if problem := money_problem(org.budgets, org.prices):
        raise RegistryFault(f"registry record unreadable: {problem.text}")
    return org


def _is_from_before(data: bytes | str) -> bool:
    found = (b'"key_sha256"' in data) if isinstance(data, bytes) else ('"key_sha256"' in data)
    # A rule may have that text for a feature.
    return found and _key_decoder.decode(data).key_sha256 is not msgspec.UNSET


def _from_before(record: _OrgBefore) -> Org:
    return Org(
        org=record.org,
        version=record.version,
        enabled=record.enabled,
        keys=(Key(name=DEFAULT_KEY, sha256=record.key_sha256),),
        azure=(record.azure,) if record.azure else (),
        drain_features=record.drain_features,
    )


def version_of(data: bytes | str | None) -> int:
    """A version as Redis holds it; 0 where there is none, or something else stands in its place."""
    try:
        return int(data or 0)
    except ValueError:
        return 0


def new_key() -> str:
    """A fresh organisation key: 256 random bits behind the prefix."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def shown_of(key: str) -> str:
    """The first characters of a key, by which people recognise it: 36 of its 256 random bits."""
    return key[: len(KEY_PREFIX) + 6]


def hash_key(key: str) -> str:
    """SHA-256, hex. A slow hash would add nothing: the key has 256 random bits, so there is nothing to guess."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def same_hash(left: str, right: str) -> bool:
    """Compare two key hashes in constant time."""
    return hmac.compare_digest(left, right)


def check_org_name(name: str) -> str:
    """The name if it is one; raises RegistryFault. Names appear in URLs, SQL filters and file names."""
    if not _ORG_NAME.fullmatch(name):
        raise RegistryFault(
            f"org name {name!r}: use 1-63 of a-z 0-9 . _ - and start with a letter or digit, like 'acme' or 'acme-eu'"
        )
    return name
