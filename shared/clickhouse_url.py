"""What LECTR_CLICKHOUSE_URL points to: a server's HTTP interface, an account, a database. Pure.

In: the URL. Out: a ClickHouseAddress that clients are opened with. Raises SettingsFault with the fix, never with a
secret.
"""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from shared.environment import Secret, SecretUrl, SettingsFault, check_url

_DATABASE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_DEFAULT_DATABASE: Final = "lectr"


class ClickHouseAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where ClickHouse's HTTP interface is and how to sign in."""

    interface: str
    host: str
    port: int
    user: str
    password: Secret
    database: str
    cluster: str = ""
    """Empty: a single server."""
    shown: str
    """The URL for logs and errors, secrets starred."""


def clickhouse_address(url: SecretUrl, cluster: str = "") -> ClickHouseAddress:
    """The parts of LECTR_CLICKHOUSE_URL, `http://user:pass@host:8123/lectr`. Raises SettingsFault."""
    if cluster and not _CLUSTER_NAME.fullmatch(cluster):
        raise SettingsFault(
            f"LECTR_CLICKHOUSE_CLUSTER={cluster!r}: a name in system.clusters has letters, digits, _ . and - only"
        )
    name = "LECTR_CLICKHOUSE_URL"
    check_url(url.reveal(), name, frozenset({"http", "https"}))
    parts = urlsplit(url.reveal())
    if parts.query or parts.fragment:
        raise SettingsFault(f"{name}={url!s}: nothing may follow the database, like http://user:pass@host:8123/lectr")
    database = parts.path.strip("/") or _DEFAULT_DATABASE
    if not _DATABASE_NAME.fullmatch(database):
        raise SettingsFault(f"{name}={url!s}: the path is the database, letters, digits and _ only, like /lectr")
    return ClickHouseAddress(
        interface=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        user=unquote(parts.username or "default"),
        password=Secret(unquote(parts.password or "")),
        database=database,
        cluster=cluster,
        shown=str(url),
    )
