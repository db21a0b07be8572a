"""Puts the ingestor together and runs it until a signal.

In: settings. Out: an exit; a fault that only a person can cure at the start leaves as such. Stop on SIGTERM or SIGINT:
the running batch is finished, leases are released; what takes longer than the drain timeout is left to the next owner.
"""

import asyncio
import signal
from typing import Final

from ingestor.clickhouse import ClickHouse
from ingestor.deadletter import DeadLetters
from ingestor.faults import Action, ClickHouseFault, RedisFault, SchemaFault
from ingestor.housekeeping import Housekeeping
from ingestor.lease import Leases
from ingestor.ledger import Ledger
from ingestor.members import Members
from ingestor.partitions import Beyond
from ingestor.pricelist import PriceList
from ingestor.pricing import Pricer
from ingestor.probes import Health, serve_probes
from ingestor.reader import Limits, Reader
from ingestor.recovery import Recovery
from ingestor.redis_link import Redis, open_redis, translated
from ingestor.registry_keeper import RegistryKeeper
from ingestor.registry_log import RegistryLog
from ingestor.registry_reader import RegistryReader
from ingestor.rollup_watch import RollupWatch
from ingestor.settings import ClickHouseAddress, Settings, clickhouse_of
from ingestor.silence import Silence
from ingestor.spending import Spending
from ingestor.unreported import Unreported
from ingestor.worker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Parts, Worker
from shared import counters
from shared.environment import parse_listen
from shared.logs import get_log
from shared.redis_client import close_redis, info_of_all, is_watched, ping_all
from shared.redis_settings import unsafe_servers
from shared.stream import Partition

_FAREWELL_S: Final = 2.0
_log = get_log("app")


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises ClickHouseFault when the start needs a person (a refused password)."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        stopping.set()
        # The second one ends it at once: nothing is lost by that.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    counters.ingestor_tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    health = Health()
    host, port = parse_listen(settings.ops_listen, "LECTR_OPS_LISTEN")
    async with serve_probes(health, host, port) as address:
        redis = open_redis(settings.redis_url)
        try:
            clickhouse = await _reach(clickhouse_of(settings), health, stopping)
            if clickhouse is None:
                return
            print(f"lectr ingestor working, ops listening on {address}", flush=True)  # noqa: T201 - the one line for whoever started it
            try:
                await _work(settings, redis, clickhouse, health, stopping)
            finally:
                await clickhouse.close()
        finally:
            await close_redis(redis)
    _log.info("stopped")


async def _work(
    settings: Settings, redis: Redis, clickhouse: ClickHouse, health: Health, stopping: asyncio.Event
) -> None:
    leases = Leases(redis, settings.instance, settings.lease_ms)
    reader, ledger = Reader(redis), Ledger(redis)
    recovery = Recovery(reader, ledger, clickhouse, leases.longest_s, settings.stream_partitions)
    members = Members(redis, settings.instance, settings.stream_partitions, settings.lease_ms)
    registry_log = RegistryLog(redis, clickhouse)
    registry, price_list = RegistryReader(redis, registry_log), PriceList()

    async def pricer() -> Pricer:
        await registry.read()
        return Pricer(price_list, registry.prices)

    parts = Parts(reader, ledger, leases, members, DeadLetters(redis), clickhouse, recovery, pricer, health)
    limits = Limits(settings.batch_max_events, settings.batch_max_age_ms, settings.batch_max_events)

    async def ask_redis() -> None:
        with translated():
            await ping_all(redis)

    async def ask_clickhouse() -> None:
        await clickhouse.query("SELECT 1")

    health.checks = {
        f"LECTR_REDIS_URL={settings.redis_url!s}": ask_redis,
        f"LECTR_CLICKHOUSE_URL={settings.clickhouse_url!s}": ask_clickhouse,
    }
    _log.info("working", redis=str(settings.redis_url), clickhouse=str(settings.clickhouse_url))
    # Alone, and first: the driver of a cluster closes the connections of others while it reads the topology.
    warning, stopped = asyncio.create_task(_warn(redis)), asyncio.create_task(stopping.wait())
    await asyncio.wait({warning, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if warning.done():
        await warning  # a defect in it is one of ours
    warning.cancel()
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []

        def serve(index: int) -> None:
            tasks.append(group.create_task(Worker(Partition(index), parts, limits, stopping).run()))
            members.partitions = len(tasks)

        for index in range(settings.stream_partitions):
            serve(index)
        beyond = Beyond(redis, clickhouse, settings.stream_partitions)
        silence, unreported = Silence(redis, ledger, clickhouse), Unreported(redis, ledger, clickhouse)
        housekeeping = Housekeeping(ledger, clickhouse, health, silence, unreported)
        exploring = group.create_task(beyond.run(serve))
        watch = RollupWatch(clickhouse, redis, health)
        keeper = RegistryKeeper(registry_log, health)
        spending = Spending(redis, clickhouse, registry, health)
        others = [
            group.create_task(other)
            for other in (housekeeping.run(), members.run(), watch.run(), keeper.run(), spending.run())
        ]
        await stopping.wait()  # a defect in a worker cancels this wait
        exploring.cancel()
        _log.info("stopping", drain_timeout_s=settings.drain_timeout_s)
        _, running = await asyncio.wait(tasks, timeout=settings.drain_timeout_s)
        for task in running:
            _log.warning("batch left to the next owner")
            task.cancel()
        for other in others:
            other.cancel()
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await members.leave()
    except (RedisFault, TimeoutError) as fault:
        _log.warning("still counted as living for a while", detail=str(fault) or "no answer from Redis")


async def _warn(redis: Redis) -> None:
    """Say loudly what is wrong with Redis' settings."""
    try:
        with translated():
            problems = unsafe_servers(await info_of_all(redis), watched=is_watched(redis))
    except RedisFault:
        return  # the worker says it, and waits
    counters.redis_unsafe.set(len(problems))
    for problem in problems:
        _log.error("redis_unsafe", problem=problem)


async def _reach(address: ClickHouseAddress, health: Health, stopping: asyncio.Event) -> ClickHouse | None:
    """Connect and wait for the tables, for as long as it takes; None when stopped meanwhile."""
    pause_s = FIRST_PAUSE_S
    while not stopping.is_set():
        health.beat("start")
        try:
            clickhouse = await ClickHouse.connect(address)
            await clickhouse.check_cluster()
            await clickhouse.check_schema()
        except (ClickHouseFault, SchemaFault) as fault:
            # Missing tables are waited for: a cluster starts the migration and the workers in any order.
            if isinstance(fault, ClickHouseFault) and fault.action is Action.STOP:
                raise
            counters.insert_retries.labels(fault.label).inc()
            health.faults["start"] = f"LECTR_CLICKHOUSE_URL={fault}"
            _log.error("waiting", setting=f"LECTR_CLICKHOUSE_URL={address.shown}", detail=str(fault), pause_s=pause_s)
        else:
            health.faults.pop("start", None)
            return clickhouse
        try:
            async with asyncio.timeout(pause_s):
                await stopping.wait()
        except TimeoutError:
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    return None
