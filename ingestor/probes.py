"""Is the ingestor alive, ready, and how is it doing: /healthz, /readyz and /metrics on the ops address.

Alive means progress: the worker went round its loop lately, if only to find nothing to do or to wait for ClickHouse.
A dependency that is away is no reason to be restarted, so it shows in /readyz alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from ingestor.faults import IngestorFault
from shared import counters

STALL_S: Final = 300.0
"""Longer than the slowest insert that ends by itself, twice over."""
_CHECK_TIMEOUT_S: Final = 3.0
OWNER: Final = "owner"
STANDBY: Final = "standby"

Check = Callable[[], Awaitable[object]]


class Health:
    """What the probes tell; the worker writes it, the probes read it."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}
        """Per dependency: a call that fails with an IngestorFault when it is not usable."""
        self.faults: dict[str, str] = {}
        """What keeps a part from working right now."""
        self.partitions: dict[int, str] = {}
        """Per partition: owner or standby."""
        self._progress_s: dict[str, float] = {"start": time.monotonic()}

    def beat(self, name: str) -> None:
        """This worker went round its loop; another one's beat says nothing about it."""
        self._progress_s.pop("start", None)
        self._progress_s[name] = time.monotonic()

    @property
    def stalled_s(self) -> float:
        """Seconds since the last beat of the worker that was silent for longest."""
        return time.monotonic() - min(self._progress_s.values())


def _application(health: Health) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        alive = health.stalled_s < STALL_S
        return web.json_response(
            {"alive": alive, "stalled_s": round(health.stalled_s, 1)}, status=200 if alive else 503
        )

    async def readyz(_: web.Request) -> web.Response:
        answers = await asyncio.gather(*map(_fault_of, health.checks.values()))
        detail = health.faults | {name: fault for name, fault in zip(health.checks, answers, strict=True) if fault}
        ready = bool(health.checks) and not detail
        body = {"ready": ready, "faults": detail, "partitions": {str(k): v for k, v in health.partitions.items()}}
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=counters.exposition("ingestor"), headers={"Content-Type": counters.CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


async def _fault_of(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {_CHECK_TIMEOUT_S:.0f} s"
    except IngestorFault as fault:
        return str(fault)
    return ""


@asynccontextmanager
async def serve_probes(health: Health, host: str, port: int) -> AsyncIterator[str]:
    """Serve while the block runs; gives the address, with the port that was chosen for port 0. Raises OSError."""
    runner = web.AppRunner(_application(health), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in str(bound[0]) else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()
