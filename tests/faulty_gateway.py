"""`python -m tests.faulty_gateway`: the gateway with defects, each for the requests of one feature."""

import threading
from pathlib import Path
from typing import Any

from gateway import attempts, credentials, directory, intake, proxy
from gateway.__main__ import main
from shared.rules import RuleTable
from tests.parts import Gateway

FAULTS: dict[str, type[Exception]] = {
    "find": ZeroDivisionError,
    "plan": KeyError,
    "deployed": RecursionError,
    "edit": MemoryError,
}
"""Of rules, by feature: where it goes wrong is named like it."""
RELAY = "relay"
"""Requests of this feature fail when their answer has come."""
UNBUILDABLE = "unbuildable"
"""Rules cannot be indexed where one is named so."""
HUNG = "hung"
"""No file of a folder with a file of this name answers, until that is gone."""


def fail(feature: str, where: str) -> None:
    if feature == where:
        raise FAULTS[where]("sk-canary: what an exception says may quote the request")


class FaultyGateway(Gateway):
    """A process of it."""

    module = "tests.faulty_gateway"


class FaultyTable(RuleTable):
    def __init__(self, rules: Any) -> None:
        if any(rule.name == UNBUILDABLE for rule in rules):
            raise AssertionError(UNBUILDABLE)
        super().__init__(rules)

    def find(self, feature: str, *more: Any) -> Any:
        fail(feature, "find")
        return super().find(feature, *more)


def arm() -> None:
    """Put the defects in."""
    place: Any = attempts
    plan, as_deployed = place.plan, place.as_deployed

    def faulty_plan(router: Any, rule: Any, asked: Any) -> Any:
        fail(asked.head.feature, "plan")
        found = plan(router, rule, asked)
        fail(asked.head.feature, "edit")
        return found

    def faulty_as_deployed(step: Any, asked: Any) -> Any:
        fail(asked.head.feature, "deployed")
        return as_deployed(step, asked)

    place.plan, place.as_deployed = faulty_plan, faulty_as_deployed
    place = directory
    place.RuleTable = FaultyTable
    place = intake
    place.RuleTable = FaultyTable
    place = credentials
    read_file, pause = place._read_file, threading.Event()

    def read_hung_file(path: str) -> bytes:
        while Path(path).with_name(HUNG).exists():
            pause.wait(0.01)
        found: bytes = read_file(path)
        return found

    place._read_file = read_hung_file
    place = proxy
    relay = place.relay

    async def faulty_relay(request: Any, answer: Any, exchange: Any, **more: Any) -> bool:
        if exchange.feature == RELAY:
            raise ZeroDivisionError
        done: bool = await relay(request, answer, exchange, **more)
        return done

    place.relay = faulty_relay


if __name__ == "__main__":
    arm()
    main()
