"""The clients of the soak: some read to the end, some leave, some meet errors; at a steady pace."""

import asyncio
import random
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from tests.bench.answers import Answer, BadAnswer, check_completion, check_stream, read_answer
from tests.bench.orders import SoakFigures, SoakOrder
from tests.bench.payloads import REFUSAL

_PLAIN_CALLERS: Final = 8
_PLAIN_PAUSE_S: Final = 0.04
_REQUESTS_PER_CONNECTION: Final = 50
_STREAM_CALLERS: Final = 40
_LEAVERS: Final = 8
_FAULT_PAUSE_S: Final = 0.2
_ANSWER_S: Final = 60.0
_REFUSED: Final = 500
_READ_BYTES: Final = 65_536

Caller = Callable[[StreamReader, StreamWriter], Awaitable[None]]


class SoakRun:
    """About 160 plain requests, 20 streams, 8 departures and 10 errors a second."""

    def __init__(self, order: SoakOrder) -> None:
        self._order = order
        self._answered: Counter[str] = Counter()
        self._end_s = asyncio.get_running_loop().time() + order.seconds

    async def measure(self) -> SoakFigures:
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_PLAIN_CALLERS):
                    tasks.create_task(self._call_until_end(self._plain, _REQUESTS_PER_CONNECTION))
                for _ in range(_STREAM_CALLERS):
                    tasks.create_task(self._call_until_end(self._stream, 1))
                for _ in range(_LEAVERS):
                    tasks.create_task(self._call_until_end(self._leave, 1))
                tasks.create_task(self._call_until_end(self._refused, _REQUESTS_PER_CONNECTION))
                tasks.create_task(self._call_until_end(self._cut, 1))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return SoakFigures(answered=dict(self._answered))

    async def _call_until_end(self, call: Caller, per_connection: int) -> None:
        now = asyncio.get_running_loop().time
        while now() < self._end_s:
            reader, writer = await asyncio.open_connection(self._order.host, self._order.port)
            try:
                for _ in range(per_connection):
                    if now() < self._end_s:
                        async with asyncio.timeout(_ANSWER_S):
                            await call(reader, writer)
            finally:
                writer.transport.abort()

    async def _plain(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(self._order.plain)
        check_completion(await _answer(reader), exact=True)
        self._answered["plain"] += 1
        await asyncio.sleep(_PLAIN_PAUSE_S)

    async def _stream(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(self._order.stream)
        check_stream(await _answer(reader), self._order.events, exact=True)
        self._answered["stream"] += 1

    async def _leave(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(self._order.stream)
        wanted, received = random.randrange(1, self._order.events // 2), b""
        while received.count(b"data: ") < wanted:
            received += await _read(reader, received)
        self._answered["left"] += 1

    async def _refused(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(self._order.refused)
        answer = await _answer(reader)
        if answer != (_REFUSED, REFUSAL):
            raise BadAnswer(f"a refusal came back as {answer}")
        self._answered["refused"] += 1
        await asyncio.sleep(_FAULT_PAUSE_S)

    async def _cut(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(self._order.cut)
        received = b""
        try:
            while data := await reader.read(_READ_BYTES):
                received += data
        except ConnectionError:
            pass
        if b"data: " not in received or read_answer(received) is not None:
            raise BadAnswer(f"a stream that the provider cut came back as {received[-300:]!r}")
        self._answered["cut"] += 1
        await asyncio.sleep(_FAULT_PAUSE_S)


async def _answer(reader: StreamReader) -> Answer:
    received = b""
    while (answer := read_answer(received)) is None:
        received += await _read(reader, received)
    return answer


async def _read(reader: StreamReader, before: bytes) -> bytes:
    data = await reader.read(_READ_BYTES)
    if not data:
        raise BadAnswer(f"the connection was closed inside an answer: {before[-300:]!r}")
    return data
