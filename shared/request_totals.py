"""Requests by provider and status, and how long they took, as plain numbers until somebody asks.

A prometheus counter takes a lock and checks its labels for each addition: more than the addition is worth where it runs
for every request. One event loop adds here, and the same one is asked.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BOUNDS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class RequestTotals(Collector):
    """Two metric families: `lectr_gateway_requests` and `lectr_gateway_request_seconds`."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], int] = {}
        self._by_duration = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    def count(self, provider: str, status_class: int, seconds: float) -> None:
        """One request: its provider (of a closed set), 2 for 2xx and so on, and its duration."""
        key = (provider, status_class)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._by_duration[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """The numbers so far."""
        requests = CounterMetricFamily(
            "lectr_gateway_requests",
            "Requests answered, by provider and status class",
            labels=["provider", "status"],
        )
        for (provider, status_class), number in self._requests.items():
            requests.add_metric([provider, f"{status_class}xx"], number)
        yield requests
        bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
        duration = HistogramMetricFamily(
            "lectr_gateway_request_seconds", "Time from request head to last byte of the answer"
        )
        duration.add_metric([], list(zip(bounds, accumulate(self._by_duration), strict=True)), sum_value=self._seconds)
        yield duration
