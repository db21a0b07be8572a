"""The dashboard's settings, from `LECTR_…` variables (see shared/environment.py)."""

import msgspec

from shared.clickhouse_url import clickhouse_address
from shared.environment import SecretUrl, read_settings
from shared.redis_url import check_redis_url


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line needs."""

    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0")
    clickhouse_url: SecretUrl | None = None
    """Where the log of changes and the rows of requests are. Without it nothing is said about either."""
    registry_file: str = ""
    """The file that declares the organisations; no other door changes them then."""


def load_settings() -> Settings:
    """Read and check the environment; raises SettingsFault naming the variable."""
    settings = read_settings(Settings)
    check_redis_url(settings.redis_url)
    if settings.clickhouse_url is not None:
        clickhouse_address(settings.clickhouse_url)
    return settings
