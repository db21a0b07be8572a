"""HTTP answers as aiohttp sends them: JSON, never kept by anybody, each one counted."""

from typing import Final

import msgspec
from aiohttp import web

from dashboard.api.calls import Answer
from dashboard.api.faults import Fault, error_body, error_headers
from dashboard.api.operation import Operation
from shared import counters

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "lectr"}


def encoded(answer: Answer) -> bytes | None:
    """The JSON of an answer; of a large one that takes a while. None: it has no body."""
    return None if answer.body is None else msgspec.json.encode(answer.body)


def good_response(operation: Operation, answer: Answer, body: bytes | None) -> web.Response:
    """What an operation answers when all is well; `body` is the answer's, encoded."""
    headers = {}
    if answer.version is not None:
        headers["ETag"] = f'"{answer.version}"'
    if answer.location is not None:
        headers["Location"] = answer.location
    return plain_response(body, status=operation.status, headers=headers)


def plain_response(
    body: bytes | None,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Any answer but a fault."""
    counters.dashboard_requests.labels(f"{status // 100}xx").inc()
    made = {**_HEADERS, **(headers or {})}
    if body is not None:
        made["Content-Type"] = content_type
    return web.Response(status=status, body=body, headers=made)


def fault_response(fault: Fault) -> web.Response:
    """What is said of a fault."""
    counters.dashboard_refused.labels(fault.code).inc()
    response = plain_response(error_body(fault), status=fault.status, headers=error_headers(fault))
    if fault.closes:
        response.force_close()
    return response
