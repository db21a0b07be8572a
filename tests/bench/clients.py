"""The clients of the load generator: raw protocols, so that what they cost is little and the same for every gateway.

Every answer is compared with what the upstream sent; the first that differs ends the run.
"""

import asyncio
import time
from typing import Final, cast

from tests.bench.answers import BadAnswer, check_completion, check_stream, read_answer
from tests.bench.orders import JsonFigures, JsonOrder, StreamFigures, StreamOrder
from tests.bench.payloads import COMPLETION

_OK: Final = b"HTTP/1.1 200 "
_PLAIN_END: Final = b"\r\n\r\n" + COMPLETION
_LAST_CHUNK: Final = b"0\r\n\r\n"


class JsonRun:
    """A closed loop: each connection sends its next request when it has the answer to its last."""

    def __init__(self, order: JsonOrder) -> None:
        self.order = order
        self.left = order.requests
        self.latencies_ns: list[int] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(self, error: Exception) -> None:
        self.left = 0
        if not self.ended.done():
            self.ended.set_exception(error)

    async def measure(self) -> JsonFigures:
        order = self.order
        connect = asyncio.get_running_loop().create_connection
        callers: list[Caller] = []
        try:
            async with asyncio.timeout(order.deadline_s):
                while len(callers) < order.connections:
                    callers.append((await connect(lambda: Caller(self), order.host, order.port))[1])
                started_ns = time.perf_counter_ns()
                for caller in callers:
                    caller.send_next()
                await self.ended
                wall_s = (time.perf_counter_ns() - started_ns) / 1e9
        finally:
            for caller in callers:
                caller.close()
        ordered = sorted(self.latencies_ns)
        return JsonFigures(
            p50_ms=ordered[len(ordered) // 2] / 1e6,
            p99_ms=ordered[len(ordered) * 99 // 100] / 1e6,
            longest_ms=ordered[-1] / 1e6,
            requests_per_s=len(ordered) / wall_s,
        )


class Caller(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, run: JsonRun) -> None:
        self._run = run
        self._request = run.order.request
        self._exact = run.order.exact
        self._received = b""
        self._started_ns = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._started_ns:
            self._run.failed(BadAnswer(f"the connection was closed inside an answer ({exc})"))
        self._transport = None

    def close(self) -> None:
        self._started_ns = 0
        if self._transport is not None:
            self._transport.abort()

    def send_next(self) -> None:
        run = self._run
        if run.left <= 0:
            return
        run.left -= 1
        if self._transport is None:
            run.failed(BadAnswer("the connection was closed between two requests"))
            return
        self._started_ns = time.perf_counter_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._received or not (self._exact and data.startswith(_OK) and data.endswith(_PLAIN_END)):
            self._received += data
            try:
                if not self._whole():
                    return
            except (BadAnswer, ValueError, KeyError) as error:
                self._run.failed(error)
                return
        run = self._run
        run.latencies_ns.append(time.perf_counter_ns() - self._started_ns)
        self._received = b""
        self._started_ns = 0
        if len(run.latencies_ns) == run.order.requests and not run.ended.done():
            run.ended.set_result(None)
        self.send_next()

    def _whole(self) -> bool:
        answer = read_answer(self._received)
        if answer is None:
            return False
        check_completion(answer, exact=self._exact)
        return True


class StreamRun:
    """Many streams at once, each on a connection of its own."""

    def __init__(self, order: StreamOrder) -> None:
        self.order = order
        self.longest_gaps_ns: list[int] = []
        self.took_ns: list[int] = []
        self.open = 0
        self.most_open = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def opened(self) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def finished(self, longest_gap_ns: int, took_ns: int) -> None:
        self.open -= 1
        self.longest_gaps_ns.append(longest_gap_ns)
        self.took_ns.append(took_ns)
        if len(self.longest_gaps_ns) == self.order.streams and not self.ended.done():
            self.ended.set_result(None)

    async def measure(self) -> StreamFigures:
        """Figures also when the deadline came first: those of the streams that had ended."""
        order = self.order
        loop = asyncio.get_running_loop()
        listeners: list[Listener] = []

        async def listen(position: int) -> None:
            try:
                # Evenly over the ramp: streams that start together would be due together for ever.
                await asyncio.sleep(order.ramp_ms / 1000 * position / order.streams)
                listeners.append((await loop.create_connection(lambda: Listener(self), order.host, order.port))[1])
            except OSError as error:
                self.failed(error)

        failure: Exception | None = None
        started_ns = time.perf_counter_ns()
        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(listen(position)) for position in range(order.streams)]
            try:
                async with asyncio.timeout(order.deadline_s):
                    await self.ended
            except TimeoutError:
                pass
            except (BadAnswer, ValueError, OSError) as error:
                failure = error
            finally:
                for task in opening:
                    task.cancel()
                for listener in listeners:
                    listener.close()
        if failure:
            raise failure
        return StreamFigures(
            longest_gaps_ms=[ns / 1e6 for ns in self.longest_gaps_ns],
            took_ms=[ns / 1e6 for ns in self.took_ns],
            most_open=self.most_open,
            wall_s=(time.perf_counter_ns() - started_ns) / 1e9,
        )


class Listener(asyncio.Protocol):
    """One stream: notes when something came, and looks at the bytes only after the end."""

    def __init__(self, run: StreamRun) -> None:
        self._run = run
        self._pieces: list[bytes] = []
        self._first_ns = 0
        self._last_ns = 0
        self._longest_ns = 0
        self._ended = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._run.order.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._run.failed(BadAnswer(f"the connection was closed inside a stream ({exc})"))

    def close(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now_ns = time.perf_counter_ns()
        if self._last_ns:
            gap_ns = now_ns - self._last_ns
            self._longest_ns = max(self._longest_ns, gap_ns)
            self._last_ns = now_ns
        elif not self._pieces and not data.startswith(_OK):
            self._run.failed(BadAnswer(f"no stream but {data[:300]!r}"))
            return
        elif b"data: " in data:  # the first event; what came before was the head, and is not a silence
            self._first_ns = self._last_ns = now_ns
            self._run.opened()
        self._pieces.append(data)
        if data.endswith(_LAST_CHUNK) or (len(data) < len(_LAST_CHUNK) and self._tail().endswith(_LAST_CHUNK)):
            self._finish()

    def _tail(self) -> bytes:
        return b"".join(self._pieces[-len(_LAST_CHUNK) :])

    def _finish(self) -> None:
        order = self._run.order
        try:
            answer = read_answer(b"".join(self._pieces))
            if answer is None:
                return
            check_stream(answer, order.events, exact=order.exact)
        except (BadAnswer, ValueError) as error:
            self._run.failed(error)
            return
        self._pieces.clear()
        self._run.finished(self._longest_ns, self._last_ns - self._first_ns)
        self.close()
