"""`serve`: the admin HTTP API."""

import sys

import click

from dashboard.settings import load_server_settings
from shared.environment import SettingsFault, show_settings


@click.command()
@click.option("--print-settings", is_flag=True, help="Show the effective settings, secrets starred, and exit.")
def serve(*, print_settings: bool) -> None:
    """Serve the admin HTTP API, for those who have LECTR_ADMIN_SECRET; GET /api/openapi.json tells what it has."""
    try:
        settings = load_server_settings()
        if print_settings:
            click.echo(show_settings(settings))
            return
        # Other commands need no server, and its parts take a while to load.
        from dashboard.api.app import run

        run(settings)
    except SettingsFault as fault:
        click.echo(f"lectr dashboard: {fault}", err=True)
        sys.exit(2)
