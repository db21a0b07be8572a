"""What ClickHouse has of a source: the only truth about it when Redis has forgotten.

In: sources. Out: their Marks. Only to be asked when no insert of an earlier owner can still be on its way: `settle`.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from ingestor.clickhouse import TABLE, ClickHouse, log_comment
from ingestor.marks import Marks, Range

_SOURCES_PER_QUERY: Final = 1_000
_POLL_S: Final = 0.2


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


async def is_empty(clickhouse: ClickHouse) -> bool:
    """Whether nothing was ever stored. Raises ClickHouseFault."""
    return not await clickhouse.query(f"SELECT 1 FROM {TABLE} LIMIT 1")  # noqa: S608 - a constant


async def settle(clickhouse: ClickHouse, partition: int) -> None:
    """Wait until no insert of this partition runs in ClickHouse. Raises ClickHouseFault."""
    processes = clickhouse.everywhere("system.processes")
    query = f"SELECT count() FROM {processes} WHERE Settings['log_comment'] = {{comment:String}}"  # noqa: S608 - checked
    parameters = {"comment": log_comment(partition)}
    while int((await clickhouse.query(query, parameters))[0][0]):  # noqa: ASYNC110 - nothing tells when it ends
        await asyncio.sleep(_POLL_S)
