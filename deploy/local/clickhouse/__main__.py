"""`python -m deploy.local.clickhouse`: open the engine, serve its HTTP door, say where, stop on SIGTERM or Ctrl-C.

In: options. Out: one line on stdout when it serves; exit 0 after a signal, 2 for what a person has to fix.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import click
from aiohttp import web

from deploy.local.clickhouse.app import Door
from deploy.local.clickhouse.auth import Account, is_loopback
from deploy.local.clickhouse.engine import Engine, EngineUnavailable
from shared.environment import Secret, SettingsFault, parse_listen

FINISH_S: Final = 5.0
"""How long running requests may go on after a signal; what still runs then is cancelled."""
CANCEL_S: Final = 2.0
"""How long cancelled requests have to say so."""
MAX_LINE_BYTES: Final = 1 << 20
"""Queries may stand in the URL; the real server's bound."""
MB: Final = 1 << 20


class StartFault(Exception):
    """Something a person has to fix; the text names it and the fix."""


@click.command()
@click.option("--data", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the data.")
@click.option("--listen", default="127.0.0.1:8123", show_default=True, help="HOST:PORT; port 0 picks one.")
@click.option("--user", default="default", show_default=True, help="The door's one user.")
@click.option("--password-file", type=click.Path(path_type=Path), help="File with the password; needed off loopback.")
@click.option("--max-memory-mb", type=click.IntRange(min=256), help="Engine memory; default: half of the machine's.")
def main(data: Path, listen: str, user: str, password_file: Path | None, max_memory_mb: int | None) -> None:
    """Serve an embedded ClickHouse over HTTP."""
    try:
        host, port = parse_listen(listen, "--listen")
        account = Account(user, _password(password_file))
        _check_reach(account, host)
        engine = Engine.start(data.absolute(), max_memory_mb * MB if max_memory_mb else _half_of_memory())
        try:
            asyncio.run(_serve(engine, account, host, port))
        finally:
            engine.close()
    except (StartFault, SettingsFault, EngineUnavailable) as error:
        click.echo(f"clickhouse: {error}", err=True)
        sys.exit(2)


def _check_reach(account: Account, host: str) -> None:
    if account.open_to_all and not is_loopback(host):
        raise StartFault(f"--listen {host}: other machines could connect; give --password-file or listen on 127.0.0.1")


def _password(path: Path | None) -> Secret:
    if path is None:
        return Secret("")
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise StartFault(f"--password-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartFault(f"--password-file {path}: not UTF-8 text") from None
    if not password:
        raise StartFault(f"--password-file {path}: the file is empty")
    return Secret(password)


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


async def _serve(engine: Engine, account: Account, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    door = Door(engine, account)
    runner = web.AppRunner(
        door.app(),
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        shutdown_timeout=FINISH_S + CANCEL_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise StartFault(
                f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or choose another with --listen"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"clickhouse http door listening on http://{shown}:{runner.addresses[0][1]}")
        await stop.wait()
        loop.call_later(FINISH_S, threading.Thread(target=door.kill_all, daemon=True).start)
        # A query that does not let itself be cancelled must not keep the process: the data survives worse than this.
        last_resort = threading.Timer(FINISH_S + 2 * CANCEL_S, os._exit, (0,))
        last_resort.daemon = True
        last_resort.start()
    finally:
        await runner.cleanup()
        door.close()


if __name__ == "__main__":
    main()
