"""Several gateway processes on one port (LECTR_WORKERS): started, watched, started again, stopped together.

Each worker is a whole gateway with a listening socket of its own on the shared port (SO_REUSEPORT: the kernel spreads
the connections), and with probes on a port that only the supervisor knows. The supervisor serves the operations port:
ready when all workers are, metrics of all with a `worker` label.
"""

import asyncio
import contextlib
import re
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

from gateway.settings import Settings
from gateway.workers_ops import WorkersOps
from shared import counters
from shared.environment import SettingsFault, parse_listen, process_environment
from shared.logs import get_log, start_logs

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_STEADY_S: Final = 30.0
"""A worker that has run this long was no false start: its next end is answered at once."""
_ASK_TIMEOUT_S: Final = 5.0
_STOP_MARGIN_S: Final = 25.0
"""What a worker may take beyond its drain timeout: the last events, the last connections."""
_BAD_SETTINGS: Final = 2


class Worker:
    """One gateway process, started again whenever it ends."""

    def __init__(self, number: int, environ: dict[str, str]) -> None:
        self.number = number
        self.ops_url = ""
        """Empty while it does not serve."""
        self.serving = asyncio.Event()
        self.refused: int | None = None
        """The exit code of a worker that will not start whatever is tried: its settings are refused."""
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._log = get_log("workers")

    async def run(self) -> None:
        """Keep it running until cancelled or refused."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = loop.time()
            code = await self._run_once()
            self.ops_url = ""
            if code == _BAD_SETTINGS:
                self.refused = code
                self.serving.set()
                return
            counters.worker_restarts.inc()
            self._log.error("worker_ended", worker=self.number, exit_code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            steady = loop.time() - started_s > _STEADY_S
            pause_s = _FIRST_PAUSE_S if steady else min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_once(self) -> int:
        command = (sys.executable, "-m", "gateway", "--worker")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environ,
            # Nothing is written into it: its end tells a worker that its supervisor is gone, however it went.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A terminal's Ctrl-C is for the supervisor, which stops the workers one way only.
            start_new_session=True,
        )
        if self._process.stdout is not None:
            async for line in self._process.stdout:
                if found := re.search(rb"metrics on (http://\S+)\)", line):
                    self.ops_url = found[1].decode("ascii")
                    self.serving.set()
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(timeout_s):
                    await process.wait()
            except TimeoutError:
                self._log.error("worker_killed", worker=self.number)
                process.kill()
                await process.wait()


class Supervisor:
    """All workers, and the operations port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: list[Worker] = []

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with _reserved(self._settings.listen) as address:
            environ = {**process_environment(), "LECTR_LISTEN": address, "LECTR_OPS_LISTEN": "127.0.0.1:0"}
            environ.pop("LECTR_WORKERS", None)
            self._workers = [Worker(number, environ) for number in range(self._settings.workers)]
            async with contextlib.AsyncExitStack() as parts:
                ops_address = await self._serve_ops(parts)
                running = [
                    asyncio.create_task(worker.run(), name=f"worker {worker.number}") for worker in self._workers
                ]
                try:
                    if await self._all_serving(stop):
                        said = f"lectr gateway listening on http://{address} (probes and metrics on {ops_address})"
                        print(said, flush=True)  # noqa: T201 - the one line that whoever started it waits for
                    if not any(worker.refused for worker in self._workers):
                        await stop.wait()
                finally:
                    for task in running:
                        task.cancel()
                    await asyncio.gather(*running, return_exceptions=True)
                    timeout_s = self._settings.drain_timeout_s + _STOP_MARGIN_S
                    await asyncio.gather(*(worker.stop(timeout_s) for worker in self._workers))
        return next((worker.refused for worker in self._workers if worker.refused), 0)

    async def _all_serving(self, stop: asyncio.Event) -> bool:
        stopped = asyncio.create_task(stop.wait())
        waits = [asyncio.create_task(worker.serving.wait()) for worker in self._workers]
        try:
            for wait in waits:
                await asyncio.wait({wait, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopped, *waits):
                task.cancel()
            await asyncio.gather(stopped, *waits, return_exceptions=True)
        return not stop.is_set() and not any(worker.refused for worker in self._workers)

    async def _serve_ops(self, parts: contextlib.AsyncExitStack) -> str:
        session = await parts.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_TIMEOUT_S))
        )
        ops = WorkersOps(lambda: [worker.ops_url for worker in self._workers], session)
        host, port = parse_listen(self._settings.ops_listen, "LECTR_OPS_LISTEN")
        runner = web.AppRunner(ops.application(), access_log=None)
        await runner.setup()
        parts.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsFault(
                f"LECTR_OPS_LISTEN={self._settings.ops_listen!r}: cannot listen there ({error.strerror}); "
                "stop what uses the port, or choose another"
            ) from None
        name = runner.addresses[0]
        return f"http://{f'[{name[0]}]' if ':' in name[0] else name[0]}:{name[1]}"


@contextlib.contextmanager
def _reserved(listen: str) -> Iterator[str]:
    """Keep the port (and choose it, for port 0) while workers come and go; the address with its number."""
    host, port = parse_listen(listen, "LECTR_LISTEN")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Without SO_REUSEPORT: another gateway on this port would otherwise take half of the connections.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                port = probe.getsockname()[1]
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
        except OSError as error:
            raise SettingsFault(
                f"LECTR_LISTEN={listen!r}: cannot listen there ({error.strerror}); "
                "stop what uses the port, or choose another"
            ) from None
        yield f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def run_workers(settings: Settings) -> int:
    """Run LECTR_WORKERS gateways until a signal; the exit code. Raises SettingsFault if the ports are taken."""
    start_logs("gateway", settings.log_level)
    return uvloop.run(Supervisor(settings).run())
