"""A TCP relay before ClickHouse that loses answers of inserts that were applied, or swallows inserts.

It lives in a thread of its own. `lose` and `swallow` say of how many inserts it is still to do that.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_READ_BYTES = 1 << 20
_ANSWER_S = 20.0
_OF_AN_INSERT = b"insert_deduplication_token"


class DoorRelay:
    """A running relay; made by `door_relay`."""

    def __init__(self, clickhouse_url: str) -> None:
        parts = urlsplit(clickhouse_url)
        self._door = (parts.hostname or "127.0.0.1", parts.port or 8123)
        self.url = ""
        self.lose = 0
        self.lost: list[bytes] = []
        """The first lines of the answers that were lost."""
        self.swallow = 0
        self.swallowed = 0
        """Inserts that were read and not passed on; their connections stay until `cut`."""
        self.hold = 0
        self.held = 0
        """Inserts of which the beginning of the head was passed on; the rest follows after `go_on`."""
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._cut: asyncio.Event
        self._go_on: asyncio.Event

    async def run(self) -> None:
        """Relay until stopped."""
        self._loop, self._stop, self._cut = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._go_on = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()

    def wait_started(self) -> None:
        assert self._started.wait(_ANSWER_S), "the relay did not start"

    def cut(self) -> None:
        """Close the connections of swallowed inserts."""
        self._loop.call_soon_threadsafe(self._cut.set)

    def go_on(self) -> None:
        """Pass on what was held."""
        self._loop.call_soon_threadsafe(self._go_on.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Either side may be gone at any moment: for a relay that is no error. Nor is its own end.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                door_reader, door_writer = await asyncio.open_connection(*self._door)
                try:
                    await self._both_ways(reader, writer, door_reader, door_writer)
                finally:
                    door_writer.transport.abort()
            finally:
                writer.transport.abort()

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        door_reader: asyncio.StreamReader,
        door_writer: asyncio.StreamWriter,
    ) -> None:
        losing = False

        async def forth() -> None:
            nonlocal losing
            while data := await reader.read(_READ_BYTES):
                if self.swallow and _OF_AN_INSERT in data:
                    self.swallow -= 1
                    self.swallowed += 1
                    await self._cut.wait()
                    return
                if self.hold and _OF_AN_INSERT in data:
                    self.hold -= 1
                    self.held += 1
                    # ClickHouse knows nothing of it before its head has ended.
                    begun = data.index(_OF_AN_INSERT)
                    door_writer.write(data[:begun])
                    await self._go_on.wait()
                    door_writer.write(data[begun:])
                    continue
                if self.lose and not losing and _OF_AN_INSERT in data:
                    self.lose -= 1
                    losing = True
                door_writer.write(data)
                await door_writer.drain()

        async def back() -> None:
            while data := await door_reader.read(_READ_BYTES):
                if losing:
                    self.lost.append(data.partition(b"\r\n")[0])
                    return
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


@contextlib.contextmanager
def door_relay(clickhouse_url: str) -> Iterator[DoorRelay]:
    """A relay before that ClickHouse, stopped with the block."""
    relay = DoorRelay(clickhouse_url)
    thread = threading.Thread(target=lambda: asyncio.run(relay.run()), name="door relay")
    thread.start()
    relay.wait_started()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(_ANSWER_S)
