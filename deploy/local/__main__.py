"""`python -m deploy.local`: what `make run` and `make demo` start. Ctrl-C or SIGTERM stops all of it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import click

from deploy.local.redis_server import NoRedisServer
from deploy.local.stack import ORG, Ports, Stack, StackFault
from deploy.local.traffic import drive
from shared.environment import process_environment

_HIGHEST_BASE = 65_000


@click.command()
@click.option("--demo", is_flag=True, help="Use mock providers and make traffic, so that there is something to see.")
@click.option(
    "--data", type=click.Path(path_type=Path), default=Path("data"), show_default=True, help="Kept over runs."
)
@click.option("--port-base", type=click.IntRange(1024, _HIGHEST_BASE), help="Use seven ports from here on.")
@click.option("--json", "as_json", is_flag=True, help="Once everything serves, print one JSON line with all addresses.")
@click.option("--traffic/--no-traffic", default=True, help="With --demo: whether to make traffic.")
def main(*, demo: bool, data: Path, port_base: int | None, as_json: bool, traffic: bool) -> None:
    """Run Lectr on this machine: Redis, ClickHouse, gateway and ingestor."""

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    if data == Path():
        raise click.UsageError("--data: name a directory for the data, like ./data")
    stack = Stack(
        data_dir=data.absolute(),
        ports=Ports() if port_base is None else Ports.from_base(port_base),
        environ=process_environment(),
        demo=demo,
        say=say,
    )
    try:
        asyncio.run(_run(stack, as_json=as_json, traffic=demo and traffic))
    except (StackFault, NoRedisServer) as fault:
        print(f"lectr: {fault}", file=sys.stderr, flush=True)
        sys.exit(2)


async def _run(stack: Stack, *, as_json: bool, traffic: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    running = asyncio.create_task(_serve(stack, as_json=as_json, traffic=traffic))
    try:
        await asyncio.wait({stopped, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, stopped):
            task.cancel()
        await asyncio.gather(running, stopped, return_exceptions=True)
        stack.say("stopping; the data stays in " + str(stack.data_dir))
        await stack.stop()


async def _serve(stack: Stack, *, as_json: bool, traffic: bool) -> None:
    await stack.start()
    print(json.dumps(_addresses(stack)) if as_json else _welcome(stack), flush=True)
    parts = [asyncio.create_task(stack.wait_for_end())]
    if traffic:
        parts.append(asyncio.create_task(drive(stack.gateway_url, stack.key, stack.say)))
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


def _addresses(stack: Stack) -> dict[str, object]:
    def pids(name: str) -> list[int]:
        return [stack.children[name].pid] if name in stack.children else []

    return {
        "gateway": stack.gateway_url,
        "gateway_ops": f"http://127.0.0.1:{stack.ports.gateway_ops}",
        "ingestor_ops": f"http://127.0.0.1:{stack.ports.ingestor_ops}",
        "clickhouse": stack.clickhouse_url,
        "redis": stack.redis_url,
        "providers": f"http://127.0.0.1:{stack.ports.providers}" if stack.demo else None,
        "dashboard": stack.dashboard_url,
        "org": ORG,
        "org_key": stack.key,
        "admin_secret": stack.admin_secret,
        "pids": {
            "gateway": pids("gateway"),
            "ingestor": pids("ingestor"),
            "redis": next(iter(pids("redis")), None),
            "clickhouse": next(iter(pids("clickhouse")), None),
            "dashboard": next(iter(pids("dashboard")), None),
        },
    }


def _welcome(stack: Stack) -> str:
    credential = "demo" if stack.demo else "$OPENAI_API_KEY"
    columns = "ts,feature,provider,model_actual,status,input_tokens,output_tokens,cost,usage_source"
    return f"""
Lectr serves. Key of organisation {ORG!r}{" (new)" if stack.key_is_new else ""}: {stack.key}

Send a request ({"the answer comes from a mock" if stack.demo else "with your OpenAI key in OPENAI_API_KEY"}):
  curl {stack.gateway_url}/v1/chat/completions \\
    -H 'X-Lectr-Key: {stack.key}' -H 'X-Lectr-Feature: hello' \\
    -H "Authorization: Bearer {credential}" -H 'Content-Type: application/json' \\
    -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Say hello"}}]}}'

Read its row a second later (ClickHouse's HTTP interface is at {stack.clickhouse_url}):
  curl '{stack.clickhouse_url}/?database=lectr&default_format=PrettyCompact' \\
    --data-binary "SELECT {columns} FROM requests WHERE feature = 'hello' ORDER BY ts DESC LIMIT 5"

Organisations, rules, limits over HTTP (`python -m dashboard --help` does the same):
  curl {stack.dashboard_url}/api/v1/orgs -H "Authorization: Bearer $(cat {stack.data_dir}/admin-secret)"

Metrics: http://127.0.0.1:{stack.ports.gateway_ops}/metrics  Logs and data: {stack.data_dir}  Ctrl-C stops everything.
"""  # noqa: S608 - shown to a person, run by nobody


if __name__ == "__main__":
    main(prog_name="python -m deploy.local")
