"""The admin HTTP API as a process on a Redis of the tests' own, and how to ask it."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from tests.parts import Part, clean_environ, python, running, start_redis
from tests.registry_operator import Operator, mark_whole

SECRET = "velvet-harbour-admin-secret"
PREFIX = "/api/v1"


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Message
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def code(self) -> str:
        """The error's code."""
        found: str = self.json["error"]["code"]
        return found

    @property
    def told(self) -> tuple[int, str, str | None]:
        """Status, code and field of an error."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "code", "field"}
        assert error["message"]
        return self.status, error["code"], error["field"]


@dataclass
class AdminApi:
    """A running API."""

    process: Part
    redis_url: str
    redis: Part | None = None
    """Where it has one of its own."""
    url: str = ""
    written: list[bytes] = field(default_factory=list)
    """All that it answered."""

    def wait(self) -> "AdminApi":
        self.url = self.process.url_in("lectr dashboard listening")
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def ask(self, method: str, path: str, body: Any = None, *, secret: str | None = SECRET, **headers: str) -> Reply:
        """One request; `body` as JSON unless it is bytes, header names with _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if secret is not None:
            sent.setdefault("Authorization", f"Bearer {secret}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body=data, headers=sent)
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        finally:
            connection.close()
        self.written.append(str(reply.headers).encode() + reply.data)
        return reply

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """One request below the prefix that must succeed; its JSON."""
        reply = self.ask(method, PREFIX + path, body, **more)
        assert reply.status in {200, 201, 204}, reply.data
        return reply.json if reply.data else None

    def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str, str | None]:
        """One request below the prefix that must not; status, code and field."""
        return self.ask(method, PREFIX + path, body, **more).told

    def operator(self) -> Operator:
        """Another way to the same registry."""
        return Operator(self.redis_url)


def start_api(directory: Path, redis_url: str, **settings: str) -> AdminApi:
    """Start it; it may not be serving yet."""
    environ = {
        "LECTR_LISTEN": "127.0.0.1:0",
        "LECTR_REDIS_URL": redis_url,
        "LECTR_ADMIN_SECRET": SECRET,
        "LECTR_ADMIN_REQUESTS_PER_S": "100000",
        **settings,
    }
    part = Part("dashboard", python("dashboard", "serve"), clean_environ(**environ), directory / "logs")
    return AdminApi(part, redis_url)


@contextlib.contextmanager
def admin_apis(directory: Path, **settings: str) -> Iterator[AdminApi]:
    """A Redis and an API that serves; both end with the block."""
    redis, redis_url = start_redis(directory / "redis")
    mark_whole(redis_url)
    with running(redis):
        api = start_api(directory, redis_url, **settings)
        api.redis = redis
        with running(api.process):
            yield api.wait()
