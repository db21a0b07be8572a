"""Health and metrics on their own port: /healthz (alive), /readyz (send traffic here), /metrics."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from shared import counters

Answering = Callable[[web.Request], Awaitable[web.Response]]


def operations(ready: Answering, metrics: Answering) -> web.Application:
    """The web application of an operations port. Whoever can answer /healthz is alive."""
    application = web.Application()
    application.router.add_get("/healthz", _health)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", metrics)
    return application


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


class Probes:
    """Answers the probes; `problems` says why this process should get no traffic, empty if it should.

    `warnings` are listed with these, but are no reason to refuse traffic: requests are served all the same.
    """

    def __init__(
        self,
        problems: Callable[[], list[str]],
        warnings: Callable[[], list[str]],
        details: Callable[[], dict[str, object]],
    ) -> None:
        self._problems = problems
        self._warnings = warnings
        self._details = details

    def application(self) -> web.Application:
        """The web application of the operations port."""
        return operations(self._ready, self._metrics)

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = self._problems()
        return web.json_response(
            {"ready": not problems, "problems": problems + self._warnings(), **self._details()},
            status=503 if problems else 200,
        )

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=counters.exposition("gateway"), headers={"Content-Type": counters.CONTENT_TYPE})
