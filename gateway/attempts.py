"""Sends a request: where its rule says, and to the next target if that fails before the first byte of an answer.

In: a request whose way is known. Out: the answer to relay, and on the exchange what was tried before. Without a rule
there is one step, the request's own. A rule that fails costs nothing: the request goes its own way.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.body import Body, WholeBody
from gateway.client import ClientRequest
from gateway.credentials import Credentials
from gateway.destination import Router, Way
from gateway.directory import Access
from gateway.exchange import Exchange
from gateway.faults import ProviderTimeout, ProviderUnreachable
from gateway.redirect import Asked, Step, as_deployed, plan
from gateway.upstream import Answer, Upstream
from gateway.usage_request import asking_for_usage, wants_usage
from shared import counters
from shared.clock import monotonic_ns
from shared.logs import get_log, place_of

MARK_RULE_FAILED: Final = "rule_failed"
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


class Attempts:
    """How requests are sent; remembers nothing of any."""

    def __init__(self, upstream: Upstream, router: Router, credentials: Credentials) -> None:
        self._upstream = upstream
        self._router = router
        self._credentials = credentials
        self._log = get_log("rules")

    def steps(
        self, request: ClientRequest, exchange: Exchange, access: Access, body: Body | WholeBody, way: Way
    ) -> Sequence[Step]:
        """What to try in order: what a rule says, or the request's own way; asking for usage where that is wanted."""
        steps = self._targets(request, exchange, access, body, way)
        if access.org.usage_features and exchange.facts.stream and wants_usage(access.org, exchange.feature):
            return asking_for_usage(steps, body.held, request.target)
        return steps

    def _targets(
        self, request: ClientRequest, exchange: Exchange, access: Access, body: Body | WholeBody, way: Way
    ) -> Sequence[Step]:
        own = Step(exchange.provider, exchange.model_requested, way, by_rule=False)
        org = access.org
        if not org.rules and not (exchange.provider == "azure" and any(one.deployments for one in org.azure)):
            return (own,)
        asked = Asked(
            head=request.head,
            target=request.target,
            held=body.held,
            readable=exchange.facts.readable,
            provider=exchange.provider,
            model=exchange.model_requested,
            way=way,
            org=org,
            credentials=self._credentials.of(org) if org.credentials else {},
        )
        try:
            steps = self._by_rule(request, exchange, access, asked) or (own,)
            steps = tuple(as_deployed(step, asked) for step in steps)
        except Exception as error:  # noqa: BLE001 - counted and logged: a rule must not cost a request
            counters.rule_faults.inc()
            self._log.error("defect", error=type(error).__name__, place=place_of(error))
            exchange.rule = ""
            exchange.marks += (MARK_RULE_FAILED,)
            return (own,)
        # What is streamed on from the client cannot be sent twice.
        return steps if body.is_whole else steps[:1]

    def _by_rule(self, request: ClientRequest, exchange: Exchange, access: Access, asked: Asked) -> Sequence[Step]:
        """What a rule says; nothing if none applies: what asks for no answer names objects of one provider."""
        if not access.org.rules or request.method != "POST":
            return ()
        rule = access.account.rules.find(exchange.feature, exchange.task, asked.provider, asked.model)
        if rule is None:
            return ()
        found = plan(self._router, rule, asked)
        exchange.rule = rule.name
        exchange.marks += found.marks
        return found.steps

    async def answer(
        self,
        request: ClientRequest,
        exchange: Exchange,
        body: Body | WholeBody,
        steps: Sequence[Step],
        *,
        upgrades: bool,
    ) -> Answer:
        """The first answer that is no reason to try another step, or the last one.

        Raises ProviderUnreachable, ProviderTimeout and what the upload raises.
        """
        for step in steps[:-1]:
            answer = await self._try(request, exchange, body, step, upgrades=upgrades)
            if answer is not None:
                return answer
        return await self._open(request, exchange, body, steps[-1], upgrades=upgrades)

    async def _try(
        self, request: ClientRequest, exchange: Exchange, body: Body | WholeBody, step: Step, *, upgrades: bool
    ) -> Answer | None:
        """The answer to a step that is not the last one; None if the next one is to be tried."""
        patience = asyncio.timeout(step.first_byte_timeout_s)
        try:
            async with patience:
                answer = await self._open(request, exchange, body, step, upgrades=upgrades)
        except (ProviderUnreachable, ProviderTimeout) as fault:
            exchange.attempts += (f"{step.provider}/{step.model} {fault.code}",)
        except TimeoutError:
            if not patience.expired():
                raise
            exchange.attempts += (f"{step.provider}/{step.model} {ProviderTimeout.code}",)
        else:
            status = answer.head.status
            if status != _TOO_MANY and status < _SERVER_ERROR:
                return answer
            answer.close()
            exchange.attempts += (f"{step.provider}/{step.model} {status}",)
        counters.failovers.labels(step.provider).inc()
        return None

    async def _open(
        self, request: ClientRequest, exchange: Exchange, body: Body | WholeBody, step: Step, *, upgrades: bool
    ) -> Answer:
        """Send the request as a step says. Raises ProviderUnreachable, ProviderTimeout and what the upload raises."""
        way, length = step.way, request.length
        if step.provider != exchange.provider:
            exchange.provider, exchange.provider_source = step.provider, "rule"
        exchange.usage_requested = step.asks_usage
        exchange.model_sent = step.model if step.model != exchange.model_requested else ""
        if step.body is not None:
            if length:
                length = b"%d" % (int(length) + len(step.body) - body.held_bytes)
            outgoing = body.outgoing(exchange, step.body)
        else:
            outgoing = body.outgoing(exchange)
        lines = way.lines_before + length + way.lines_after
        if request.chunked and isinstance(outgoing, bytes | bytearray):
            lines += b"\r\nContent-Length: %d" % len(outgoing)
        if upgrades:
            lines += b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
        exchange.sent_ns = exchange.sent_ns or monotonic_ns()
        return await self._upstream.open(
            request.method,
            way.origin,
            way.target,
            lines,
            outgoing,
            chunked=request.chunked,
            on_interim=request.interim,
            upgrades=upgrades,
        )
