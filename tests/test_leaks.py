"""After everything else ran: no key, credential, prompt or answer is in anything that the processes wrote.

Runs last (see conftest.py) and reads what all tests before it left behind: logs, Redis, ClickHouse, files.
"""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.local.providers import ANSWER_MARKER
from shared.registry import KEY_PREFIX
from tests.canaries import PROMPT, PROVIDER_KEY, QUERY_SECRET
from tests.lectr import Lectr, chat
from tests.parts import fetch

SECRET = re.compile(
    "|".join([KEY_PREFIX + r"[A-Za-z0-9_-]{20,}", *map(re.escape, (PROVIDER_KEY, PROMPT, ANSWER_MARKER, QUERY_SECRET))])
)
LAPTOP_KEY_FILE = "key"
"""The laptop stack keeps its one key in this file, readable by its owner alone: the only place that may hold one."""


def leaks_in(where: str, text: str) -> list[str]:
    return [f"{where}: {found[0][:12]}…" for found in SECRET.finditer(text)]


def leaks_in_files(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name != LAPTOP_KEY_FILE:
            found += leaks_in(str(path.relative_to(root)), path.read_bytes().decode("latin-1"))
    return found


def texts_in_redis(client: "redis.Redis") -> Iterator[tuple[str, str]]:
    """Every key and value of every type."""
    for key in client.scan_iter():
        kind = client.type(key)
        value: Any
        match kind:
            case b"string":
                value = client.get(key)
            case b"hash":
                value = client.hgetall(key)
            case b"stream":
                value = client.xrange(key)
            case b"set":
                value = client.smembers(key)
            case b"zset":
                value = client.zrange(key, 0, -1)
            case _:
                value = client.lrange(key, 0, -1)
        yield key.decode(), repr(key) + repr(value)


def leaks_in_redis(url: str) -> list[str]:
    with redis.Redis.from_url(url) as client:
        return [leak for key, text in texts_in_redis(client) for leak in leaks_in(f"redis {key}", text)]


def leaks_in_clickhouse(lectr: Lectr) -> list[str]:
    """Every text column of every table of ours, and what the engine keeps about queries."""
    tables = lectr.select(
        "SELECT database, name FROM system.tables "
        "WHERE database = 'lectr' OR (database = 'system' AND name LIKE '%_log')"
    )
    found = []
    for table in tables:
        name = f"{table['database']}.{table['name']}"
        # As bytes: states of aggregates are no text.
        query = urllib.parse.urlencode({"query": f"SELECT * FROM {name} FORMAT TSVRaw"})
        status, body = fetch(f"{lectr.clickhouse_url}/?{query}")
        assert status == 200, body
        found += leaks_in(f"clickhouse {name}", body.decode("latin-1"))
    return found


@pytest.fixture
def everything_written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


def test_nothing_secret_was_written(lectr: Lectr, everything_written: Path) -> None:
    """After the whole suite, no log, file, Redis value or ClickHouse column holds a key, prompt or answer."""
    lectr.post("/v1/chat/completions?key=" + QUERY_SECRET, chat(), X_Lectr_Feature="leak-probe")
    lectr.rows("feature = 'leak-probe'")
    assert leaks_in_files(everything_written) == []
    assert leaks_in_redis(lectr.redis_url) == []
    assert leaks_in_clickhouse(lectr) == []
    with redis.Redis.from_url(lectr.redis_url) as client:
        assert sum(1 for _ in texts_in_redis(client)) > 0, "nothing was looked at"


@pytest.mark.parametrize("secret", [KEY_PREFIX + "a" * 43, PROVIDER_KEY, PROMPT, ANSWER_MARKER])
def test_a_planted_secret_is_found(lectr: Lectr, tmp_path: Path, secret: str) -> None:
    """The search finds what is planted in a log and in Redis, so its silence means something."""
    (tmp_path / "some.log").write_bytes(b"\x00binary " + secret.encode() + b"\xff")
    assert leaks_in_files(tmp_path) == [f"some.log: {secret[:12]}…"]
    with redis.Redis.from_url(lectr.redis_url) as client:
        client.hset("planted", secret, "x")
        try:
            assert leaks_in_redis(lectr.redis_url)
        finally:
            client.delete("planted")


def test_a_planted_secret_is_found_in_clickhouse(lectr: Lectr) -> None:
    """A secret in a column is found too (in a table of its own, dropped afterwards)."""
    command(lectr, "CREATE TABLE lectr.planted (note String) ENGINE = Memory")
    try:
        command(lectr, f"INSERT INTO lectr.planted VALUES ('{PROVIDER_KEY}')")
        assert leaks_in_clickhouse(lectr)
    finally:
        command(lectr, "DROP TABLE lectr.planted")


def command(lectr: Lectr, text: str) -> None:
    status, body = fetch(lectr.clickhouse_url, data=text.encode(), method="POST")
    assert status == 200, body
