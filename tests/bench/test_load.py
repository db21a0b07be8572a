"""The load generator and the upstream against each other: figures where all is right, a loud stop where it is not."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.bench.goals import goals
from tests.bench.loader import Loader, LoadFailed
from tests.bench.payloads import json_request, stream_request
from tests.bench.processes import Cores, cpu_ns, on_core, rss_bytes, tree
from tests.bench.targets import Target, start_upstream


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The upstream, asked without a gateway."""
    with start_upstream(tmp_path_factory.mktemp("upstream"), Cores()) as part:
        yield Target("direct", part.url_in("listening on"), part.process.pid)


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One load generator for all orders."""
    with Loader() as running_loader:
        yield running_loader


def test_plain_requests_are_counted_and_timed(direct: Target, loader: Loader) -> None:
    """An order of plain requests comes back with its quantiles in order, and costs the upstream CPU time."""
    before_ns = cpu_ns(direct.pid or 0)
    figures = loader.json(direct.json(300, 7))
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert figures.requests_per_s > 0
    assert cpu_ns(direct.pid or 0) > before_ns


def test_a_stream_is_as_slow_as_ordered(direct: Target, loader: Loader) -> None:
    """Streams take at least their events times their interval, and their silences are at least the interval."""
    figures = loader.streams(direct.streams(20, 11, 20, ramp_ms=10, deadline_s=30))
    assert figures.most_open == len(figures.longest_gaps_ms) == 20
    assert figures.wall_s >= 0.19
    assert min(figures.longest_gaps_ms) >= 19
    assert min(figures.took_ms) >= 190


def test_streams_that_do_not_end_in_time_are_missing(direct: Target, loader: Loader) -> None:
    """At the deadline an order of streams is given up: those that had not ended have no figure."""
    figures = loader.streams(direct.streams(3, 50, 1000, ramp_ms=0, deadline_s=0.3))
    assert figures.longest_gaps_ms == []
    assert figures.most_open == 3


def test_a_refusal_stops_the_run(direct: Target, loader: Loader) -> None:
    """A status other than 200 fails the order, and the load generator takes the next one."""
    refused = direct.request(json_request("status-503"))
    with pytest.raises(LoadFailed, match="status 503"):
        loader.json(msgspec.structs.replace(direct.json(10, 2), request=refused))
    with pytest.raises(LoadFailed, match="no stream"):
        loader.streams(msgspec.structs.replace(direct.streams(2, 9, 1, ramp_ms=0, deadline_s=9), request=refused))
    assert loader.json(direct.json(10, 2)).requests_per_s > 0


def test_a_cut_or_short_stream_stops_the_run(direct: Target, loader: Loader) -> None:
    """A stream that breaks off, or ends after fewer events than ordered, fails the order."""
    order = direct.streams(2, 20, 1, ramp_ms=0, deadline_s=20)
    cut = direct.request(stream_request(20, 1).replace(b'"pace-', b'"cut-'))
    with pytest.raises(LoadFailed, match="closed inside a stream"):
        loader.streams(msgspec.structs.replace(order, request=cut))
    with pytest.raises(LoadFailed, match="not the stream's"):
        loader.streams(msgspec.structs.replace(order, request=direct.request(stream_request(19, 1))))


def test_nobody_listening_stops_the_run(loader: Loader) -> None:
    """A target that is not there is an error, not a figure."""
    gone = Target("gone", "http://127.0.0.1:9")
    with pytest.raises(LoadFailed, match="Connect"):
        loader.json(gone.json(1, 1))
    with pytest.raises(LoadFailed, match="Connect"):
        loader.streams(gone.streams(1, 9, 1, ramp_ms=0, deadline_s=9))


def test_a_process_tree_is_measured_and_pinned(tmp_path: Path) -> None:
    """A process that is started for a core stays there, and its memory is seen."""
    with start_upstream(tmp_path, Cores(load=None)) as part:
        assert tree(part.process.pid) == [part.process.pid]
        assert rss_bytes(part.process.pid) > 1_000_000
    with on_core(0), start_upstream(tmp_path, Cores()) as pinned:
        status = Path(f"/proc/{pinned.process.pid}/status").read_text()
        assert "Cpus_allowed_list:\t0\n" in status


def test_goals_without_figures_are_not_measured() -> None:
    """A goal whose figure is missing is neither met nor missed, and one with a figure is judged by its bound."""
    assert {goal.verdict for goal in goals({})} == {"not measured"}
    rows = [
        {"target": "lectr", "connections": 16, "cpu_us": 99.0},
        {"target": "nginx", "connections": 16, "cpu_us": 20.0},
    ]
    verdicts = {goal.text: goal.verdict for goal in goals({"json": rows})}
    assert verdicts["CPU us per request, 16 connections: at most 100"] == "met"
    assert verdicts["... times nginx's: at most 4.5"] == "MISSED"
