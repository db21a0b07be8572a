"""What goes wrong inside the Redis driver is a fault that is waited out; a defect of ours stays one."""

from typing import Any

import pytest
from redis.asyncio.connection import Connection

from ingestor.faults import RedisFault
from ingestor.redis_link import translated


async def test_a_connection_that_was_closed_under_a_command() -> None:
    """The driver of a cluster writes to what another task has just closed, and says AttributeError."""
    connection: Any = Connection()
    with pytest.raises(RedisFault, match="AttributeError inside the Redis driver"), translated():
        await connection._send_packed_command([b"PING"])


async def test_a_defect_of_ours_is_none_of_the_driver() -> None:
    """Also where it is about a command."""
    nothing: Any = None
    with pytest.raises(AttributeError), translated():
        await nothing.get("key")
