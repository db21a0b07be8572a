"""Which HTTP proxy a provider is reached through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as every tool reads them.

In: the environment's variables. Out: per origin a Proxy or None. Raises SettingsFault for a proxy of an unknown kind.
"""

import base64
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # typeshed leaves it out

import msgspec

from shared.environment import Secret, SecretUrl, SettingsFault

_DEFAULT_PORT: Final = 80


class Proxy(msgspec.Struct, frozen=True):
    """Where the proxy is, and what it wants to be told."""

    host: str
    port: int
    authorization: Secret | None = None
    """Value of Proxy-Authorization."""

    @property
    def lines(self) -> bytes:
        """Header lines for the proxy, each with its CRLF before it."""
        if self.authorization is None:
            return b""
        return b"\r\nProxy-Authorization: " + self.authorization.reveal().encode("ascii")


class Proxies:
    """The proxies of an environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._proxies: dict[str, Proxy] = {}
        for scheme in ("http", "https"):
            # Upper case HTTP_PROXY alone is refused by CGI programs, where a client can set it; this is none.
            name = next((n for n in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY") if environ.get(n)), "")
            if name:
                self._proxies[scheme] = _proxy(environ[name], name)
        self._bypassed = {"no": environ.get("no_proxy") or environ.get("NO_PROXY") or ""}

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy to ask for this origin, None to go there directly."""
        proxy = self._proxies.get(scheme)
        if proxy is None or proxy_bypass_environment(f"{host}:{port}", self._bypassed):
            return None
        return proxy


def _proxy(value: str, name: str) -> Proxy:
    shown = SecretUrl(value)
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        raise SettingsFault(f"{name}={shown}: not a URL; expected http://HOST:PORT") from None
    if parts.scheme != "http" or not host:
        raise SettingsFault(f"{name}={shown}: only http:// proxies are spoken to (TLS goes through them by CONNECT)")
    if parts.username is None:
        return Proxy(host, port)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port, Secret("Basic " + base64.b64encode(user.encode()).decode("ascii")))
