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

KEY_PREFIX: Final = "lc_key_"
ORGS_KEY: Final = "lectr:registry:orgs"
"""Hash: organisation name -> Org as JSON."""
VERSION_KEY: Final = f"{{{ORGS_KEY}}}:version"
"""Highest version written so far; polled to notice a missed push. Its hash tag puts it into the slot of ORGS_KEY."""
CHANGES_CHANNEL: Final = "lectr:registry:changes"
"""Pub/sub: a changed Org as JSON, pushed at once."""
_ORG_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class RegistryFault(ValueError):
    """A registry value that cannot be used; the text names the field and the fix."""


class Azure(msgspec.Struct, frozen=True, kw_only=True):
    """Where an organisation's Azure OpenAI resource lives."""

    endpoint: str
    """Scheme and host, `https://NAME.openai.azure.com`, without a trailing slash."""
    api_version: str = ""
    """`2024-10-21` uses the deployments surface; empty uses the v1 surface, which needs none."""


class Org(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation. `key_sha256` is the hex digest of its key; the key itself is nowhere."""

    org: str
    key_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Unix ms of the change, raised past the previous one: it grows even if Redis lost its memory."""
    enabled: bool = True
    azure: Azure | None = None
    drain_features: tuple[str, ...] = ()
    """Features whose answers are read to their end when their client leaves, so that usage is exact; `*` is all."""


_org_decoder = msgspec.json.Decoder(Org)


def encode_org(org: Org) -> bytes:
    """An Org as the JSON that Redis holds."""
    return msgspec.json.encode(org)


def decode_org(data: bytes | str) -> Org:
    """Read an Org; raises RegistryFault if it is none."""
    try:
        return _org_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryFault(f"registry record unreadable: {error}") from None


def new_key() -> str:
    """A fresh organisation key: 256 random bits behind the prefix."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


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
