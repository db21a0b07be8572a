"""From an origin to a connection: addresses, TCP, a proxy where one is set, TLS.

Addresses are asked for again after a while, tried one beside the other (Happy Eyeballs, RFC 8305), and the last known
ones serve on when the resolver fails. Raises ProviderUnreachable.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohappyeyeballs

from gateway.faults import ProviderUnreachable
from gateway.transport.connection import Connection
from gateway.transport.proxies import Proxies, Proxy
from shared import counters
from shared.environment import SettingsFault

_NEXT_ADDRESS_S: Final = 0.25
"""RFC 8305's recommended wait before the next address is tried beside the first."""
_MOST_NAMES: Final = 4096
_LONGEST_PROXY_ANSWER_BYTES: Final = 16 * 1024
_CONNECTED: Final = b" 200"
_ORIGIN: Final = re.compile(r"(?i:https?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


class Origin(NamedTuple):
    """Scheme, host and port of a provider; `netloc` as the URL has it, for the Host field."""

    scheme: str
    host: str
    port: int
    netloc: str

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Read `https://host[:port]`. Raises ValueError for anything else."""
        if not _ORIGIN.fullmatch(url):
            raise ValueError("an origin is https://host[:port]")
        parts = urlsplit(url)
        return cls(
            parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), parts.netloc
        )


def tls_context(ca_file: str) -> ssl.SSLContext:
    """TLS towards providers: certificate and name are verified. Raises SettingsFault."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsFault(f"LECTR_UPSTREAM_CA_FILE={ca_file!r}: not a readable PEM file ({error})") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections."""

    def __init__(
        self, *, tls: ssl.SSLContext, proxies: Proxies, connect_timeout_s: float, dns_refresh_s: float
    ) -> None:
        self._tls = tls
        self._proxies = proxies
        self._connect_timeout_s = connect_timeout_s
        self._dns_refresh_s = dns_refresh_s
        self._addresses: dict[tuple[str, int], tuple[float, Sequence[aiohappyeyeballs.AddrInfoType]]] = {}

    async def dial(self, origin: Origin) -> Connection:
        """A new connection to the origin. Raises ProviderUnreachable."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._dial(origin)
        except TimeoutError:
            raise _unreachable("timeout", "the provider did not accept a connection in time") from None
        except ssl.SSLError as error:
            raise _unreachable("tls", f"TLS failed ({error.reason or 'certificate not accepted'})") from None
        except OSError:
            raise _unreachable("tcp", "TCP connection failed") from None
        counters.upstream_connections.inc()
        return connection

    async def _dial(self, origin: Origin) -> Connection:
        proxy = self._proxies.of(origin.scheme, origin.host, origin.port)
        connected = await self._connect(*(proxy.host, proxy.port) if proxy else (origin.host, origin.port))
        loop = asyncio.get_running_loop()
        try:
            if proxy and origin.scheme == "https":
                await _ask_for_tunnel(connected, origin, proxy)
            secured = origin.scheme == "https"
            _, connection = await loop.create_connection(
                lambda: Connection(loop),
                sock=connected,
                ssl=self._tls if secured else None,
                server_hostname=origin.host if secured else None,
            )
        except BaseException:
            connected.close()
            raise
        if proxy and origin.scheme == "http":
            connection.target_prefix = f"http://{origin.netloc}".encode("ascii")
            connection.proxy_lines = proxy.lines
        return connection

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolve(host, port)
        connected = await aiohappyeyeballs.start_connection(list(addresses), happy_eyeballs_delay=_NEXT_ADDRESS_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connected

    async def _resolve(self, host: str, port: int) -> Sequence[aiohappyeyeballs.AddrInfoType]:
        """The addresses of a name, at most `dns_refresh_s` old while the resolver answers."""
        loop = asyncio.get_running_loop()
        known = self._addresses.get((host, port))
        if known is not None and loop.time() - known[0] < self._dns_refresh_s:
            return known[1]
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # two dots in a row are no name that anybody could be asked about
            if known is None:
                raise _unreachable("dns", "the provider could not be reached (its name did not resolve)") from None
            counters.upstream_connect_faults.labels("dns_stale").inc()
            return known[1]
        if len(self._addresses) >= _MOST_NAMES:
            self._addresses.clear()
        self._addresses[host, port] = (loop.time(), found)
        return found


def _unreachable(reason: str, message: str) -> ProviderUnreachable:
    counters.upstream_connect_faults.labels(reason).inc()
    return ProviderUnreachable(message)


async def _ask_for_tunnel(connected: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """CONNECT through the proxy. Its refusal is a ProviderUnreachable that names its status."""
    loop = asyncio.get_running_loop()
    authority = f"{f'[{origin.host}]' if ':' in origin.host else origin.host}:{origin.port}".encode("ascii")
    head = b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + proxy.lines + b"\r\n\r\n"
    await loop.sock_sendall(connected, head)
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = await loop.sock_recv(connected, 4096)
        answer += received
        if not received or len(answer) > _LONGEST_PROXY_ANSWER_BYTES:
            raise _unreachable("proxy", "the HTTP proxy closed the connection or sent no valid answer to CONNECT")
    status = answer.partition(b"\r\n")[0][8:12]
    if status != _CONNECTED or not answer.endswith(b"\r\n\r\n"):
        raise _unreachable("proxy", f"the HTTP proxy refused CONNECT with{status.decode('latin-1')}")
