"""From when on a gateway that Redis forgot is waited for: never later than something of it that is not stored."""

from collections.abc import Mapping

from ingestor.clickhouse import ClickHouse
from ingestor.presence import FORGET_GONE_MS, unended
from ingestor.progress import Seen
from shared.clock import unix_ms

WHOLE, HOLED, HEADLESS, OLD, OLD_HEADLESS = range(1, 6)
MINUTE_MS = 60_000
LONG_AGO_MS = FORGET_GONE_MS + 60 * MINUTE_MS


async def store(clickhouse: ClickHouse, source: int, starts: Mapping[int, int]) -> None:
    """Requests of a gateway: number -> start."""
    rows = ", ".join(f"({ts_ms / 1_000:.3f}, 'acme', {source}, {seq})" for seq, ts_ms in starts.items())
    await clickhouse.execute(f"INSERT INTO requests (ts, org, gateway_boot, gateway_seq) VALUES {rows}")


async def claim(clickhouse: ClickHouse, partition: int, complete_ms: int, *, retired: bool = False) -> None:
    columns = "partition, complete_up_to, missing, waiting_frames, retired"
    values = f"({partition}, {complete_ms / 1_000:.3f}, 0, 0, {retired})"
    await clickhouse.execute(f"INSERT INTO ingestion_progress ({columns}) VALUES {values}")


async def test_what_is_missing_bounds_what_is_waited_for(database: ClickHouse) -> None:
    """From the last request on, the last before a hole, or what was said to be complete if all before is missing."""
    now_ms = unix_ms()
    ago = {minutes: now_ms - minutes * MINUTE_MS for minutes in (5, 10, 20, 30, 40)}
    recent = {10: ago[20], 11: ago[10]}
    await store(database, WHOLE, {0: ago[20], 1: ago[10]})
    await store(database, HOLED, {0: ago[30], 2: ago[10]})
    await store(database, HEADLESS, recent)
    await store(database, OLD, recent | dict.fromkeys(range(10), now_ms - LONG_AGO_MS))
    await store(database, OLD_HEADLESS, recent | dict.fromkeys(range(9), now_ms - LONG_AGO_MS))

    async def bounds() -> dict[int, int]:
        found = await unended(database, 0, 1)
        assert {source: (seen.at_ms, seen.next_seq) for source, seen in found.items()} == {
            WHOLE: (ago[10], 2),
            HOLED: (ago[10], 3),
            **dict.fromkeys((HEADLESS, OLD, OLD_HEADLESS), (ago[10], 12)),
        }
        return {source: seen.started_ms for source, seen in found.items()}

    first = await bounds()
    headless = {first.pop(HEADLESS), first.pop(OLD_HEADLESS)}
    assert first == {WHOLE: ago[10], HOLED: ago[30], OLD: ago[10]}
    assert max(headless) <= now_ms - FORGET_GONE_MS + MINUTE_MS, "nothing was ever said to be complete"
    await claim(database, 0, ago[5])
    await claim(database, 2, ago[40], retired=True)
    assert await bounds() == {**first, HEADLESS: ago[20], OLD_HEADLESS: ago[20]}
    await claim(database, 1, ago[40])
    assert await bounds() == {**first, HEADLESS: ago[40], OLD_HEADLESS: ago[40]}
    assert Seen.parse(Seen(3, 2, 1).text.encode()) == Seen(3, 2, 1)
