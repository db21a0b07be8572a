"""The `/_mock/...` interface of tests and demos.

    POST   /_mock/behaviour    JSON of a Behaviour -> {"id": N}; 400 with the reason for anything else
    DELETE /_mock/behaviour    forget all orders
    GET    /_mock/requests     list of Records, oldest first
    DELETE /_mock/requests     forget records and hits
    GET    /_mock/hits         {provider: number}

In: such a request, and the tables. Out: a JSON response. Never records itself.
"""

from typing import Any, Final

import msgspec
from aiohttp import web

from deploy.local.providers.behaviour import Behaviour, BehaviourTable
from deploy.local.providers.recording import Recorder

PREFIX: Final = "/_mock/"


async def control(request: web.Request, behaviours: BehaviourTable, recorder: Recorder) -> web.Response:
    """Answer one control request."""
    match request.method, request.path.removeprefix(PREFIX):
        case "POST", "behaviour":
            return _order(await request.read(), behaviours)
        case "DELETE", "behaviour":
            behaviours.clear()
            return _json({})
        case "GET", "requests":
            return _json(recorder.records())
        case "DELETE", "requests":
            recorder.clear()
            return _json({})
        case "GET", "hits":
            return _json(recorder.hits())
        case _:
            return _json({"error": f"no such control: {request.method} {request.path}"}, status=404)


def _order(body: bytes, behaviours: BehaviourTable) -> web.Response:
    try:
        identity = behaviours.add(msgspec.json.decode(body, type=Behaviour))
    except ValueError as error:
        # msgspec's errors are ValueErrors too, and name the field.
        return _json({"error": str(error)}, status=400)
    return _json({"id": identity})


def _json(document: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
