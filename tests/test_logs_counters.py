"""What processes say about themselves: JSON lines without secrets, and numbers that are all used and bounded."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from shared import counters
from shared.request_totals import BOUNDS_S, RequestTotals
from tests.parts import ROOT, Gateway, Ingestor, clean_environ, fetch, free_port, run_command, running
from tests.registry_operator import mark_whole

PASSWORD = "hunter2-velvet"
PACKAGES = ("gateway", "ingestor", "dashboard")
SCRIPT = """
import asyncio, logging, sys
from shared.environment import Secret, SecretUrl
from shared.logs import get_log, start_logs
early = get_log("early")
start_logs("tester", sys.argv[1])
log = get_log("room")
secret, url = Secret("hunter2-velvet"), SecretUrl("redis://u:hunter2-velvet@host:6379/0")
early.info("from a module that asked before the start", n=1)
log.debug("debug line")
log.info("info line", key=secret, url=url, inside={"k": [secret, url]}, text=f"{secret} {url}")
log.warning("two\\nlines", odd="\\x00\\x1b[31m \\ud800 é", number=1.5)
log.error("error line", raw=b"bytes", kind=object)
logging.getLogger("some.library").warning("library %s", secret)
logging.getLogger("some.library").info("library info")
for library in ("aiohttp", "asyncio", "redis", "clickhouse_connect", "urllib3", "httpx", "httpcore"):
    logging.getLogger(library).info("hunter2-velvet in a request head")
    logging.getLogger(library).debug("hunter2-velvet in a request head")
try:
    raise ValueError("two\\nlines")
except ValueError:
    logging.getLogger("some.library").exception("library failed")
    log.exception("we failed")
async def in_a_task():
    await asyncio.to_thread(log.info, "from a thread")
asyncio.run(in_a_task())
"""


def lines_at(level: str) -> list[dict[str, Any]]:
    """What the script logs at a level; every line must be JSON, and stdout must be empty."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, level],
        cwd=ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_logs_are_json_lines() -> None:
    """Each line is one JSON object with the event, its level, its time in UTC, the process and the room."""
    lines = lines_at("info")
    for line in lines:
        assert set(line) >= {"event", "level", "timestamp", "process"}
        assert line["process"] == "tester"
        assert line["timestamp"].endswith("Z")
    told = {line["event"]: line for line in lines}
    assert (told["info line"]["level"], told["info line"]["room"]) == ("info", "room")
    assert told["from a module that asked before the start"]["room"] == "early"
    assert told["two\nlines"]["level"] == "warning"
    assert told["error line"]["level"] == "error"
    assert told["from a thread"]["process"] == "tester"


def test_logs_of_libraries_are_json_lines_too() -> None:
    """Warnings and exceptions of libraries come as lines of the same form, an exception on one line."""
    told = {line["event"]: line for line in lines_at("info")}
    assert told["library ***"]["level"] == "warning"
    assert told["library failed"]["level"] == "error"
    assert told["we failed"]["level"] == "error"


def test_logs_hold_no_secret() -> None:
    """A secret in any place of a line is stars, also at debug, where libraries would print heads."""
    for level in ("debug", "info"):
        lines = lines_at(level)
        assert PASSWORD not in json.dumps(lines)
        [line] = [line for line in lines if line["event"] == "info line"]
        assert line["key"] == "***"
        assert line["url"] == "redis://***@host:6379/0"
        assert line["text"] == "*** redis://***@host:6379/0"


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", {"debug", "info", "warning", "error"}),
        ("info", {"info", "warning", "error"}),
        ("warning", {"warning", "error"}),
        ("error", {"error"}),
    ],
)
def test_log_levels(level: str, levels: set[str]) -> None:
    """A level shows itself and what is worse, ours and the libraries' alike."""
    assert {line["level"] for line in lines_at(level)} == levels


def process_lines(output: str) -> list[dict[str, Any]]:
    """The log of a process: every line but the one for whoever started it is JSON."""
    return [json.loads(line) for line in output.splitlines() if not line.startswith("lectr ")]


def test_a_gateway_logs_json(tmp_path: Path, redis_url: str) -> None:
    """From start to stop a gateway writes JSON lines that name it, and the password in its settings is in none."""
    mark_whole(redis_url)
    unreachable = f"redis://u:{PASSWORD}@127.0.0.1:{free_port()}/0"
    for url, marker in ((redis_url, "serving"), (unreachable, "redis_unavailable")):
        gateway = Gateway(tmp_path, url, {}, LECTR_STATE_DIR="")
        with running(gateway):
            gateway.line_with(marker)
        lines = process_lines(gateway.output)
        assert {line["process"] for line in lines} == {"gateway"}
        assert all({"event", "level", "room", "timestamp"} <= set(line) for line in lines)
        assert marker in {line["event"] for line in lines}
        assert PASSWORD not in gateway.output


def test_an_ingestor_logs_json(tmp_path: Path) -> None:
    """The same for an ingestor whose stores are away."""
    nowhere = f"redis://u:{PASSWORD}@127.0.0.1:{free_port()}/0"
    ingestor = Ingestor(tmp_path, nowhere, f"http://u:{PASSWORD}@127.0.0.1:{free_port()}")
    with running(ingestor):
        ingestor.line_with("LECTR_CLICKHOUSE_URL")
    lines = process_lines(ingestor.output)
    assert lines
    assert {line["process"] for line in lines} == {"ingestor"}
    assert all({"event", "level", "room", "timestamp"} <= set(line) for line in lines)
    assert PASSWORD not in ingestor.output


DEFINED = {name: made for name, made in vars(counters).items() if isinstance(made, MetricWrapperBase)}
CLOSED_LABELS = {
    "provider": "openai, anthropic, groq, gemini, azure, or empty",
    "status": "2xx and the like",
    "code": "the codes of gateway/faults.py and dashboard/api/faults.py",
    "reason": "names of exception classes, fault labels, or words in the source",
    "outcome": "words in the source",
    "change": "words in the source",
    "partition": "numbers below LECTR_STREAM_PARTITIONS",
    "field": "names of the values that the gateway bounds",
}
"""Every label there is, and why its values are few. A label for an org, a model or a feature would not be."""


def test_every_counter_has_a_good_name() -> None:
    """Names begin with lectr_ and the process, have a help text, and a counter's does not end in _total twice."""
    assert len(DEFINED) > 20
    for metric in DEFINED.values():
        [family] = list(metric.describe())
        assert family.name.startswith(("lectr_gateway_", "lectr_ingestor_", "lectr_dashboard_"))
        assert family.documentation
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        if isinstance(metric, Histogram):
            assert family.name.endswith("_seconds")
        assert isinstance(metric, Counter | Gauge | Histogram)


def test_every_counter_is_in_the_one_registry() -> None:
    """What is defined is published, and nothing of the client library's own is published beside it."""
    published = {family.name for family in counters.registry.collect()}
    plain = {"lectr_gateway_requests", "lectr_gateway_request_seconds"}
    assert published == {next(iter(metric.describe())).name for metric in DEFINED.values()} | plain


PACKAGES = ("gateway", "ingestor", "dashboard")


@functools.cache
def uses() -> dict[str, list[tuple[str, ast.AST]]]:
    """Counter -> the places where a package uses `counters.NAME`, as its file and the node around it."""
    found: dict[str, list[tuple[str, ast.AST]]] = {}
    for path in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Attribute) and ast.unparse(child.value) == "counters":
                    found.setdefault(child.attr, []).append((path.relative_to(ROOT).parts[0], node))
    return found


@pytest.mark.parametrize("name", DEFINED)
def test_every_counter_is_used(name: str) -> None:
    """A number nobody changes is a promise nobody keeps: each is used, and only by the process that it names."""
    [family] = list(DEFINED[name].describe())
    packages = {package for package, _ in uses().get(name, [])}
    assert packages == {family.name.split("_")[1]}


def test_every_use_has_a_definition() -> None:
    """Nothing is counted that is not in the list."""
    assert set(uses()) - set(DEFINED) <= {"exposition", "CONTENT_TYPE", "registry", "requests"}


DURATIONS_S = (0.0, 0.049, 0.05, 0.051, 1.0, 7.5, 300.0, 301.0, 1e9)


def test_plain_totals_read_like_the_client_librarys() -> None:
    """Counted in plain numbers, requests and their durations are published as the client library would."""
    plain, made = CollectorRegistry(), CollectorRegistry()
    totals = RequestTotals()
    plain.register(totals)
    requests = Counter(
        "lectr_gateway_requests",
        "Requests answered, by provider and status class",
        ["provider", "status"],
        registry=made,
    )
    seconds = Histogram(
        "lectr_gateway_request_seconds",
        "Time from request head to last byte of the answer",
        buckets=BOUNDS_S,
        registry=made,
    )
    for number, duration in enumerate(DURATIONS_S):
        totals.count("openai", 2 + number % 3, duration)
        requests.labels("openai", f"{2 + number % 3}xx").inc()
        seconds.observe(duration)
    assert generate_latest(plain) == generate_latest(made)
    assert uses()["requests"]


@pytest.mark.parametrize("name", DEFINED)
def test_labels_come_from_closed_sets(name: str) -> None:
    """Labels are those whose values are few by construction; every use gives as many values as there are labels."""
    labels = DEFINED[name]._labelnames
    assert set(labels) <= set(CLOSED_LABELS)
    for _, around in uses().get(name, []):
        given = isinstance(around, ast.Attribute) and around.attr == "labels"
        assert given == bool(labels), f"{name} is used with{'' if given else 'out'} labels"


OPEN_VALUES = ("feature", "task", "model", "org", "path", "endpoint", "header", "user_agent", "sdk", "key", "message")


def test_no_label_is_a_value_that_clients_make() -> None:
    """No use passes a feature, model, organisation, path or text: a flood of such values would grow memory."""
    calls = [
        ast.unparse(call)
        for path in [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).startswith("counters.")
        and ".labels" in ast.unparse(call.func)
        if {
            part.attr if isinstance(part, ast.Attribute) else part.id
            for argument in call.args
            for part in ast.walk(argument)
            if isinstance(part, ast.Attribute | ast.Name)
        }
        & set(OPEN_VALUES)
    ]
    assert calls == []


def test_metrics_are_prometheus_text(tmp_path: Path, redis_url: str) -> None:
    """/metrics of a fresh gateway parses, names every number without labels, and says so in its content type."""
    mark_whole(redis_url)
    gateway = Gateway(tmp_path, redis_url, {})
    with running(gateway):
        gateway.wait()
        status, body = fetch(f"{gateway.ops_url}/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    own = {family.name for family in counters.registry.collect() if family.name.startswith("lectr_gateway_")}
    assert set(families) == own
    for name, metric in DEFINED.items():
        family = next(iter(metric.describe())).name
        if family in own and not metric._labelnames:
            assert families[family].samples, name


def test_print_settings_needs_no_log() -> None:
    """--print-settings prints nothing but settings: its output can be piped."""
    done = run_command("ingestor", "--print-settings")
    assert (done.returncode, done.stderr) == (0, "")
