"""How runs of gateways ended, as rows of `gateway_boots`.

In: end records. Out: one row per run; a repeat replaces it, but by one that knows as much: a copy of a state directory
from before says less. What a run used of its numbers and is not in `requests` is lost, and the view `event_gaps` lists
it.
"""

from collections.abc import Mapping
from typing import Final

from ingestor.clickhouse import ClickHouse
from shared.stream import BootEnd

_INSERT: Final = """
INSERT INTO gateway_boots (gateway_boot, gateway, started_at, ended_at, events, unfinished, killed)
SELECT {boot:UInt64}, {gateway:String}, fromUnixTimestamp64Milli({started_ms:Int64}, 'UTC'),
fromUnixTimestamp64Milli({ended_ms:Int64}, 'UTC'), {events:UInt64}, {unfinished:UInt64}, {killed:UInt8}
WHERE (
    SELECT count() FROM gateway_boots
    WHERE gateway_boot = {boot:UInt64} AND (events, NOT killed) > ({events:UInt64}, NOT {killed:UInt8})
) = 0
"""


async def store_ends(clickhouse: ClickHouse, ends: Mapping[int, BootEnd]) -> None:
    """Store how these sources ended. Raises ClickHouseFault, SchemaFault."""
    for source, end in ends.items():
        await clickhouse.execute(
            _INSERT,
            {
                "boot": source,
                "gateway": end.gateway,
                "started_ms": end.started_ms,
                "ended_ms": end.ended_ms,
                "events": end.events,
                "unfinished": end.unfinished,
                "killed": int(end.killed),
            },
        )
