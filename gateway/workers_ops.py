"""The operations port of several workers: ready when all are, the metrics of all with a `worker` label."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.probes import operations
from shared import counters

OpsUrls = Callable[[], Sequence[str]]
"""Where each worker's own operations port is, in their order; empty for one that does not serve."""

_OK: Final = 200
_UNAVAILABLE: Final = 503


class WorkersOps:
    """Answers the probes for all workers by asking each of them."""

    def __init__(self, urls: OpsUrls, session: aiohttp.ClientSession) -> None:
        self._urls = urls
        self._session = session

    def application(self) -> web.Application:
        """The web application of the operations port."""
        return operations(self._ready, self._metrics)

    async def _ready(self, _request: web.Request) -> web.Response:
        answers = await asyncio.gather(*(self._ask(url, "/readyz") for url in self._urls()))
        ready = all(status == _OK for status, _ in answers)
        workers = [
            {"worker": number, "ready": status == _OK, "answer": text} for number, (status, text) in enumerate(answers)
        ]
        return web.json_response({"ready": ready, "workers": workers}, status=_OK if ready else _UNAVAILABLE)

    async def _metrics(self, _request: web.Request) -> web.Response:
        answers = await asyncio.gather(*(self._ask(url, "/metrics") for url in self._urls()))
        texts = {str(number): text for number, (status, text) in enumerate(answers) if status == _OK}
        body = generate_latest(cast("CollectorRegistry", _Merged(texts)))
        return web.Response(body=body, headers={"Content-Type": counters.CONTENT_TYPE})

    async def _ask(self, url: str, path: str) -> tuple[int, str]:
        """Status and text; 503 and why for a worker that does not answer."""
        if not url:
            return _UNAVAILABLE, "not serving"
        try:
            async with self._session.get(url + path) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return _UNAVAILABLE, type(error).__name__


class _Merged:
    """Metrics of several processes as one exposition: a family stands in it once, each sample says whose it is."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
        # The supervisor's own number; in a worker it stands at 0 for ever.
        own = {family.name: family for family in counters.worker_restarts.collect()}
        return iter({**families, **own}.values())
