"""Routes from the table of operations, and connections that say in JSON what is wrong with HTTP itself."""

import re
from typing import Any, Final

from aiohttp import web

from dashboard.api import faults
from dashboard.api.door import Door, defect_response, told
from dashboard.api.malformed import malformed
from dashboard.api.operations import OPERATIONS
from dashboard.api.probes import Probes
from dashboard.api.responses import fault_response

_MALFORMED: Final = 400
_IDLE_S: Final = 75.0
"""How long a connection may wait for a request, or take for its head."""
_LINGER_S: Final = 1.0
"""How long what is left of a refused body is read, so that its sender sees the answer."""
_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": _IDLE_S,
    "lingering_time": _LINGER_S,
}
_PATTERNS: Final = tuple((one.method, re.compile(re.sub(r"\{[a-z]+\}", "[^/]+", one.path))) for one in OPERATIONS)


def application(door: Door, probes: Probes) -> web.Application:
    """The web application."""
    # How large a body may be is each operation's own; the door says so when it reads one.
    made = web.Application()
    for one in OPERATIONS:
        handling = probes.handlings[one.id] if one.is_open else door.closed(one)
        for method in _methods(one.method):
            made.router.add_route(method, one.path, handling, expect_handler=_leave)
    made.router.add_route("*", "/{path:.*}", told(_unknown), expect_handler=_leave)
    return made


class Connection(web.RequestHandler):
    """One client's. Malformed HTTP gets an answer like every other fault."""

    __slots__ = ()

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **_OPTIONS, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes what was sent, secrets too
    ) -> web.StreamResponse:
        """What is said where no route was reached."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status == _MALFORMED:
            said = malformed(str(getattr(exc, "message", "")))
            response = fault_response(faults.InvalidRequest(said.message, field=said.field))
        else:
            response = defect_response(exc)
        response.force_close()
        return response


async def _leave(_request: web.Request) -> None:
    """A body that waits for a word of ours is told to come when it is read, which is after the secret was."""


async def _unknown(request: web.Request) -> web.StreamResponse:
    allowed = sorted(
        {name for method, path in _PATTERNS if path.fullmatch(request.rel_url.raw_path) for name in _methods(method)}
    )
    if not allowed:
        raise faults.UnknownPath("there is no such path; GET /api/openapi.json tells those there are")
    fault = faults.MethodNotAllowed(f"{request.method} is not for this path, which has {', '.join(allowed)}")
    fault.allow = tuple(allowed)
    raise fault


def _methods(method: str) -> tuple[str, ...]:
    return ("GET", "HEAD") if method == "GET" else (method,)
