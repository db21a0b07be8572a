"""From a name to a connection: addresses, TLS, proxies; each against a real socket."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.faults import ProviderUnreachable
from gateway.transport.dial import Dialer, Origin, tls_context
from gateway.transport.proxies import Proxies
from gateway.upstream import origin_of
from shared.environment import SettingsFault
from tests.parts import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def dialer(
    environ: dict[str, str] | None = None, *, ca_file: str = "", timeout_s: float = 5, refresh_s: float = 30
) -> Dialer:
    return Dialer(
        tls=tls_context(ca_file),
        proxies=Proxies(environ or {}),
        connect_timeout_s=timeout_s,
        dns_refresh_s=refresh_s,
    )


@asynccontextmanager
async def server(serve: Serve, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[int]:
    """A server for as long as the block runs; its port."""
    serving: set[asyncio.Task[Any]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(tracked, host, 0, **options)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost, and a server's context with it."""
    crt, key = folder / "crt.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(crt)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(crt, key)
    return crt, context


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://api.openai.com/v1/x?y=/z", ("https", "api.openai.com", 443), "/v1/x?y=/z"),
        ("http://[::1]:8080/v1", ("http", "::1", 8080), "/v1"),
        ("http://h?x=1", ("http", "h", 80), "/?x=1"),
        ("http://h", ("http", "h", 80), "/"),
    ],
)
def test_a_url_is_origin_and_target(url: str, origin: tuple[str, str, int], target: str) -> None:
    """Scheme, host and port choose the connection; what follows goes out as it is."""
    found, rest = origin_of(url)
    assert (found.scheme, found.host, found.port) == origin
    assert rest == target.encode()


async def test_the_second_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dead address and a living one connects."""
    async with server(ignore) as port:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", free_port())),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

        async def answer(*_: Any, **__: Any) -> Any:
            return addresses

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
        connection = await dialer().dial(Origin("http", "two.example", port, "two.example"))
        assert connection.alive
        connection.abort()


async def test_ipv6() -> None:
    """An IPv6 literal is an address like any other."""
    async with server(ignore, "::1") as port:
        connection = await dialer().dial(Origin.of(f"http://[::1]:{port}"))
        assert connection.alive
        connection.abort()


async def test_a_failing_resolver_leaves_the_last_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that were known stay usable while the resolver fails; unknown ones are an error that says so."""
    async with server(ignore) as port:
        dials = dialer(refresh_s=0)
        origin = Origin("http", "localhost", port, "localhost")
        (await dials.dial(origin)).abort()

        async def fail(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_AGAIN, "down")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        (await dials.dial(origin)).abort()
        with pytest.raises(ProviderUnreachable, match="name did not resolve"):
            await dials.dial(Origin("http", "other.example", port, "other.example"))


async def test_tls_is_verified(tmp_path: Path) -> None:
    """A provider's certificate must be signed by a known authority and carry its name."""
    crt, context = certificate(tmp_path)
    async with server(ignore, ssl=context) as port:
        trusting = dialer(ca_file=str(crt))
        connection = await trusting.dial(Origin.of(f"https://localhost:{port}"))
        assert connection.alive
        connection.abort()
        with pytest.raises(ProviderUnreachable, match="TLS failed"):
            await trusting.dial(Origin.of(f"https://127.0.0.1:{port}"))
        with pytest.raises(ProviderUnreachable, match="TLS failed"):
            await dialer().dial(Origin.of(f"https://localhost:{port}"))


async def test_a_silent_server_times_out() -> None:
    """A TLS handshake that is never answered ends with the connect timeout."""
    async with server(ignore) as port:
        with pytest.raises(ProviderUnreachable, match="in time"):
            await dialer(timeout_s=0.2).dial(Origin.of(f"https://127.0.0.1:{port}"))


async def test_connect_through_a_proxy(tmp_path: Path) -> None:
    """HTTPS goes through an HTTP proxy by CONNECT, with its user and password; the proxy sees nothing else."""
    crt, context = certificate(tmp_path)
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", provider_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pass_on(reader, to_writer), pass_on(to_reader, writer))
        finally:
            to_writer.transport.abort()

    async with server(ignore, ssl=context) as provider_port, server(proxy) as proxy_port:
        environ = {"https_proxy": f"http://user:p%40ss@127.0.0.1:{proxy_port}"}
        connection = await dialer(environ, ca_file=str(crt)).dial(Origin.of("https://localhost:4433"))
        assert connection.alive
        connection.abort()
    assert heads == [
        b"CONNECT localhost:4433 HTTP/1.1\r\nHost: localhost:4433\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n"
    ]


async def test_a_proxy_that_refuses() -> None:
    """A refused CONNECT is a provider that cannot be reached, with the proxy's status in the message."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with server(refuse) as port:
        dials = dialer({"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with pytest.raises(ProviderUnreachable, match="refused CONNECT with 407"):
            await dials.dial(Origin.of("https://api.openai.com"))


async def test_plain_http_through_a_proxy() -> None:
    """Plain HTTP asks the proxy with the whole URL."""
    async with server(ignore) as port:
        dials = dialer({"HTTP_PROXY": f"http://u:p@127.0.0.1:{port}"})
        connection = await dials.dial(Origin.of("http://provider.example:8000"))
        assert connection.target_prefix == b"http://provider.example:8000"
        assert connection.proxy_lines == b"\r\nProxy-Authorization: Basic dTpw"
        connection.abort()


@pytest.mark.parametrize(
    ("no_proxy", "host", "bypassed"),
    [
        ("api.openai.com", "api.openai.com", True),
        (".openai.com", "api.openai.com", True),
        ("openai.com,localhost", "api.openai.com", True),
        ("*", "api.openai.com", True),
        ("api.openai.com:443", "api.openai.com", True),
        ("other.com", "api.openai.com", False),
        ("", "api.openai.com", False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, *, bypassed: bool) -> None:
    """NO_PROXY lists hosts, domains and host:port pairs that are reached directly."""
    proxies = Proxies({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    assert (proxies.of("https", host, 443) is None) == bypassed


@pytest.mark.parametrize("value", ["https://u:secret@proxy:3128", "socks5://u:secret@proxy", "http://u:secret@proxy:x"])
def test_a_proxy_of_another_kind_is_refused(value: str) -> None:
    """A proxy that cannot be spoken to stops the start, named, without its password."""
    with pytest.raises(SettingsFault, match="https_proxy") as fault:
        Proxies({"https_proxy": value})
    assert "secret" not in str(fault.value)
