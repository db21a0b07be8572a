"""The measuring side of the load generator: start it, hand it orders, stop the run loudly when an answer was wrong."""

import select
import subprocess
from collections.abc import Callable
from typing import Self

import msgspec

from tests.bench.orders import (
    Failure,
    Figures,
    JsonFigures,
    JsonOrder,
    Order,
    SoakFigures,
    SoakOrder,
    StreamFigures,
    StreamOrder,
)
from tests.parts import ROOT, clean_environ, python

_LOOK_EVERY_S = 0.2


class LoadFailed(Exception):
    """An answer was not what the upstream sent, or none came."""


class Loader:
    """A running load generator. Use as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python("tests.bench.load"), cwd=ROOT, env=clean_environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def json(self, order: JsonOrder) -> JsonFigures:
        figures = self._carry_out(order, None)
        assert isinstance(figures, JsonFigures)
        return figures

    def streams(self, order: StreamOrder, meanwhile: Callable[[], None] | None = None) -> StreamFigures:
        """Listen to streams; `meanwhile` is called a few times a second."""
        figures = self._carry_out(order, meanwhile)
        assert isinstance(figures, StreamFigures)
        return figures

    def soak(self, order: SoakOrder, meanwhile: Callable[[], None]) -> SoakFigures:
        """Keep a mixed load up; `meanwhile` is called a few times a second."""
        figures = self._carry_out(order, meanwhile)
        assert isinstance(figures, SoakFigures)
        return figures

    def _carry_out(
        self, order: Order, meanwhile: Callable[[], None] | None
    ) -> JsonFigures | StreamFigures | SoakFigures:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()
        while not select.select([stdout], [], [], _LOOK_EVERY_S)[0]:
            if meanwhile:
                meanwhile()
        line = stdout.readline()
        if not line:
            raise LoadFailed(f"the load generator ended with {self._process.wait(10)}")
        figures: Figures = msgspec.json.decode(line, type=Figures)
        if isinstance(figures, Failure):
            raise LoadFailed(figures.text)
        return figures
