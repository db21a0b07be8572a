"""The decision about one request: which Reply it gets, before it is delivered.

In: what was received, the behaviour and weather for it, the store of created responses. Out: a Reply.
Pure but for that store; the clock's reading comes in with the request.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec

from deploy.local.providers.auth import is_authorised
from deploy.local.providers.behaviour import Behaviour, ordered_reply, shaped
from deploy.local.providers.call import Call, Reply
from deploy.local.providers.encoding import UndecodableBodyError, decode
from deploy.local.providers.endpoints import Dialect, check_request, counts_for, find_dialect, requested_model
from deploy.local.providers.failures import failure, unknown_path
from deploy.local.providers.profile import Weather
from deploy.local.providers.reading import UnreadableBodyError, read_body
from deploy.local.providers.responses import PREFIX, replay_response
from deploy.local.providers.routing import Route
from deploy.local.providers.tokens import answer_pieces, override_counts, split_text

MAX_STORED: Final = 1000
WEBSOCKETS: Final = frozenset({"realtime", "responses"})
"""Endpoints that upgrade at the real providers; here they say that they do not."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it arrived. `headers` is looked up without regard to case."""

    route: Route
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    sequence: int
    created_s: int

    def refused(self, status: int, message: str = "") -> Reply:
        """Return the provider's error for this request."""
        return failure(self.route, status, message, sequence=self.sequence)


class ResponseStore:
    """The last MAX_STORED calls that created a response, for GET /responses/{id}."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()

    def keep(self, call: Call) -> None:
        """Keep a call if it created a response that may be stored."""
        if call.route.endpoint != "responses" or call.body.get("store") is False:
            return
        self._calls[call.object_id(PREFIX)] = call
        if len(self._calls) > MAX_STORED:
            self._calls.popitem(last=False)

    def replay(self, received: Received) -> Reply:
        """Return a stored response again, or the provider's 404."""
        route = received.route
        call = self._calls.get(route.item)
        if call is None or call.route.provider != route.provider:
            return received.refused(404, "The response was not found.")
        return replay_response(call, streams=route.query.get("stream") == "true")


def answer(received: Received, behaviour: Behaviour, weather: Weather, store: ResponseStore) -> Reply:
    """Return the answer to one request."""
    ordered = ordered_reply(behaviour, received.route, received.sequence)
    refusal = ordered or _refusal(received, weather)
    if refusal is not None:
        return refusal
    route = received.route
    if route.endpoint == "responses" and route.item and received.method in {"GET", "HEAD"}:
        return shaped(behaviour, store.replay(received))
    dialect = find_dialect(route, received.method)
    if dialect is None:
        return unknown_path(route, received.method, received.target)
    return _understood(received, behaviour, store, dialect)


def _refusal(received: Received, weather: Weather) -> Reply | None:
    """Return what stops a request whatever it asks for."""
    if not is_authorised(received.route, received.headers):
        return received.refused(401)
    if received.headers.get("Upgrade", "").lower() == "websocket":
        status = 426 if received.route.endpoint in WEBSOCKETS else 404
        return received.refused(status, "This endpoint does not serve WebSockets.")
    if weather.status is not None:
        return received.refused(weather.status)
    return None


def _understood(received: Received, behaviour: Behaviour, store: ResponseStore, dialect: Dialect) -> Reply:
    route, headers = received.route, received.headers
    try:
        body = decode(received.body, headers.get("Content-Encoding", ""))
        fields, uploads = read_body(body, headers.get("Content-Type", ""))
    except (UnreadableBodyError, UndecodableBodyError) as error:
        return received.refused(400, str(error))
    version = headers.get("anthropic-version", "")
    invalid = check_request(route, received.method, fields, version)
    if invalid is not None:
        return received.refused(invalid.status, invalid.message)
    counts = counts_for(route, fields, uploads)
    pieces = answer_pieces(counts)
    if behaviour.answer is not None:
        pieces = split_text(behaviour.answer)
        counts = msgspec.structs.replace(counts, visible_tokens=len(pieces), limited=False)
    if behaviour.tokens is not None:
        counts = override_counts(counts, behaviour.tokens)
    call = Call(
        route=route,
        body=fields,
        uploads=uploads,
        requested_model=requested_model(route, fields),
        counts=counts,
        pieces=pieces,
        sequence=received.sequence,
        created_s=received.created_s,
        version=version,
    )
    store.keep(call)
    return shaped(behaviour, dialect(call))
