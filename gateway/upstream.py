"""The gateway's side towards the providers: a request's head and body out, the answer's bytes back, nothing changed.

The interface is narrow on purpose (`Upstream.open`, `Answer`): it says what a transport must do; nothing of aiohttp's
client leaks through it. Never follows a redirect, never retries, never decodes a body, keeps no cookies.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.faults import InvalidRequest, ProviderStalled, ProviderTimeout, ProviderTruncated, ProviderUnreachable
from shared.environment import SettingsFault

RawHeaders = Sequence[tuple[bytes, bytes]]

_IDLE_CONNECTION_S: Final = 15
"""Providers close idle connections after 60 s and more; leaving earlier avoids writing into a closing one."""
_READ_BYTES: Final = 256 * 1024
_LONGEST_HEAD_LINE_BYTES: Final = 64 * 1024


class Answer:
    """A provider's answer whose head has arrived."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout_s: float) -> None:
        self._response = response
        self._closed: asyncio.Future[None] | None = None
        self.status = response.status
        self.reason = response.reason or ""
        self.raw_headers: RawHeaders = response.raw_headers
        protocol = response.connection.protocol if response.connection is not None else None
        if protocol is not None:
            protocol.read_timeout = idle_timeout_s
            # Setting it does not start it anew: the first silence after the head counts too.
            protocol.start_timeout()
            self._closed = protocol.closed
        if self._closed is not None:
            # A body with malformed chunking closes the connection, but nobody tells its reader.
            self._closed.add_done_callback(self._connection_closed)
            # Kept on the connection, once: what it ended with counts as seen.
            self._closed.remove_done_callback(_seen)
            self._closed.add_done_callback(_seen)

    def _connection_closed(self, _closed: object) -> None:
        if not self._response.content.is_eof():
            self._response.content.set_exception(aiohttp.ClientPayloadError("the connection closed inside the body"))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises ProviderTruncated, ProviderStalled."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError:
            raise ProviderStalled("no byte within the idle timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderTruncated(type(error).__name__) from None

    def close(self) -> None:
        """Give the connection back if the answer was read to its end; otherwise cut it, so the provider stops."""
        if self._closed is not None:
            self._closed.remove_done_callback(self._connection_closed)
        self._response.close()


class Upstream:
    """Connections to the providers. Use as an async context manager."""

    def __init__(
        self, *, connect_timeout_s: float, first_byte_timeout_s: float, idle_timeout_s: float, ca_file: str
    ) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=first_byte_timeout_s, ceil_threshold=60
        )
        self._tls: ssl.SSLContext | bool = True
        if ca_file:
            try:
                self._tls = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise SettingsFault(f"LECTR_UPSTREAM_CA_FILE={ca_file!r}: not a readable PEM file ({error})") from None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_CONNECTION_S, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=self._timeout,
            read_bufsize=_READ_BYTES,
            max_line_size=_LONGEST_HEAD_LINE_BYTES,
            max_field_size=_LONGEST_HEAD_LINE_BYTES,
        )
        # aiohttp would send GET, PUT and DELETE again by itself when a connection breaks.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def open(
        self, method: str, url: str, headers: RawHeaders, body: bytearray | AsyncIterator[bytes | bytearray] | None
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        `headers` carry Host and, for a body of known length, Content-Length; a stream without one goes out chunked.
        Raises ProviderUnreachable, ProviderTimeout, InvalidRequest.
        """
        if self._session is None:
            raise RuntimeError("Upstream is used outside its context")
        head: CIMultiDict[str] = CIMultiDict()
        for name, value in headers:
            try:
                head.add(name.decode("ascii"), value.decode("utf-8"))
            except UnicodeDecodeError:
                raise InvalidRequest(
                    f"request header {name!r} is not UTF-8; send it as UTF-8 or percent-encoded"
                ) from None
        try:
            response = await self._session.request(
                method, URL(url, encoded=True), headers=head, data=body, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError:
            raise ProviderUnreachable("the provider did not accept a connection in time") from None
        except TimeoutError:
            raise ProviderTimeout(
                "the provider sent no answer in time; LECTR_FIRST_BYTE_TIMEOUT_S sets the limit"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise ProviderUnreachable(f"the provider could not be reached ({_cause(error)})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderUnreachable(f"the connection broke before an answer ({type(error).__name__})") from None
        return Answer(response, self._idle_timeout_s)


def _seen(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def _cause(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name did not resolve"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    return "TCP connection failed"
