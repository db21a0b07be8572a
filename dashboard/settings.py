"""The dashboard's settings, from `LECTR_…` variables (see shared/environment.py)."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shared.clickhouse_url import clickhouse_address
from shared.environment import LogLevel, Secret, SecretUrl, SettingsFault, parse_listen, read_settings
from shared.redis_url import check_redis_url

SHORTEST_SECRET: Final = 16
"""Characters of the admin secret: nothing but its length keeps it from being guessed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line and the server need."""

    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0")
    clickhouse_url: SecretUrl | None = None
    """Where the log of changes and the rows of requests are. Without it nothing is said about either."""
    listen: str = "127.0.0.1:8081"
    """Where the server listens, plain HTTP: other machines reach it if told so; port 0 picks a free one."""
    admin_secret: Secret = Secret("")
    """What the API's clients send; the server does not start without one."""
    admin_requests_per_s: Annotated[int, Meta(ge=1, le=100_000)] = 50
    """Requests with the right secret, of all clients together; twice as many at once after a pause."""
    registry_file: str = ""
    """The file that declares the organisations; no other door changes them then."""
    log_level: LogLevel = "info"


def load_settings() -> Settings:
    """Read and check what the command line needs; raises SettingsFault naming the variable."""
    settings = read_settings(Settings)
    check_redis_url(settings.redis_url)
    if settings.clickhouse_url is not None:
        clickhouse_address(settings.clickhouse_url)
    return settings


def load_server_settings() -> Settings:
    """Read and check what the server needs; raises SettingsFault naming the variable."""
    settings = load_settings()
    parse_listen(settings.listen, "LECTR_LISTEN")
    secret = settings.admin_secret.reveal()
    if len(secret) < SHORTEST_SECRET:
        raise SettingsFault(
            f"LECTR_ADMIN_SECRET: {'too short' if secret else 'not set'}; give {SHORTEST_SECRET} characters or more, "
            "as `openssl rand -hex 32` makes them"
        )
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise SettingsFault(
            "LECTR_ADMIN_SECRET: a header holds printable ASCII without spaces; use no other characters"
        )
    return settings
