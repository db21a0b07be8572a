"""The Redis client, and the one place where its exceptions become ours.

In: LECTR_REDIS_URL. Out: a client without retries of its own (the worker decides), and `translated()` around every
call. Never decides what to do about a fault.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ingestor.faults import RedisFault
from shared.environment import SecretUrl, SettingsFault

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript


__all__ = ["Redis", "load_script", "open_redis", "translated"]

CONNECT_TIMEOUT_S: Final = 5.0
REPLY_TIMEOUT_S: Final = 30.0
"""Longer than any blocking read here; a Redis that is silent for longer is treated as gone."""


def open_redis(url: SecretUrl) -> Redis:
    """A client; it connects at the first command. Raises SettingsFault for a URL that redis-py cannot use."""
    try:
        client: Redis = Redis.from_url(
            url.reveal(),
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        # Connections are made on first use; an option in the URL that none takes is to be seen now.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
    except (TypeError, ValueError) as error:
        raise SettingsFault(f"LECTR_REDIS_URL={url}: {error}") from None
    return client


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the Redis driver raises leaves as RedisFault; its texts name hosts and commands, never the password."""
    try:
        yield
    except (RedisError, OSError) as error:  # OSError covers TimeoutError and refused connections
        raise RedisFault(f"{type(error).__name__}: {error}") from error


def load_script(client: Redis, name: str) -> "AsyncScript":
    """A Lua script of this package by its file name."""
    return client.register_script((Path(__file__).parent / name).read_text("utf-8"))
