"""The ingestor's Redis, and the one place where the driver's exceptions become ours.

In: LECTR_REDIS_URL. Out: a client without retries of its own (the worker decides), and `translated()` around every
call. Never decides what to do about a fault.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ingestor.faults import RedisFault
from shared.environment import SecretUrl
from shared.redis_client import REDIS_ERRORS, Script
from shared.redis_client import AsyncRedis as Redis
from shared.redis_client import open_redis as open_client

__all__ = ["Redis", "load_script", "open_redis", "translated"]

CONNECT_TIMEOUT_S: Final = 5.0
REPLY_TIMEOUT_S: Final = 30.0
"""Longer than any blocking read here; a Redis that is silent for longer is treated as gone."""
_CLIENT: Final = re.compile(r" : <redis\..*>", re.DOTALL)
"""How the driver of Sentinels prints itself, in half a page."""
_INCLUDE: Final = re.compile(r"^-- include (\S+)\n", re.MULTILINE)


def open_redis(url: SecretUrl) -> Redis:
    """A client; it connects at the first command. Raises SettingsFault for a URL that redis-py cannot use."""
    return open_client(url, connect_timeout_s=CONNECT_TIMEOUT_S, reply_timeout_s=REPLY_TIMEOUT_S)


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the Redis driver raises leaves as RedisFault; its texts name hosts and commands, never the password."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise RedisFault(f"{type(error).__name__}: {_CLIENT.sub('', str(error))}") from error
    except Exception as error:
        # The driver of a cluster writes to connections that it has just closed in another task: an AttributeError.
        if not _is_of_driver(error):
            raise
        raise RedisFault(f"{type(error).__name__} inside the Redis driver") from error


def _is_of_driver(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("redis.")


def load_script(client: Redis, name: str) -> Script:
    """A Lua script of this package by its file name, with what its lines `-- include NAME` name."""
    return Script(client, _INCLUDE.sub(lambda line: _text(line[1]), _text(name)))


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")
