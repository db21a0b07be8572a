"""Who is asking: user and password as ClickHouse clients send them, compared in constant time.

In: headers and parameters. Out: nothing, or a DoorFault 516. Never logs; never shows what was sent.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from deploy.local.clickhouse.faults import DoorFault, access_denied
from shared.environment import Secret


@dataclass(frozen=True)
class Account:
    """The door's one user. An empty password is allowed on loopback only."""

    user: str
    password: Secret

    @property
    def open_to_all(self) -> bool:
        """No password is asked for."""
        return not self.password.reveal()


def authenticate(account: Account, headers: Mapping[str, str], parameters: Mapping[str, str]) -> None:
    """Check the credentials. Raises 516; without any credentials sent, the answer also asks a browser for them."""
    if account.open_to_all:
        _refuse_other_sites(headers)
    sent = _credentials(headers, parameters)
    user, password = sent or ("default", "")
    same_user = hmac.compare_digest(_bytes(user), account.user.encode())
    same_password = hmac.compare_digest(_bytes(password), account.password.reveal().encode())
    if not (same_user and same_password):
        raise DoorFault(
            516,
            "AUTHENTICATION_FAILED",
            "Authentication failed: password is incorrect, or there is no user with such name.",
            ask_for_password=sent is None,
        )


def _bytes(sent: str) -> bytes:
    """Headers may hold any byte."""
    return sent.encode("utf-8", "surrogateescape")


def _credentials(headers: Mapping[str, str], parameters: Mapping[str, str]) -> tuple[str, str] | None:
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if scheme:
        return "", ""
    if "user" in parameters or "password" in parameters:
        return parameters.get("user", "default"), parameters.get("password", "")
    return None


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Without a password, a web page in the user's browser must not be able to send queries here.

    A page of another site shows itself by its Origin; one that made its own name point here (DNS rebinding) by Host.
    """
    named = [f"//{headers.get('Host', '')}", *([headers["Origin"]] if "Origin" in headers else [])]
    if not all(is_loopback(_host_of(url)) for url in named):
        raise access_denied("Without a password only this machine is served; start the door with --password-file.")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
