"""What is measured, and the upstream it stands in front of: how to start nginx and a bare aiohttp proxy."""

import contextlib
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.installation import Installation
from tests.bench.orders import JsonOrder, StreamOrder
from tests.bench.payloads import json_request, stream_request
from tests.bench.processes import Cores, on_core
from tests.parts import Part, clean_environ, free_port, python, running, wait_until

PATH = "/v1/chat/completions"
_BASE_FIELDS = {
    "Authorization": "Bearer sk-bench-0123456789",
    "Content-Type": "application/json",
    "Accept": "application/json",
    "User-Agent": "OpenAI/Python 3.54.0",
}
_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Target:
    """Something that answers, and how to ask it."""

    name: str
    url: str
    pid: int | None = None
    """The gateway process; None where there is none."""
    fields: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True
    """It passes the provider's bytes on unchanged; False for gateways that write answers anew."""
    effort: float = 1.0
    """Share of the requests that it gets: slow gateways would take minutes for the whole number."""
    most_streams: int = 1_000_000
    """More at once than this it takes minutes for."""
    levels: tuple[int, ...] = ()
    """Numbers of streams to try instead of the plan's."""
    installation: Installation | None = None

    def json(self, requests: int, connections: int, order: str = "") -> JsonOrder:
        host, port = self.address
        return JsonOrder(
            host=host,
            port=port,
            request=self.request(json_request(order)),
            exact=self.exact,
            connections=connections,
            requests=requests,
            deadline_s=_DEADLINE_S,
        )

    def streams(self, streams: int, events: int, interval_ms: int, *, ramp_ms: int, deadline_s: float) -> StreamOrder:
        host, port = self.address
        return StreamOrder(
            host=host,
            port=port,
            request=self.request(stream_request(events, interval_ms)),
            exact=self.exact,
            streams=streams,
            events=events,
            ramp_ms=ramp_ms,
            deadline_s=deadline_s,
        )

    def request(self, body: bytes) -> bytes:
        """A whole request with this body."""
        host, port = self.address
        fields = {"Host": f"{host}:{port}", **_BASE_FIELDS, **self.fields, "Content-Length": str(len(body))}
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port


def serves(port: int) -> bool:
    """Whether someone accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def start_upstream(folder: Path, cores: Cores) -> Iterator[Part]:
    with on_core(cores.load):
        part = Part("upstream", python("tests.bench.upstream"), clean_environ(), folder)
    with running(part):
        part.line_with("listening on")
        yield part


NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
error_log {folder}/nginx-error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream provider {{
    server {upstream};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def nginx_binary() -> str | None:
    # Debian keeps it where an ordinary user's PATH does not look.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def start_nginx(folder: Path, cores: Cores, upstream_url: str) -> Iterator[Target]:
    binary = nginx_binary()
    assert binary
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=urlsplit(upstream_url).netloc, port=port))
    with on_core(cores.gateway):
        part = Part("nginx", [binary, "-c", str(config), "-p", str(folder)], clean_environ(), folder)
    with running(part):

        def look() -> bool:
            assert part.process.poll() is None, f"nginx ended: {part.output[-1000:]}"
            return serves(port)

        wait_until(look)
        yield Target("nginx", f"http://127.0.0.1:{port}", part.process.pid, effort=4)


@contextlib.contextmanager
def start_bare(folder: Path, cores: Cores, upstream_url: str) -> Iterator[Target]:
    with on_core(cores.gateway):
        part = Part("bare", python("tests.bench.bare_proxy", upstream_url), clean_environ(), folder)
    with running(part):
        yield Target("bare aiohttp", part.url_in("listening on"), part.process.pid)
