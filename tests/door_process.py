"""The ClickHouse door as a process of its own, and raw HTTP to it as curl would speak."""

import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.parts import Part, clean_environ, python


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> int:
        """The ClickHouse error code; 0 without one."""
        return int(self.headers.get("X-ClickHouse-Exception-Code", "0"))

    @property
    def written_rows(self) -> int:
        return int(json.loads(self.headers["X-ClickHouse-Summary"])["written_rows"])


class DoorProcess:
    """A running door."""

    def __init__(self, directory: Path, *options: str, command: Sequence[str] = ()) -> None:
        arguments = ("--data", str(directory / "store"), "--listen", "127.0.0.1:0", *options)
        full = [*(command or python("deploy.local.clickhouse")), *arguments]
        self.part = Part("door", full, clean_environ(), directory / "logs")
        self.url = self.part.url_in("listening on")
        self.host, self.port = self.url.removeprefix("http://").split(":")

    def ask(
        self,
        body: bytes | str | None = None,
        given: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> Reply:
        """One request on a connection of its own."""
        parameters.update(given or {})
        target = f"{path}?{urllib.parse.urlencode(parameters)}" if parameters else path
        sent = body.encode() if isinstance(body, str) else body
        with closing(http.client.HTTPConnection(self.host, int(self.port), timeout=30)) as connection:
            connection.request(method, target, sent, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, {**response.headers}, response.read())

    def select(self, query: str, **parameters: str) -> str:
        """The result of a query that must work, as tab-separated text without the last line end."""
        reply = self.ask(query, parameters)
        assert reply.status == 200, reply.text
        return reply.text.removesuffix("\n")

    def do(self, *queries: str) -> None:
        """Statements that must work."""
        for query in queries:
            self.select(query)
