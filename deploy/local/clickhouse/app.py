"""The HTTP side: routes, bodies in, answers out. Engine work happens in worker threads.

In: ClickHouse's HTTP interface. Out: the same. A result that breaks after its first byte breaks the connection, so
that no client takes half for whole. Never logs a query or a credential.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import BodyPartReader, web

from deploy.local.clickhouse import faults
from deploy.local.clickhouse.answering import Answer
from deploy.local.clickhouse.ask import Ask, read_ask
from deploy.local.clickhouse.auth import Account, authenticate
from deploy.local.clickhouse.engine import Connection, Engine
from deploy.local.clickhouse.faults import DoorFault
from deploy.local.clickhouse.sessions import Sessions
from deploy.local.clickhouse.upload import Upload

MAX_RUNNING: Final = 16
"""Engine calls at once. Threat: each needs memory; more only wait for the same cores."""
MAX_WAITING: Final = 256
"""Requests at once, those that wait for the engine included; more are refused with 202 at once."""
MAX_FORM_BYTES: Final = 16 << 20
READ_BYTES: Final = 1 << 20
SWEEP_S: Final = 1.0
CANCEL_AGAIN_S: Final = 0.1
DISPLAY_NAME: Final = "lectr-local"
T = TypeVar("T")


class Door:
    """All requests of one engine."""

    def __init__(self, engine: Engine, account: Account) -> None:
        self._engine = engine
        self._account = account
        self._pool = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="engine")
        # Uploads and cancelling must go on while every engine thread is busy.
        self._side_pool = ThreadPoolExecutor(4, thread_name_prefix="side")
        self._sessions = Sessions(lambda: self._engine_call(engine.open))
        self._in_flight = 0

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        for path in ("/ping", "/replicas_status"):
            app.router.add_get(path, self._ping)
        app.router.add_route("*", "/", self._query)
        app.cleanup_ctx.append(self._sweeping)
        return app

    def kill_all(self) -> None:
        """Cancel everything that runs."""
        self._engine.kill_all()

    def close(self) -> None:
        """Free the threads; nothing may run any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._side_pool.shutdown(wait=False, cancel_futures=True)

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n", content_type="text/html", charset="UTF-8")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD", "POST"}:
            return web.Response(status=501, text="Only GET, HEAD and POST are supported.\n")
        if request.method == "GET" and not request.query_string and not request.can_read_body:
            return await self._ping(request)
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        self._in_flight += 1
        try:
            if self._in_flight > MAX_WAITING:
                raise faults.too_busy(f"Too many simultaneous requests; the bound is {MAX_WAITING}.")
            return await self._answered(request, query_id)
        except DoorFault as fault:
            return self._refusal(fault, query_id)
        finally:
            self._in_flight -= 1

    async def _answered(self, request: web.Request, query_id: str) -> web.StreamResponse:
        authenticate(self._account, request.headers, request.query)
        async with AsyncExitStack() as stack:
            upload, form = await self._body(request, stack)
            ask = read_ask(request.method, {**request.query, **form}, request.headers)
            connection = await self._connection(ask, stack)
            answer = Answer(ask, connection)
            stack.push_async_callback(self._engine_call, answer.close)
            await self._engine_call(lambda: answer.run(upload), cancel=answer)
            if ask.session_id and answer.ended:
                # Given back before the client can know: its next request must not find its own session locked.
                await stack.aclose()
            return await self._send(request, ask, answer, query_id)

    async def _body(self, request: web.Request, stack: AsyncExitStack) -> tuple[Upload, Mapping[str, str]]:
        coding = request.headers.get("Content-Encoding", "").strip().lower()
        is_form = request.content_type == "multipart/form-data"
        upload = Upload(Path("uploads"), "" if coding == "identity" or is_form else coding)
        stack.callback(upload.close)
        if is_form:
            return upload, await _form(request)
        gathered = bytearray()
        async for piece in request.content.iter_any():
            gathered += piece
            if len(gathered) >= READ_BYTES:
                await self._side_call(upload.feed, bytes(gathered))
                gathered.clear()
        await self._side_call(upload.feed, bytes(gathered))
        upload.finish()
        return upload, {}

    async def _connection(self, ask: Ask, stack: AsyncExitStack) -> Connection:
        if not ask.session_id:
            connection = await self._engine_call(self._engine.open)
            stack.push_async_callback(self._engine_call, connection.close)
            return connection
        connection = await self._sessions.take(ask.session_id, must_exist=ask.session_check)

        async def give_back() -> None:
            unused = self._sessions.give_back(ask.session_id, ask.session_timeout_s, close=ask.close_session)
            if unused:
                await self._engine_call(unused.close)

        stack.push_async_callback(give_back)
        return connection

    async def _send(self, request: web.Request, ask: Ask, answer: Answer, query_id: str) -> web.StreamResponse:
        facts = self._engine.facts
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Summary": answer.summary(),
            "X-ClickHouse-Timezone": ask.settings.get("session_timezone") or facts.timezone,
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Server-Display-Name": DISPLAY_NAME,
            "Content-Type": facts.content_types.get(answer.format.lower(), "text/plain; charset=UTF-8"),
        }
        if ask.answer_coding:
            headers["Content-Encoding"] = ask.answer_coding
        response = web.StreamResponse(headers=_checked(headers))
        if answer.ended:
            response.content_length = len(answer.first)
        await response.prepare(request)
        await response.write(answer.first)
        try:
            while not answer.ended:
                await response.write(await self._engine_call(answer.next_piece, cancel=answer))
        except DoorFault:
            # The status is long gone: only a broken connection says that this is not the whole result.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    def _refusal(self, fault: DoorFault, query_id: str) -> web.Response:
        headers = {
            "X-ClickHouse-Exception-Code": str(fault.code),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self._engine.facts.timezone,
            "X-ClickHouse-Server-Display-Name": DISPLAY_NAME,
            "Content-Type": "text/plain; charset=UTF-8",
        }
        if fault.ask_for_password:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        body = fault.body(self._engine.facts.version).encode("utf-8", "replace")
        return web.Response(status=fault.status, headers=_checked(headers), body=body)

    async def _side_call(self, work: Callable[[bytes], None], piece: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._side_pool, work, piece)

    async def _engine_call(self, work: Callable[[], T], *, cancel: Answer | None = None) -> T:
        """Run in a worker thread to the end, even when the client is gone: the connection is in use until then.

        A client that leaves cancels what only reads. An INSERT runs on, as it does in the real server.
        """
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, work)
        gone: asyncio.CancelledError | None = None
        while not running.done():
            try:
                # Asked to cancel in the moment before the query shows up, the engine finds nothing: ask again.
                await asyncio.wait({running}, timeout=CANCEL_AGAIN_S if gone else None)
                if gone and cancel is not None and cancel.cancellable:
                    with suppress(DoorFault):
                        await loop.run_in_executor(self._side_pool, self._engine.kill, cancel.marker)
            except asyncio.CancelledError as error:
                gone = error
                if cancel is not None:
                    cancel.abandoned = True
        if gone is not None:
            running.exception()
            raise gone
        return running.result()

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                for connection in self._sessions.expired():
                    await self._engine_call(connection.close)
                await asyncio.sleep(SWEEP_S)

        task = asyncio.create_task(sweep())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _form(request: web.Request) -> dict[str, str]:
    """Plain fields of a multipart body count as parameters; files would be external tables."""
    fields: dict[str, str] = {}
    left = MAX_FORM_BYTES
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.filename is not None or not part.name:
            raise faults.not_implemented("External tables in a multipart body are not supported.")
        value = bytearray()
        while piece := await part.read_chunk():
            value += piece
            left -= len(piece)
            if left < 0:
                raise DoorFault(229, "QUERY_IS_TOO_LARGE", f"The form is larger than {MAX_FORM_BYTES} bytes.")
        fields[part.name] = value.decode("utf-8", "surrogateescape")
    return fields


def _checked(headers: dict[str, str]) -> dict[str, str]:
    """What a client chose (a query id, a time zone) must not end a header line."""
    return {name: "".join(sign for sign in value if " " <= sign <= "~") for name, value in headers.items()}
