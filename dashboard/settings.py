"""The dashboard's settings, from `LECTR_…` variables (see shared/environment.py)."""

import msgspec

from shared.environment import SecretUrl, read_settings
from shared.redis_url import check_redis_url


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line needs."""

    redis_url: SecretUrl = SecretUrl("redis://127.0.0.1:6379/0")
    registry_file: str = ""
    """The file that declares the organisations; no other door changes them then."""


def load_settings() -> Settings:
    """Read and check the environment; raises SettingsFault naming the variable."""
    settings = read_settings(Settings)
    check_redis_url(settings.redis_url)
    return settings
