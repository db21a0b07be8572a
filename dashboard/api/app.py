"""Puts the API together, runs it until a signal, and stops it so that no change is cut off."""

import asyncio
import contextlib
import signal
from contextlib import AsyncExitStack
from typing import Final

import uvloop
from aiohttp import web

from dashboard.api.attempts import Attempts
from dashboard.api.door import Door
from dashboard.api.probes import Probes
from dashboard.api.registry_calls import RegistryCalls
from dashboard.api.registry_file import RegistryFile
from dashboard.api.server import Connection, application
from dashboard.clickhouse import ClickHouse
from dashboard.registry import RegistryUnavailable
from dashboard.settings import Settings
from shared.environment import SettingsFault, parse_listen
from shared.logs import get_log, start_logs

_DRAIN_S: Final = 20.0
"""How long running requests may take to end: longer than Redis may take to answer all that one of them asks."""
_CUT_S: Final = 2.0
_log = get_log("app")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsFault if it cannot start."""
    start_logs("dashboard", settings.log_level)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as parts:
        calls = RegistryCalls(settings.redis_url, actor="api", clickhouse=ClickHouse.of(settings.clickhouse_url))
        parts.push_async_callback(calls.close)
        try:
            await calls.check()
        except RegistryUnavailable as error:
            _log.warning("registry_unavailable", detail=str(error))
        file = RegistryFile(calls, settings.registry_file) if settings.registry_file else None
        if file is not None:
            keeping = asyncio.create_task(file.run(), name="registry file")
            # After the last request, before the registry is closed.
            parts.push_async_callback(_end, keeping)
        door = Door(
            secret=settings.admin_secret,
            calls=calls,
            attempts=Attempts(requests_per_s=settings.admin_requests_per_s),
            registry_file=settings.registry_file,
        )
        runner = web.AppRunner(application(door, Probes(calls, file)), shutdown_timeout=_CUT_S)
        await runner.setup()
        parts.push_async_callback(runner.cleanup)
        listening = await _listen(runner, settings.listen)
        print(f"lectr dashboard listening on {_address(listening.sockets[0].getsockname())}", flush=True)
        _log.info("serving", registry_file=settings.registry_file)
        await stop.wait()
        listening.close()
        _log.info("stopping", drain_timeout_s=_DRAIN_S)
        # Before the runner's own clean-up, which takes no more of a body that is still arriving.
        if not await door.drain(_DRAIN_S):
            _log.warning(
                "drain_cut", fix="a change whose answer was cut off may have been made: read before you repeat it"
            )
    _log.info("stopped")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _listen(runner: web.AppRunner, listen: str) -> asyncio.Server:
    host, port = parse_listen(listen, "LECTR_LISTEN")
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        server = runner.server
        if server is None:
            raise RuntimeError("the runner is set up first")
        return Connection(server, loop=loop)

    try:
        return await loop.create_server(connection, host, port, backlog=128, reuse_address=True)
    except OSError as error:
        raise SettingsFault(
            f"LECTR_LISTEN={listen!r}: cannot listen there ({error.strerror}); "
            "stop what uses the port, or choose another"
        ) from None


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"
