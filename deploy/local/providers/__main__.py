"""`python -m deploy.local.providers`: start the mock providers, say where, stop on SIGTERM or Ctrl-C.

In: options. Out: one line on stdout when it serves; exit 0 after a signal, 2 for a bad option or a taken port.
"""

import asyncio
import signal
import sys
from typing import Final

import click
from aiohttp import web

from deploy.local.providers.app import build_app
from deploy.local.providers.profile import Profile

SHUTDOWN_S: Final = 0.5
MAX_LINE_BYTES: Final = 64 * 1024
"""Bound of one request line or header field, above what a gateway should let through."""
MAX_PORT: Final = 65_535


class PortTakenError(Exception):
    """The address cannot be bound; the text names it."""


@click.command()
@click.option("--listen", default="127.0.0.1:8100", show_default=True, help="HOST:PORT; port 0 picks one.")
@click.option("--latency-ms", default=0.0, type=click.FloatRange(min=0), help="Delay before every answer.")
@click.option("--jitter", default=0.0, type=click.FloatRange(0, 1), help="Share by which the delay varies.")
@click.option(
    "--error-rate",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Share that fails of requests with mock=may-fail in the query.",
)
@click.option("--keep-bodies", is_flag=True, help="Show request bodies in GET /_mock/requests.")
def main(listen: str, latency_ms: float, jitter: float, error_rate: float, *, keep_bodies: bool) -> None:
    """Serve mock OpenAI, Anthropic, Groq, Gemini and Azure OpenAI APIs."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise click.BadParameter("must be HOST:PORT", param_hint="--listen")
    profile = Profile(latency_ms=latency_ms, jitter=jitter, error_rate=error_rate)
    try:
        asyncio.run(_serve(host.strip("[]"), int(port), profile, keep_bodies=keep_bodies))
    except PortTakenError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


async def _serve(host: str, port: int, profile: Profile, *, keep_bodies: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        build_app(profile=profile, keep_bodies=keep_bodies),
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as error:
            raise PortTakenError(f"mock providers cannot listen on {host}:{port}: {error.strerror or error}") from error
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        click.echo(f"mock providers listening on http://{shown}:{bound[1]}")
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main()
