"""How long a Redis server has certainly served alone: what a wait for former owners may be shortened by."""

from collections.abc import Mapping
from typing import Any

import pytest

from ingestor.ledger import Ledger
from ingestor.redis_link import open_redis
from shared.environment import SecretUrl
from shared.redis_client import close_redis
from shared.stream import Partition

ALONE: dict[str, Any] = {"role": "master", "second_repl_offset": -1}


@pytest.mark.parametrize(
    ("info", "seconds"),
    [
        ({**ALONE, "uptime_in_seconds": 0}, 0),
        ({**ALONE, "uptime_in_seconds": 1}, 0),
        ({**ALONE, "uptime_in_seconds": 9}, 8),
        ({**ALONE, "uptime_in_seconds": 9, "second_repl_offset": 700}, 0),
        ({**ALONE, "uptime_in_seconds": 9, "role": "slave"}, 0),
        ({}, 0),
    ],
)
async def test_no_more_than_is_certain(
    info: Mapping[str, Any], seconds: float, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's uptime may be a second too long, and says nothing if it has followed another one."""

    async def said(*_: object) -> Mapping[str, Any]:
        return info

    monkeypatch.setattr("ingestor.ledger.info_of", said)
    client = open_redis(SecretUrl(redis_url))
    try:
        assert await Ledger(client).serving_s(Partition(0)) == seconds
    finally:
        await close_redis(client)
