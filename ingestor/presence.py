"""What ClickHouse has of a source: the only truth about it when Redis has forgotten.

In: sources. Out: their Marks. Only to be asked when no insert of an earlier owner can still be on its way: `settle`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from ingestor.clickhouse import TABLE, ClickHouse, log_comment
from ingestor.marks import Marks, Range
from ingestor.progress import Seen

_SOURCES_PER_QUERY: Final = 1_000
_POLL_S: Final = 0.2
FORGET_GONE_MS: Final = 7 * 24 * 3_600_000
"""A gateway that was not seen for so long does not come back with its journal."""
_LATELY: Final = f"ts > now() - INTERVAL {FORGET_GONE_MS // 1_000} SECOND"
_SAID_ENDS: Final = "SELECT gateway_boot, argMax(events, ingested_at) AS events FROM gateway_boots"
"""With a condition and GROUP BY gateway_boot: the last word on how many numbers each boot used."""
_UNENDED: Final = f"""
SELECT r.gateway_boot, toUnixTimestamp64Milli(r.last_at), r.following, r.first, toUnixTimestamp64Milli(r.first_at),
    r.following - r.first = r.numbers AS whole
FROM
(
    SELECT gateway_boot, argMax(ts, gateway_seq) AS last_at, max(gateway_seq) + 1 AS following,
        min(gateway_seq) AS first, min(ts) AS first_at, groupBitmap(gateway_seq) AS numbers
    FROM {TABLE}
    WHERE {_LATELY} AND gateway_boot % {{partitions:UInt32}} = {{partition:UInt32}}
    GROUP BY gateway_boot
) AS r
LEFT JOIN ({_SAID_ENDS} GROUP BY gateway_boot) AS b
    ON b.gateway_boot = r.gateway_boot
WHERE r.following > ifNull(b.events, 0)
"""  # noqa: S608 - constants
_CLAIMED: Final = f"""
SELECT toUnixTimestamp64Milli(ifNull(minOrNull(complete_up_to), now64(3) - INTERVAL {FORGET_GONE_MS // 1_000} SECOND))
FROM ingestion_progress FINAL WHERE NOT retired
"""  # noqa: S608 - a constant
_BEGUN: Final = f"""
SELECT 1 FROM {TABLE} LIMIT 1 UNION ALL SELECT 1 FROM ingestion_progress WHERE partition = {{partition:UInt32}} LIMIT 1
"""  # noqa: S608 - a constant
_BEGIN: Final = """
INSERT INTO ingestion_progress (partition, complete_up_to, missing, waiting_frames, retired)
SELECT {partition:UInt32}, toDateTime64(0, 3, 'UTC'), 0, 0, true
"""


async def stored_marks(clickhouse: ClickHouse, sources: Sequence[int]) -> dict[int, Marks]:
    """What is stored of each of these sources; nothing for one that is unknown. Raises ClickHouseFault."""
    found: dict[int, Marks] = dict.fromkeys(sources, Marks())
    for start in range(0, len(sources), _SOURCES_PER_QUERY):
        names = ", ".join(f"{source:d}" for source in sources[start : start + _SOURCES_PER_QUERY])
        rows = await clickhouse.query(
            f"SELECT gateway_boot, min(gateway_seq), max(gateway_seq) + 1, groupBitmap(gateway_seq) FROM {TABLE} "  # noqa: S608 - integers
            f"WHERE gateway_boot IN ({names}) GROUP BY gateway_boot"
        )
        # Distinct numbers: a row that is there twice must not make up for one that is missing.
        for source, first, end, distinct in rows:
            if distinct == end - first:
                found[int(source)] = Marks.of([(int(first), int(end))])
            else:
                found[int(source)] = Marks.of(await _ranges(clickhouse, int(source)))
    return found


async def _ranges(clickhouse: ClickHouse, source: int) -> list[Range]:
    rows = await clickhouse.query(
        "SELECT min(seq), max(seq) + 1 FROM (SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM "  # noqa: S608
        f"(SELECT DISTINCT gateway_seq AS seq FROM {TABLE} WHERE gateway_boot = {source:d})) GROUP BY island"
    )
    return [(int(first), int(end)) for first, end in rows]


async def unended(clickhouse: ClickHouse, partition: int, partitions: int) -> dict[int, Seen]:
    """Sources of a partition, of so many, with rows of the last seven days and no end, as seen at their last request.

    Their beginning is the start of that, or of the last before one that is missing: whatever else was recorded ended
    later. Of what is missing before all others nothing tells, but that nobody has called a later moment complete; then
    it is at most that moment. Raises ClickHouseFault.
    """
    rows = await clickhouse.query(_UNENDED, {"partition": partition, "partitions": partitions})
    last = {int(source): (int(last_ms), int(following)) for source, last_ms, following, *_ in rows}
    bounds = {source: last_ms for source, (last_ms, _) in last.items()}
    bounds |= await _before_holes(clickhouse, [int(row[0]) for row in rows if not row[-1]])
    firsts = {int(source): (int(first), int(at_ms)) for source, _, _, first, at_ms, _ in rows if first}
    headless = await _headless(clickhouse, {source: first for source, (first, _) in firsts.items()})
    if headless:
        ((claimed_ms,),) = await clickhouse.query(_CLAIMED)
        bounds |= {source: min(bounds[source], firsts[source][1], int(claimed_ms)) for source in headless}
    return {source: Seen(last_ms, following, bounds[source]) for source, (last_ms, following) in last.items()}


async def _before_holes(clickhouse: ClickHouse, sources: Sequence[int]) -> dict[int, int]:
    """When the last request before the first one that is missing began, of the last seven days, Unix ms."""
    found: dict[int, int] = {}
    for start in range(0, len(sources), _SOURCES_PER_QUERY):
        names = ", ".join(f"{source:d}" for source in sources[start : start + _SOURCES_PER_QUERY])
        of_these = f"FROM {TABLE} WHERE {_LATELY} AND gateway_boot IN ({names})"
        rows = await clickhouse.query(
            f"SELECT gateway_boot, toUnixTimestamp64Milli(argMin(ts, gateway_seq)) {of_these} "
            f"AND (gateway_boot, gateway_seq + 1) NOT IN (SELECT gateway_boot, gateway_seq {of_these}) "
            "GROUP BY gateway_boot"
        )
        found |= {int(source): int(at_ms) for source, at_ms in rows}
    return found


async def _headless(clickhouse: ClickHouse, firsts: Mapping[int, int]) -> set[int]:
    """Those of these sources of which the number before this one, their first lately, is not stored at all."""
    found = set(firsts)
    sources = list(firsts)
    for start in range(0, len(sources), _SOURCES_PER_QUERY):
        names = ", ".join(
            f"({source:d}, {firsts[source] - 1:d})" for source in sources[start : start + _SOURCES_PER_QUERY]
        )
        of_these = f"FROM {TABLE} WHERE (gateway_boot, gateway_seq) IN ({names})"
        found.difference_update(int(source) for (source,) in await clickhouse.query(f"SELECT gateway_boot {of_these}"))
    return found


async def ended(clickhouse: ClickHouse, sources: Sequence[int]) -> dict[int, int]:
    """Those of these sources whose end is stored, with the number behind all of theirs that it accounts for.

    One that has rows beyond its end is not among them: its end was not the last word. Raises ClickHouseFault.
    """
    found: dict[int, int] = {}
    for start in range(0, len(sources), _SOURCES_PER_QUERY):
        names = ", ".join(f"{source:d}" for source in sources[start : start + _SOURCES_PER_QUERY])
        rows = await clickhouse.query(f"{_SAID_ENDS} WHERE gateway_boot IN ({names}) GROUP BY gateway_boot")
        found |= {int(source): int(events) for source, events in rows}
    if not found:
        return {}
    stored = await stored_marks(clickhouse, list(found))
    return {source: events for source, events in found.items() if stored[source].end <= events}


async def is_new(clickhouse: ClickHouse, partition: int) -> bool:
    """Whether nobody ever had marks of this partition, without which there is no insert. Raises ClickHouseFault."""
    return not await clickhouse.query(_BEGUN, {"partition": partition})


async def note_begun(clickhouse: ClickHouse, partition: int) -> None:
    """Keep in mind that somebody is about to work on a new partition. Raises ClickHouseFault.

    To be called before its first marks are made: while its first insert is on its way there are no rows to tell of it.
    The row says that the partition is retired, so that no report counts it before there is a true one.
    """
    await clickhouse.execute(_BEGIN, {"partition": partition})


async def settle(clickhouse: ClickHouse, partition: int) -> None:
    """Wait until no insert of this partition runs in ClickHouse. Raises ClickHouseFault."""
    processes = clickhouse.everywhere("system.processes")
    query = f"SELECT count() FROM {processes} WHERE Settings['log_comment'] = {{comment:String}}"  # noqa: S608 - checked
    parameters = {"comment": log_comment(partition)}
    while int((await clickhouse.query(query, parameters))[0][0]):  # noqa: ASYNC110 - nothing tells when it ends
        await asyncio.sleep(_POLL_S)
