"""The ingestor on sound stores: every column, the views, its settings, its probes."""

import statistics
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver import exceptions as driver_exceptions
from redis import exceptions as redis_exceptions

from ingestor.clickhouse import _translated
from ingestor.faults import Action, ClickHouseFault, RedisFault, SchemaFault, action_of, decide
from ingestor.pricing import Pricer
from ingestor.redis_link import translated
from ingestor.rows import COLUMNS
from ingestor.settings import Settings, clickhouse_address, load_settings
from shared.environment import KNOWN_NAMES, SecretUrl, SettingsFault, variable_of
from shared.event import Event, Usage
from tests.ingestor_process import TS_MS, Stores, event, metric, readiness, serving, some_events, stores_in
from tests.parts import Ingestor, execute, fetch, run_command, running, wait_until

SOURCE = 2**63 - 25


@pytest.fixture(scope="module")
def shared_stores(tmp_path_factory: pytest.TempPathFactory, clickhouse_url: str) -> Iterator[Stores]:
    with stores_in(tmp_path_factory.mktemp("stores"), clickhouse_url) as made:
        yield made


def float32(value: float) -> float:
    unpacked: float = struct.unpack("f", struct.pack("f", value))[0]
    return unpacked


def full_event(seq: int) -> Event:
    """Every field has a value of its own."""
    return Event(
        seq=seq,
        ts_ms=TS_MS + 123,
        org="acme",
        method="POST",
        endpoint="/v1/chat/completions",
        feature="ünï'c\\ode\n\x00\t feature",
        task="reasoning",
        provider="anthropic",
        provider_source="header",
        model_requested="claude-latest",
        model_actual="claude-opus-4-8",
        streaming=True,
        status=200,
        error_category="stream_truncated",
        error_source="provider",
        finish_reason="end_turn",
        usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.5, 13),
        usage_source="provider_partial",
        service_tier="standard",
        request_bytes=2**40 + 1,
        response_bytes=2**41 + 1,
        latency_us=1_234_567,
        ttfb_us=234_567,
        ttft_us=345_678,
        overhead_us=901,
        client_stall_us=77_001,
        provider_request_id="req_011CSZ",
        client_retry_count=2,
        sdk="openai-python 3.1.0",
        rule="cheaper",
        message_count=14,
        content_bytes=98_765,
        max_tokens=4_096,
        tools_present=True,
        structured_output=True,
        marks=("provider_unknown", "feature_truncated"),
        attempts=("openai/gpt-5 503", "groq/llama provider_timeout"),
        key="search service",
    )


def test_every_column_comes_back_as_it_went_in(shared_stores: Stores) -> None:
    """One event with a value in each field is read back equal, identity and cost included."""
    sent = full_event(0)
    with running(shared_stores.ingestor("roundtrip")):
        shared_stores.pusher.push(SOURCE, [sent])
        shared_stores.wait_drained()
    row = shared_stores.select(
        f"SELECT * REPLACE(toString(cost) AS cost), event_id FROM lectr.requests WHERE gateway_boot = {SOURCE}"
    )[0]
    cost = Pricer().price(sent)
    plain = {
        name: getattr(sent, name)
        for name in Event.__struct_fields__
        if name not in {"seq", "ts_ms", "usage", "marks", "attempts"} and not name.endswith("_us")
    }
    usage = {name: getattr(sent.usage, name) for name in Usage.__struct_fields__}
    durations = {
        f"{name}_ms": float32(getattr(sent, f"{name}_us") / 1_000)
        for name in ("latency", "ttfb", "ttft", "overhead", "client_stall")
    }
    assert {name: float32(row.pop(name)) for name in durations} == durations
    row.pop("ingested_at")
    assert row == {
        **plain,
        **usage,
        "ts": datetime.fromtimestamp(sent.ts_ms / 1_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        "input_tokens": sent.usage.input_tokens,
        "output_tokens": sent.usage.output_tokens,
        "cost": f"{cost.dollars.normalize():f}" if cost.dollars is not None else None,
        "cost_source": cost.source,
        "price_id": cost.price_id,
        "price_version": "genai-prices 0.2.3" if cost.price_id else "",
        "unpriced_reason": cost.unpriced_reason,
        "marks": list(sent.marks),
        "attempts": list(sent.attempts),
        "gateway": "gw-test",
        "gateway_boot": SOURCE,
        "gateway_seq": 0,
        "event_id": f"{SOURCE:016x}-0",
    }


def test_inserts_fill_every_event_field() -> None:
    """A field added to the event must be given a column: none is forgotten."""
    names = {column.name for column in COLUMNS}
    renamed = {"seq": "gateway_seq", "ts_ms": "ts", "usage": "input_tokens"}
    wanted = {
        renamed.get(name, f"{name[:-3]}_ms" if name.endswith("_us") else name) for name in Event.__struct_fields__
    }
    assert wanted | set(Usage.__struct_fields__) <= names


def test_views_agree_with_own_arithmetic(shared_stores: Stores) -> None:
    """Both BI views give what the events give by plain Python, per day or hour, organisation and feature."""
    events = [msgspec.structs.replace(item, org="views") for item in some_events(3_000)]
    events.append(event(3_000, org="views", status=499, error_source="client", error_category="client_disconnect"))
    with running(shared_stores.ingestor("views")):
        shared_stores.pusher.push(5, events)
        shared_stores.wait_drained()
    assert costs_by_day(shared_stores) == expected_costs(events)
    latencies = shared_stores.select("SELECT * FROM lectr.feature_latency_hourly WHERE org = 'views'")
    expected = expected_latencies(events)
    assert {(row["hour"], row["feature"]) for row in latencies} == set(expected)
    for row in latencies:
        want = expected[row["hour"], row["feature"]]
        for name, value in want.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-5)), (row, name)


def costs_by_day(shared_stores: Stores) -> dict[tuple[str, str], tuple[Any, ...]]:
    query = (
        "SELECT *, toString(cost) AS money, toString(estimated_cost) AS estimated_money"
        " FROM lectr.feature_cost_daily WHERE org = 'views'"
    )
    return {
        (row["day"], row["feature"]): (
            row["requests"],
            row["errors"],
            row["client_disconnects"],
            Decimal(row["money"]),
            Decimal(row["estimated_money"]),
            row["unpriced_requests"],
            pytest.approx(row["unpriced_share"]),
            row["estimated_requests"],
            pytest.approx(row["estimated_share"]),
            row["input_tokens"],
            row["input_cache_read_tokens"],
            row["output_tokens"],
        )
        for row in shared_stores.select(query)
    }


def expected_costs(events: list[Event]) -> dict[tuple[str, str], tuple[Any, ...]]:
    pricer = Pricer()
    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for item in events:
        groups[f"{datetime.fromtimestamp(item.ts_ms / 1_000, tz=UTC):%Y-%m-%d}", item.feature].append(item)
    expected = {}
    for key, group in groups.items():
        costs = [pricer.price(item).dollars for item in group]
        guesses = [cost for item, cost in zip(group, costs, strict=True) if item.usage_source == "estimated"]
        expected[key] = (
            len(group),
            sum(item.error_source not in {"", "client"} for item in group),
            sum(item.error_category == "client_disconnect" for item in group),
            sum((cost for cost in costs if cost is not None), Decimal(0)),
            sum((cost for cost in guesses if cost is not None), Decimal(0)),
            costs.count(None),
            costs.count(None) / len(group),
            len(guesses),
            len(guesses) / len(group),
            sum(item.usage.input_tokens for item in group),
            sum(item.usage.input_cache_read_tokens for item in group),
            sum(item.usage.output_tokens for item in group),
        )
    return expected


def quantile(values: list[float], share: float) -> float | None:
    """Exact, interpolated between neighbours."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def expected_latencies(events: list[Event]) -> dict[tuple[str, str], dict[str, float | None]]:
    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for item in events:
        groups[f"{datetime.fromtimestamp(item.ts_ms / 1_000, tz=UTC):%Y-%m-%d %H:00:00}", item.feature].append(item)
    expected = {}
    for key, group in groups.items():
        latencies = [item.latency_us / 1_000 for item in group]
        firsts = [item.ttft_us / 1_000 for item in group if item.streaming and item.ttft_us >= 0]
        errors = sum(item.error_source not in {"", "client"} for item in group)
        expected[key] = {
            "requests": len(group),
            "errors": errors,
            "error_rate": errors / len(group),
            "streams": len(firsts),
            **{f"latency_p{share}_ms": quantile(latencies, share / 100) for share in (50, 90, 95, 99)},
            **{f"ttft_p{share}_ms": quantile(firsts, share / 100) for share in (50, 95, 99)},
        }
    return expected


def test_probes_tell_the_truth(shared_stores: Stores) -> None:
    """A working ingestor is alive and ready, owns its partition, and counts what it stored."""
    with serving(shared_stores.ingestor("probes")) as part:
        wait_until(lambda: readiness(part)[1]["partitions"] == {"0": "owner"})
        status, body = readiness(part)
        assert (status, body["ready"], body["faults"]) == (200, True, {})
        shared_stores.pusher.push(9, [event(seq, model_actual="unheard-of") for seq in range(7)])
        shared_stores.wait_drained()
        wait_until(lambda: metric(part, "lectr_ingestor_events_stored_total") == 7)
        assert metric(part, "lectr_ingestor_events_unpriced_total") == 7
        assert fetch(f"{part.ops_url}/healthz")[0] == 200


def test_settings_are_known_and_documented_by_name() -> None:
    """Each setting's variable is in the list of known names."""
    assert {variable_of(name) for name in Settings.__struct_fields__} <= KNOWN_NAMES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LECTR_CLICKHOUSE_URL", "ftp://127.0.0.1/lectr"),
        ("LECTR_CLICKHOUSE_URL", "127.0.0.1:8123"),
        ("LECTR_CLICKHOUSE_URL", "http:///lectr"),
        ("LECTR_CLICKHOUSE_URL", "http://host:port/lectr"),
        ("LECTR_CLICKHOUSE_URL", "http://host/two/parts"),
        ("LECTR_CLICKHOUSE_URL", "http://host/lectr;drop"),
        ("LECTR_CLICKHOUSE_URL", "http://user:hidden-word@host/lectr?password=hidden-word"),
        ("LECTR_REDIS_URL", "http://127.0.0.1:6379"),
        ("LECTR_REDIS_URL", "redis://:hidden-word@127.0.0.1:6379/zero"),
        ("LECTR_BATCH_MAX_EVENTS", "500001"),
        ("LECTR_BATCH_MAX_EVENTS", "0"),
        ("LECTR_BATCH_MAX_AGE_MS", "1"),
        ("LECTR_LEASE_MS", "10"),
        ("LECTR_STREAM_PARTITIONS", "many"),
        ("LECTR_OPS_LISTEN", "9091"),
        ("LECTR_LOG_LEVEL", "loud"),
    ],
)
def test_unusable_settings_are_refused_by_name(name: str, value: str) -> None:
    """The fault names the variable and never shows a password."""
    with pytest.raises(SettingsFault, match=f"^{name}=") as caught:
        load_settings({name: value})
    assert "hidden-word" not in str(caught.value)


def test_the_clickhouse_url_has_defaults_and_decodes() -> None:
    """Port and database have defaults; user and password may be percent-encoded."""
    plain = clickhouse_address(SecretUrl("https://host"))
    assert (plain.port, plain.database, plain.user) == (8443, "lectr", "default")
    full = clickhouse_address(SecretUrl("http://us%40er:p%2Fss@host:9/db_2"))
    assert (full.user, full.password.reveal(), full.port, full.database) == ("us@er", "p/ss", 9, "db_2")


def ingestor_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_command("ingestor", *arguments, **{"LECTR_OPS_LISTEN": "127.0.0.1:0", **settings})


def test_print_settings_stars_secrets() -> None:
    """--print-settings shows effective values, without passwords."""
    done = ingestor_command("--print-settings", LECTR_CLICKHOUSE_URL="http://me:hidden-word@host:8123/lectr")
    assert done.returncode == 0, done.stderr
    assert "LECTR_CLICKHOUSE_URL=" in done.stdout
    assert "***" in done.stdout
    assert "LECTR_BATCH_MAX_EVENTS=100000" in done.stdout
    assert "hidden-word" not in done.stdout + done.stderr


def test_a_bad_setting_ends_the_start() -> None:
    """Exit code 2, the variable's name, no stack trace."""
    done = ingestor_command(LECTR_CLICKHOUSE_URL="nonsense")
    assert done.returncode == 2
    assert "LECTR_CLICKHOUSE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("database", ["not_there", "empty_one"])
def test_tables_are_waited_for(shared_stores: Stores, tmp_path: Path, database: str) -> None:
    """The worker makes no tables: it says what to run, for a missing database and a missing table, and goes on then."""
    if database == "empty_one":
        execute(shared_stores.clickhouse_url, "CREATE DATABASE IF NOT EXISTS empty_one")
    url = f"{shared_stores.clickhouse_url}/{database}"
    part = Ingestor(tmp_path, shared_stores.redis_url, shared_stores.clickhouse_url, LECTR_CLICKHOUSE_URL=url)
    with running(part):
        wait_until(lambda: "run: python -m ingestor migrate" in part.output)
        assert "Traceback" not in part.output
        assert "working, ops listening" not in part.output
        assert ingestor_command("migrate", LECTR_CLICKHOUSE_URL=url).returncode == 0
        part.wait()


def subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def test_every_redis_exception_becomes_a_fault() -> None:
    """Whatever the Redis driver raises leaves as RedisFault."""
    for kind in subclasses(redis_exceptions.RedisError):
        raised = BaseException.__new__(kind)
        with pytest.raises(RedisFault), translated():
            raise raised
    for system in (ConnectionRefusedError, TimeoutError):
        with pytest.raises(RedisFault), translated():
            raise system


def test_every_clickhouse_exception_becomes_a_fault() -> None:
    """Whatever the ClickHouse driver raises leaves as a fault with an action."""
    address = clickhouse_address(SecretUrl("http://host"))
    for kind in subclasses(driver_exceptions.ClickHouseError):
        raised = BaseException.__new__(kind)
        if isinstance(raised, driver_exceptions.Error):
            raised.code = None
        with pytest.raises(ClickHouseFault) as caught, _translated(address):
            raise raised
        assert caught.value.action in Action
    for system in (ConnectionResetError, TimeoutError):
        with pytest.raises(ClickHouseFault), _translated(address):
            raise system
    with pytest.raises(SchemaFault, match="ingestor migrate"), _translated(address):
        raise driver_exceptions.DatabaseError("gone", code=60)


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (None, Action.RETRY),
        (241, Action.RETRY),
        (252, Action.RETRY),
        (999_999, Action.RETRY),
        (117, Action.SPLIT),
        (469, Action.SPLIT),
        (516, Action.STOP),
        (497, Action.STOP),
        (60, Action.STOP),
    ],
)
def test_codes_are_classified(code: int | None, action: Action) -> None:
    """Content is cut, people's errors wait for people, and everything else is tried again."""
    assert action_of(code) is action


@pytest.mark.parametrize(
    ("action", "frames", "stored", "decision"),
    [
        (Action.SPLIT, 5, 0, Action.SPLIT),
        (Action.SPLIT, 1, 0, Action.DEAD),
        (Action.SPLIT, 5, 3, Action.RETRY),
        (Action.SPLIT, 1, 3, Action.RETRY),
        (Action.RETRY, 1, 0, Action.RETRY),
        (Action.STOP, 1, 0, Action.STOP),
    ],
)
def test_a_batch_stored_in_part_is_never_cut(action: Action, frames: int, stored: int, decision: Action) -> None:
    """Cutting it would store its stored part again under other tokens."""
    fault = ClickHouseFault("refused", action=action, code=1)
    assert decide(fault, frames=frames, stored_rows=stored) is decision
