"""Clients that send plain and streamed requests at a given rate, and remember every answer they got whole.

Each request carries a name of its own as its task, so that whoever reads the table can say what became of it.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp

from tests.canaries import provider_key
from tests.lectr import chat
from tests.parts import wait_until

_MOST_OPEN = 96
_PATIENCE_S = 60.0
_FEATURES = ("search", "chat", "")
DONE = b"data: [DONE]"


class Load:
    """A crowd of clients in a thread of its own."""

    def __init__(self, name: str, urls: Sequence[str], key: str, rate_per_s: float, padding: str = "") -> None:
        self.name = name
        self.answered: dict[str, int] = {}
        """Request -> status, of answers that came whole."""
        self.broken: set[str] = set()
        """Sent, and the connection ended before the answer did."""
        self.refused = 0
        """Nobody listened."""
        self.hung: set[str] = set()
        self.wrong: list[str] = []
        """Answers that came whole and are not what the provider sends."""
        self._urls = urls
        self._head = {
            "X-Lectr-Key": key,
            "Authorization": f"Bearer {provider_key('faults')}",
            "Content-Type": "application/json",
        }
        self._rate_per_s = rate_per_s
        self._padding = padding
        """At the end of every request's name and feature, so that events are larger."""
        self._number = 0
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="load")

    @property
    def sent(self) -> int:
        """Requests that somebody may have read."""
        return len(self.answered) + len(self.broken) + len(self.hung)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait for what is under way."""
        with contextlib.suppress(RuntimeError):  # it has ended on its own
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(2 * _PATIENCE_S)
        assert not self._thread.is_alive(), "the load does not end"

    def wait_answered(self, more: int, deadline_s: float = 60.0) -> None:
        """Until so many more answers came."""
        target = len(self.answered) + more
        wait_until(lambda: len(self.answered) >= target, deadline_s=deadline_s)

    def _main(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=self._head, timeout=timeout, connector=connector) as session:
            next_s = self._loop.time()
            while not self._stop.is_set():
                next_s = max(next_s + 1 / self._rate_per_s, self._loop.time() - 1)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), max(next_s - self._loop.time(), 0))
                if len(self._open) < _MOST_OPEN:
                    task = asyncio.create_task(self._ask(session, self._number))
                    self._number += 1
                    self._open.add(task)
                    task.add_done_callback(self._open.discard)
            await asyncio.gather(*self._open)

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        task, stream = f"{self.name}-{number:07d}{self._padding}", number % 2 == 0
        feature = f"{_FEATURES[number % len(_FEATURES)]}{self._padding}"
        head = {"X-Lectr-Task": task, **({"X-Lectr-Feature": feature} if feature else {})}
        body = json.dumps(chat(stream=stream)).encode()
        url = f"{self._urls[number % len(self._urls)]}/v1/chat/completions"
        try:
            async with session.post(url, data=body, headers=head) as answer:
                text = await answer.read()
                self.answered[task] = answer.status
                if not _is_whole(answer.status, text, stream=stream):
                    self.wrong.append(f"{task}: {answer.status} {text[-200:]!r}")
        except aiohttp.ClientConnectorError:
            self.refused += 1
        except TimeoutError:
            self.hung.add(task)
        except (aiohttp.ClientError, OSError):
            self.broken.add(task)


def _is_whole(status: int, text: bytes, *, stream: bool) -> bool:
    if status != 200:
        return bool(text)
    if stream:
        return DONE in text
    with contextlib.suppress(ValueError):
        answer: Any = json.loads(text)
        return "usage" in answer
    return False


@contextlib.contextmanager
def loading(
    name: str, urls: Sequence[str], key: str, rate_per_s: float = 150.0, *, padding: str = ""
) -> Iterator[Load]:
    """A load, stopped with the block."""
    load = Load(name, urls, key, rate_per_s, padding)
    load.start()
    try:
        yield load
    finally:
        load.stop()
