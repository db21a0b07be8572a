"""The mock's one handler, in the order of the package's map, and its aiohttp application.

In: every request of the process. Out: control answers, or a provider's answer with its record kept.
Never authenticates control requests: the process is for one machine's tests and demos.
"""

import asyncio
import time
from typing import Final

from aiohttp import web

from deploy.local.providers.answering import Received, ResponseStore, answer
from deploy.local.providers.behaviour import BehaviourTable
from deploy.local.providers.control import PREFIX, control
from deploy.local.providers.delivery import deliver
from deploy.local.providers.heads import response_headers
from deploy.local.providers.profile import MAY_FAIL, Profile
from deploy.local.providers.recording import Record, Recorder
from deploy.local.providers.routing import Route, find_route

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
SIZED: Final = frozenset({"anthropic", "azure"})
"""Providers whose plain bodies carry Content-Length here; the others send chunks, as most real answers do."""


class MockProviders:
    """All five providers and the control interface."""

    def __init__(self, *, profile: Profile, keep_bodies: bool) -> None:
        self._profile = profile
        self._behaviours = BehaviourTable()
        self._recorder = Recorder(keep_bodies=keep_bodies)
        self._store = ResponseStore()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.raw_path.startswith(PREFIX):
            return await control(request, self._behaviours, self._recorder)
        route = find_route(request.raw_path)
        if route is None:
            return web.json_response({"error": "no provider has this prefix"}, status=404)
        arrived = time.monotonic()
        record = self._recorder.open(
            provider=route.provider,
            method=request.method,
            path=request.raw_path.encode("utf-8", "surrogateescape").decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers),
        )
        try:
            return await self._answer(request, route, record)
        except (asyncio.CancelledError, ConnectionError) as error:
            record.cancelled = True
            record.cancelled_after_ms = round((time.monotonic() - arrived) * 1000)
            if isinstance(error, asyncio.CancelledError):
                raise
            # The connection is gone: aiohttp finds that out once more and drops this.
            return web.Response()

    async def _answer(self, request: web.Request, route: Route, record: Record) -> web.StreamResponse:
        body = await request.read()
        self._recorder.add_body(record, body)
        behaviour = self._behaviours.take(route.provider, request.raw_path)
        weather = self._profile.weather(record.id, may_fail=MAY_FAIL in request.raw_path)
        received = Received(
            route=route,
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
            body=body,
            sequence=record.id,
            created_s=int(time.time()),
        )
        reply = answer(received, behaviour, weather, self._store)
        record.status = reply.status
        response, record.finished = await deliver(
            request,
            reply,
            response_headers(route, record.id),
            behaviour,
            weather,
            sized=route.provider in SIZED,
        )
        return response


def build_app(*, profile: Profile, keep_bodies: bool) -> web.Application:
    """Return the application; one route takes everything, because the providers' paths are matched undecoded."""
    mock = MockProviders(profile=profile, keep_bodies=keep_bodies)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{target:.*}", mock.handle)
    return app
