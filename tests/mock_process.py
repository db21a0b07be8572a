"""The mock providers as a process of its own, for tests: start, order behaviours, read what was received, stop.

Use as `with mock_process() as mock:`; one process per module is enough, with `mock.reset()` before each test.
"""

import base64
import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.parts import PATIENCE_S, ROOT, wait_until

START_S = 20.0


class MockProcess:
    """A running mock; `url` is its root, `url + "/openai/v1"` and so on are what an SDK wants."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url = url
        self.process = process
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))

    def behave(self, **order: Any) -> int:
        """Order a behaviour and return its id."""
        return int(self._control("POST", "behaviour", order)["id"])

    def reset(self) -> None:
        """Forget all behaviours and records."""
        self._control("DELETE", "behaviour")
        self._control("DELETE", "requests")

    def requests(self) -> list[dict[str, Any]]:
        """Return the received requests, oldest first."""
        records: list[dict[str, Any]] = self._control("GET", "requests")
        return records

    def hits(self) -> dict[str, int]:
        """Return how many requests each provider received."""
        counts: dict[str, int] = self._control("GET", "hits")
        return counts

    def last_body(self) -> Any:
        """Return the decoded JSON body of the last request (needs --keep-bodies)."""
        return json.loads(base64.b64decode(self.requests()[-1]["body_base64"]))

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool], *, deadline_s: float = PATIENCE_S) -> None:
        """Poll the received requests until the condition holds; fail after the deadline."""
        wait_until(lambda: condition(self.requests()), deadline_s=deadline_s, every_s=0.005)

    def _control(self, method: str, name: str, document: Any = None) -> Any:
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.url}/_mock/{name}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def mock_process(*options: str) -> Iterator[MockProcess]:
    """Start the mock on a free port with these options, and stop it at the end."""
    command = [sys.executable, "-m", "deploy.local.providers", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            ready = re.fullmatch(r"mock providers listening on (http://\S+)\n", line)
            assert ready, f"unexpected first line: {line!r}"
            yield MockProcess(ready.group(1), process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_S) == 0, "the mock did not stop cleanly"
