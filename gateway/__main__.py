"""`python -m gateway`: run the gateway; `--print-settings` shows what it would run with."""

import sys

import click

from gateway.app import run
from gateway.settings import load_settings
from gateway.workers import run_workers
from shared.environment import SettingsFault, show_settings


@click.command()
@click.option("--print-settings", is_flag=True, help="Show the effective settings, secrets starred, and exit.")
@click.option("--worker", is_flag=True, hidden=True, help="Be one of LECTR_WORKERS: share the port, end with stdin.")
def main(*, print_settings: bool, worker: bool) -> None:
    """Serve applications' LLM traffic. Settings come from LECTR_… environment variables."""
    try:
        settings = load_settings()
        if print_settings:
            click.echo(show_settings(settings))
            return
        if settings.workers > 1:
            sys.exit(run_workers(settings))
        run(settings, worker=worker)
    except SettingsFault as fault:
        click.echo(f"lectr gateway: {fault}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main(prog_name="python -m gateway")
