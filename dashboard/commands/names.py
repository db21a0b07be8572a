"""Names for the shell to complete. Quietly none if Redis is away: a person at a prompt wants no fault there."""

from typing import Any, Final

import click

from dashboard.settings import load_settings
from shared.environment import SettingsFault
from shared.redis_client import REDIS_ERRORS, open_blocking
from shared.registry import ORGS_KEY

_TIMEOUT_S: Final = 0.5


def complete_org(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Organisations whose names begin so."""
    try:
        with open_blocking(load_settings().redis_url, timeout_s=_TIMEOUT_S) as client:
            names: Any = client.hkeys(ORGS_KEY)
    except (SettingsFault, *REDIS_ERRORS):
        return []
    return sorted(name for name in (found.decode(errors="replace") for found in names) if name.startswith(incomplete))
