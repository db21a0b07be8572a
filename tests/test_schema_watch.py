"""A table, view or column that is gone: said with its name and the cure at the start and at work, until it is back."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from ingestor import housekeeping, schema_watch
from ingestor.clickhouse import ClickHouse
from ingestor.faults import Action, ClickHouseFault
from ingestor.housekeeping import Housekeeping
from ingestor.migrate import migrate
from ingestor.probes import Health, serve_probes
from ingestor.settings import clickhouse_address
from shared import counters
from shared.environment import SecretUrl
from tests.ingestor_process import Stores, metric, readiness, serving, some_events
from tests.parts import execute, fetch, free_port, run_command, running, wait_until

ROLLUP = "requests_to_hourly"
NEEDED = ["requests", "requests_hourly", ROLLUP, "gateway_boots", "ingestion_progress"]
DEADLINE_S = 20.0


def ordered(own: Stores, *arguments: str) -> str:
    """What a command of the ingestor's printed."""
    urls = {"LECTR_CLICKHOUSE_URL": f"{own.clickhouse_url}/lectr", "LECTR_REDIS_URL": own.redis_url}
    done = run_command("ingestor", *arguments, **urls)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def until(look: Callable[[], Any]) -> Any:
    """Wait in a thread: what is looked at is answered by this event loop."""
    return await asyncio.to_thread(wait_until, look, deadline_s=DEADLINE_S)


@asynccontextmanager
async def watching(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Housekeeping of a process that owns no partition, without its pauses, behind the probes; their address."""
    monkeypatch.setattr(housekeeping, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(schema_watch, "_INTERVAL_S", 0.05)
    clickhouse = await ClickHouse.connect(clickhouse_address(SecretUrl(url)))
    health = Health()

    async def fine() -> None:
        return

    health.checks = {"nothing": fine}
    nothing = cast("Any", None)
    task = asyncio.create_task(Housekeeping(nothing, clickhouse, health, nothing, nothing).run())
    try:
        async with serve_probes(health, "127.0.0.1", 0) as probes:
            yield probes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clickhouse.close()


def ready(probes: str) -> tuple[int, str]:
    """The status of /readyz and what it says of the tables."""
    status, body = fetch(f"{probes}/readyz")
    return status, msgspec.json.decode(body)["faults"].get(schema_watch.NAME, "")


async def test_what_is_gone_is_said_until_it_is_back(clickhouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object that an ingestor needs: 503 with its name and the command, counted, and 200 once it is made again."""
    url = f"{clickhouse_url}/watched"
    address = clickhouse_address(SecretUrl(url))
    await migrate(address)
    async with watching(url, monkeypatch) as probes:
        for name in NEEDED:
            await until(lambda: ready(probes) == (200, ""))
            before = counters.schema_faults._value.get()
            await asyncio.to_thread(execute, clickhouse_url, f"DROP TABLE watched.{name} SYNC")
            status, said = await until(lambda: (seen := ready(probes))[1] and seen)
            assert status == 503
            assert said.startswith(f"LECTR_CLICKHOUSE_URL={clickhouse_url}")
            assert f" {name}" in said
            assert "run: python -m ingestor migrate" in said
            assert counters.schema_faults._value.get() > before
            await migrate(address)
        await until(lambda: ready(probes) == (200, ""))


async def test_a_changed_column_is_said_until_it_is_back(clickhouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any table that an ingestor fills: 503 with the statement that cures it, not a command that does not."""
    url = f"{clickhouse_url}/columns"
    await migrate(clickhouse_address(SecretUrl(url)))
    async with watching(url, monkeypatch) as probes:
        for table, change, cure in (
            ("requests", "RENAME COLUMN task TO former", "RENAME COLUMN former TO task"),
            ("requests_hourly", "DROP COLUMN errors", "ADD COLUMN errors SimpleAggregateFunction(sum, UInt64)"),
            ("gateway_boots", "DROP COLUMN killed", "ADD COLUMN killed Bool"),
            ("ingestion_progress", "MODIFY COLUMN missing String", "MODIFY COLUMN missing UInt64"),
        ):
            await until(lambda: ready(probes) == (200, ""))
            await asyncio.to_thread(execute, clickhouse_url, f"ALTER TABLE columns.{table} {change}")
            status, said = await until(lambda: (seen := ready(probes))[1] and seen)
            assert status == 503
            assert f": {table}" in said
            assert f": ALTER TABLE columns.{table} " in said
            assert "python -m ingestor migrate" not in said
            if "RENAME" not in change:
                assert said.endswith(f"ALTER TABLE columns.{table} {cure}")
            await asyncio.to_thread(execute, clickhouse_url, f"ALTER TABLE columns.{table} {cure}")
        await until(lambda: ready(probes) == (200, ""))


async def test_a_view_of_a_former_table_is_gone(clickhouse_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there by its name, and is not fed by the table that took the old one's place."""
    url = f"{clickhouse_url}/replaced"
    await migrate(clickhouse_address(SecretUrl(url)))
    async with watching(url, monkeypatch) as probes:
        for statement in (
            "RENAME TABLE replaced.requests TO replaced.former",
            "CREATE TABLE replaced.requests AS replaced.former",
        ):
            await asyncio.to_thread(execute, clickhouse_url, statement)
        await until(lambda: f"no materialized view {ROLLUP} of requests" in ready(probes)[1])


async def test_an_absent_clickhouse_says_nothing_of_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is told by its own check: no table is called missing, and what was stays said."""
    monkeypatch.setattr(schema_watch, "_INTERVAL_S", 0.0)
    health = Health()

    class Away:
        async def check_schema(self) -> None:
            raise ClickHouseFault("no answer", action=Action.RETRY)

    watch = schema_watch.SchemaWatch(cast("Any", Away()), health)
    for said in ({}, {schema_watch.NAME: "gone"}):
        health.faults = dict(said)
        with pytest.raises(ClickHouseFault):
            await watch.look()
        assert health.faults == said


def test_rows_go_on_while_the_rollups_view_is_gone(own: Stores) -> None:
    """Every event is stored meanwhile, and the two commands that the fault names bring them into the rollup."""
    sums = "SELECT sum(requests) AS n FROM lectr.usage_hourly"
    with serving(own.eager()) as part:
        own.pusher.push(7, some_events(100))
        wait_until(lambda: own.figures() == (100, 100))
        execute(own.clickhouse_url, f"DROP TABLE lectr.{ROLLUP} SYNC")
        own.pusher.push(7, some_events(100, first_seq=100))
        wait_until(lambda: own.figures() == (200, 200))
        own.wait_drained()
        assert own.select(sums) == [{"n": 100}]
        assert f"made again: 0004_rollup.sql ({ROLLUP})" in ordered(own, "migrate")
        ordered(own, "rollup", "--rebuild")
        own.pusher.push(7, some_events(100, first_seq=200))
        wait_until(lambda: own.figures() == (300, 300))
        own.wait_drained()
        assert own.select(sums) == [{"n": 300}]
        assert metric(part, "lectr_ingestor_insert_retries_total") == 0


@pytest.mark.parametrize("gone", [ROLLUP, "ingestion_progress"])
def test_the_start_waits_for_what_is_gone(own: Stores, gone: str) -> None:
    """As for missing tables: it names the object and the command, is not ready, and starts when it is back."""
    execute(own.clickhouse_url, f"DROP TABLE lectr.{gone} SYNC")
    ops = f"127.0.0.1:{free_port()}"
    part = own.eager(LECTR_OPS_LISTEN=ops)
    with running(part):
        line = part.line_with(gone)
        assert "run: python -m ingestor migrate" in line
        status, body = fetch(f"http://{ops}/readyz")
        assert (status, gone in body.decode()) == (503, True)
        assert "working, ops listening" not in part.output
        ordered(own, "migrate")
        part.wait()
        wait_until(lambda: readiness(part)[0] == 200)


def test_a_table_that_was_renamed_is_waited_for(own: Stores) -> None:
    """Events wait while there is no `requests`, and go into the one that `migrate` makes, and into the rollup."""
    with serving(own.eager()) as part:
        own.pusher.push(7, some_events(100))
        wait_until(lambda: own.figures() == (100, 100))
        own.wait_drained()
        execute(own.clickhouse_url, "RENAME TABLE lectr.requests TO lectr.former")
        own.pusher.push(7, some_events(100, first_seq=100))
        wait_until(lambda: "run: python -m ingestor migrate" in readiness(part)[1]["faults"].get("partition 0", ""))
        # What is stored between the making of the table and that of the view behind it misses the rollup.
        part.process.send_signal(signal.SIGSTOP)
        try:
            ordered(own, "migrate")
        finally:
            part.process.send_signal(signal.SIGCONT)
        wait_until(lambda: own.figures() == (100, 100))
        own.wait_drained()
        assert own.select("SELECT sum(requests) AS n FROM lectr.usage_hourly") == [{"n": 200}]
