"""Puts the parts together, runs them until a signal, and takes them down in the order that loses nothing."""

import asyncio
import gc
import signal
import sys
from contextlib import AsyncExitStack

import uvloop
from aiohttp import web

from gateway.budgets import MAX_AGE_MS, Budgets
from gateway.credentials import Credentials
from gateway.journal import UPROOTED_FIX, Journal, new_source
from gateway.probes import Probes
from gateway.providers import Catalogue
from gateway.proxy import Proxy
from gateway.registry import Registry
from gateway.server import GatewayServer
from gateway.settings import Settings, upstream_bases
from gateway.shipper import ENDED_ELSEWHERE_FIX, Shipper
from gateway.snapshot import Snapshot
from gateway.unattended import Unattended
from gateway.upstream import Upstream
from shared import counters
from shared.environment import SettingsFault, parse_listen, process_environment
from shared.logs import get_log, start_logs

_YOUNG_OBJECTS = 10_000
"""So many more containers made than freed, and the collector looks at them. The default, 700, is reached by requests
that are open at once, and all they need is to end."""
_FLUSH_TIMEOUT_S = 10.0
_CUT_TIMEOUT_S = 5.0


def run(settings: Settings, *, worker: bool = False) -> None:
    """Run the gateway until SIGTERM or SIGINT. Raises SettingsFault if it cannot start.

    A `worker` shares its port with others and ends when its standard input does: then its supervisor is gone.
    """
    start_logs("gateway", settings.log_level)
    uvloop.run(_run(settings, worker=worker))


async def _run(settings: Settings, *, worker: bool) -> None:
    stop = asyncio.Event()
    if worker:
        _stop_with_stdin(stop)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    counters.gateway_tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
    async with AsyncExitStack() as parts:
        credentials, budgets = Credentials(), Budgets(max_age_ms=MAX_AGE_MS)
        registry = Registry(
            settings.redis_url,
            poll_s=settings.registry_poll_s,
            snapshot=Snapshot(settings.state_dir),
            credentials=credentials,
        )
        journal = _open_journal(settings)
        parts.callback(journal.release)
        shipper = Shipper(
            settings.redis_url, journal, state_dir=settings.state_dir, interval_ms=settings.flush_interval_ms
        )
        upstream = await parts.enter_async_context(
            Upstream(
                connect_timeout_s=settings.connect_timeout_s,
                first_byte_timeout_s=settings.first_byte_timeout_s,
                idle_timeout_s=settings.idle_timeout_s,
                idle_connection_s=settings.idle_connection_s,
                connection_lifetime_s=settings.connection_lifetime_s,
                dns_refresh_s=settings.dns_refresh_s,
                ca_file=settings.upstream_ca_file,
                environ=process_environment(),
            )
        )
        proxy = Proxy(
            directory=registry.directory,
            catalogue=Catalogue.load(),
            upstream=upstream,
            journal=journal,
            bases=upstream_bases(settings),
            max_body_bytes=settings.max_body_bytes,
            max_file_body_bytes=settings.max_file_body_bytes,
            client_timeout_s=settings.client_timeout_s,
            unattended=Unattended(most=settings.unattended_answers, timeout_s=settings.unattended_timeout_s),
            credentials=credentials,
            budgets=budgets,
        )
        probes = _probes(registry, journal, shipper, proxy)
        ops_address = await _serve_ops(parts, settings, probes)
        await registry.start()
        parts.push_async_callback(registry.close)
        spending = asyncio.create_task(registry.spending(budgets).run(), name="spending")
        parts.callback(spending.cancel)
        journal.start()
        parts.push_async_callback(journal.close)
        shipper.start()
        parts.push_async_callback(shipper.close, _FLUSH_TIMEOUT_S)
        if not await _either(registry.loaded, stop):
            return
        _spare_collector()
        server = GatewayServer(
            proxy.serve, head_timeout_s=settings.client_timeout_s, idle_timeout_s=settings.idle_timeout_s
        )
        sweeping = asyncio.create_task(server.sweep(), name="server sweep")
        parts.callback(sweeping.cancel)
        listening = await _listen(server, settings.listen, "LECTR_LISTEN", shared=worker)
        address = _address(listening.sockets[0].getsockname())
        print(f"lectr gateway listening on {address} (probes and metrics on {ops_address})", flush=True)  # noqa: T201 - the one line a supervisor waits for
        if not settings.state_dir:
            get_log("app").warning("journal_in_memory", fix="LECTR_STATE_DIR keeps events that a killed process leaves")
        get_log("app").info("serving", source=journal.source, journal=journal.kept, instance=settings.instance)
        await stop.wait()
        await _drain(server, listening, proxy, settings.drain_timeout_s)


def _spare_collector() -> None:
    """Leave what the start made out of all later collections: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _stop_with_stdin(stop: asyncio.Event) -> None:
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def ended() -> None:
        loop.remove_reader(stdin)
        stop.set()

    loop.add_reader(stdin, ended)


def _open_journal(settings: Settings) -> Journal:
    try:
        journal = Journal(
            settings.state_dir,
            source=new_source(),
            instance=settings.instance,
            partitions=settings.stream_partitions,
            capacity_bytes=settings.journal_bytes,
            segment_bytes=settings.journal_segment_bytes,
            sync_interval_ms=settings.journal_sync_ms,
        )
    except OSError as error:
        raise SettingsFault(
            f"LECTR_STATE_DIR={settings.state_dir!r}: no journal can be kept there ({error.strerror or error})"
        ) from None
    return journal


def _probes(registry: Registry, journal: Journal, shipper: Shipper, proxy: Proxy) -> Probes:
    def problems() -> list[str]:
        found = []
        if registry.problem:
            found.append(registry.problem)
        if proxy.draining:
            found.append("draining")
        return found

    def warnings() -> list[str]:
        found = []
        if registry.warning:
            found.append(registry.warning)
        if journal.uprooted:
            found.append(UPROOTED_FIX)
        if shipper.ended_elsewhere:
            found.append(f"this boot counts as ended although it lives: {ENDED_ELSEWHERE_FIX}")
        return found

    def details() -> dict[str, object]:
        # Redis being away is no reason to refuse traffic: requests do not need it.
        return {
            "redis": "failing"
            if registry.redis_failing or shipper.redis_failing
            else "slow"
            if shipper.redis_slow
            else "ok",
            "redis_unsafe": shipper.redis_unsafe,
            "waiting_events": shipper.waiting_events,
            "unconfirmed_events": shipper.unconfirmed_events,
            "adopted_boots": shipper.adopted_boots,
            "journal": journal.condition,
            "journal_bytes": journal.backlog.size_bytes,
            "open_requests": proxy.open_requests,
        }

    return Probes(problems, warnings, details)


async def _either(wanted: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for one of the two; whether it was the wanted one."""
    waits = [asyncio.create_task(wanted.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return not stop.is_set()


async def _listen(server: GatewayServer, listen: str, variable: str, *, shared: bool) -> asyncio.Server:
    host, port = parse_listen(listen, variable)
    try:
        return await asyncio.get_running_loop().create_server(
            server, host, port, backlog=1024, reuse_address=True, reuse_port=shared or None
        )
    except OSError as error:
        raise SettingsFault(_bind_problem(listen, variable, error)) from None


async def _serve_ops(parts: AsyncExitStack, settings: Settings, probes: Probes) -> str:
    host, port = parse_listen(settings.ops_listen, "LECTR_OPS_LISTEN")
    runner = web.AppRunner(probes.application(), access_log=None)
    await runner.setup()
    parts.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SettingsFault(_bind_problem(settings.ops_listen, "LECTR_OPS_LISTEN", error)) from None
    return _address(runner.addresses[0])


def _bind_problem(listen: str, variable: str, error: OSError) -> str:
    return f"{variable}={listen!r}: cannot listen there ({error.strerror}); stop what uses the port, or choose another"


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


async def _drain(server: GatewayServer, listening: asyncio.Server, proxy: Proxy, timeout_s: float) -> None:
    """Accept nothing new, let running answers finish for `timeout_s`, then cut what is left."""
    log = get_log("app")
    proxy.draining = True
    listening.close()
    server.pre_shutdown()
    log.info("draining", open_requests=proxy.open_requests, timeout_s=timeout_s)
    if not await proxy.idle(timeout_s):
        log.warning("drain_cut", open_requests=proxy.open_requests, fix="LECTR_DRAIN_TIMEOUT_S gives streams more time")
        proxy.cut_running()
        await proxy.idle(_CUT_TIMEOUT_S)
    await server.shutdown(_CUT_TIMEOUT_S)
    log.info("stopped")
