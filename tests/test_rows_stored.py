"""Blocks in the real engine: what is stored is, byte for byte, what the driver stores of plain Python rows."""

import urllib.parse
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from ingestor.batch import Segment
from ingestor.clickhouse import TABLE, ClickHouse
from ingestor.faults import Action, ClickHouseFault, SchemaFault
from ingestor.migrate import migrate
from ingestor.pricing import Pricer
from ingestor.rows import COLUMNS, to_block
from ingestor.settings import clickhouse_address
from shared.environment import SecretUrl
from shared.event import Event, Usage
from tests.bench.ingest_events import traffic
from tests.ingestor_process import event
from tests.parts import fetch
from tests.plain_rows import plain_columns
from tests.test_rows import BROKEN

PRICER = Pricer()
LARGE = 2**64 - 1
TEXTS = (
    "",
    " ",
    "\x00",
    "ünï'c\\ode\n\t",
    "日本語" * 50,
    "🙂",
    "x" * 126,
    "x" * 127,
    "x" * 128,
    "é" * 64,
    "x" * 16_383,
    "x" * 16_384,
)
SECONDS = (0.0, -0.0, 1e-300, 0.1, 1e12, 1.0000001e12, -1.0, float("nan"), float("inf"), float("-inf"))


def edges() -> list[Event]:
    """Texts of every length and script in every text column, numbers at and beyond every bound."""
    texts = [name for name in Event.__struct_fields__ if isinstance(getattr(event(), name), str)]
    made = [*BROKEN]
    for text in TEXTS:
        made += [event(len(made) + number, **{name: text}) for number, name in enumerate(texts)]
    numbers = [name for name in Event.__struct_fields__ if type(getattr(event(), name)) is int and name != "seq"]
    counts: list[str] = [name for name in Usage.__struct_fields__ if name != "input_audio_seconds"]
    for value in (-(2**63), -1, 0, 1, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 + 1, 2**63, LARGE):
        made += [event(len(made) + number, **{name: value}) for number, name in enumerate(numbers)]
        made += [event(len(made) + kind, usage=Usage(**{name: value})) for kind, name in enumerate(counts)]
        made.append(event(len(made), usage=Usage(**dict.fromkeys(counts, value))))
    made += [event(len(made) + row, usage=Usage(input_audio_seconds=value)) for row, value in enumerate(SECONDS)]
    made += [event(len(made) + number, marks=marks) for number, marks in enumerate([("a",), (), ("b", "a", "ü", "")])]
    made.append(event(len(made), model_actual="whisper-1", usage=Usage(input_audio_seconds=9e8, web_search_requests=0)))
    dear = Usage(input_uncached_tokens=10**9, output_text_tokens=10**9, web_search_requests=10**9)
    made.append(event(len(made), provider="anthropic", model_actual="claude-opus-4-8", usage=dear))
    return made


def flood() -> list[Event]:
    """More distinct texts than a byte, and than two, can number; some of them in columns that seldom have many."""
    return [
        event(
            seq,
            org=f"org-{seq % 300}",
            feature=f"feature-{seq}",
            model_actual=f"imaginary-{seq % 5_000}",
            rule=f"rule-{seq // 270}",
            marks=(f"mark-{seq}",),
        )
        for seq in range(70_000)
    ]


@pytest.fixture
async def databases(clickhouse_url: str) -> AsyncIterator[tuple[ClickHouse, ClickHouse]]:
    """Two empty databases with tables: one for blocks, one for plain rows."""
    made = []
    for name in ("rows_of_blocks", "rows_of_plain"):
        fetch(f"{clickhouse_url}/", data=f"DROP DATABASE IF EXISTS {name}".encode(), method="POST")
        address = clickhouse_address(SecretUrl(f"{clickhouse_url}/{name}"))
        await migrate(address)
        made.append(await ClickHouse.connect(address))
    yield made[0], made[1]
    for clickhouse in made:
        await clickhouse.close()


async def store_both(databases: tuple[ClickHouse, ClickHouse], segments: Sequence[Segment]) -> None:
    blocks, plain = databases
    await blocks.insert("token", 0, to_block(segments, PRICER).data)
    await plain._client.insert(
        TABLE,
        plain_columns(segments, PRICER),
        column_names=[column.name for column in COLUMNS],
        column_type_names=[column.kind.replace("LowCardinality(String)", "String") for column in COLUMNS],
        column_oriented=True,
        settings={"max_partitions_per_insert_block": 0},
    )


def dump(clickhouse_url: str, database: str) -> bytes:
    """Every stored byte of every column but the time of storing, in the order of the events."""
    query = (
        f"SELECT * EXCEPT (ingested_at) FROM {database}.{TABLE} ORDER BY gateway_boot, gateway_seq, endpoint, status"
        " FORMAT RowBinaryWithNamesAndTypes"
    )
    return fetch(f"{clickhouse_url}/?{urllib.parse.urlencode({'query': query})}")[1]


@pytest.mark.parametrize("some", [edges, flood, lambda: list(traffic(5_000)), lambda: [event(0)]])
async def test_stored_rows_are_the_same(
    databases: tuple[ClickHouse, ClickHouse], clickhouse_url: str, some: Any
) -> None:
    """Edge cases, floods of distinct texts, usual traffic and a single event come out of the engine byte for byte."""
    events = some()
    segments = [
        Segment(LARGE - start, f"gw-{start}", events[start : start + 499]) for start in range(0, len(events), 499)
    ]
    await store_both(databases, segments)
    blocks, plain = (dump(clickhouse_url, name) for name in ("rows_of_blocks", "rows_of_plain"))
    assert len(blocks) > 250 * len(events)
    assert blocks == plain
    assert await databases[0].query(f"SELECT count() FROM {TABLE}") == [(len(events),)]


async def test_a_block_is_stored_once(databases: tuple[ClickHouse, ClickHouse]) -> None:
    """Events of two days under one token, stored twice, are there once; under another token again."""
    blocks, _ = databases
    some = [event(seq, ts_ms=event().ts_ms + seq * 20_000_000) for seq in range(10)]
    data = to_block([Segment(7, "gw", some)], PRICER).data
    for token in ("one", "one", "two"):
        await blocks.insert(token, 0, data)
    assert await blocks.query(f"SELECT count(), uniqExact(_partition_id) FROM {TABLE}") == [(20, 3)]


async def test_refused_content_is_to_be_cut(databases: tuple[ClickHouse, ClickHouse]) -> None:
    """What the engine says about the content, its shape or the table comes out as the fault that it was before."""
    blocks, _ = databases
    data = to_block([Segment(7, "gw", [event(0)])], PRICER).data
    await blocks.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT short CHECK feature != 'search'")
    with pytest.raises(ClickHouseFault) as caught:
        await blocks.insert("token", 0, data)
    assert (caught.value.code, caught.value.action) == (469, Action.SPLIT)
    await blocks.execute(f"DROP TABLE {TABLE} SYNC")
    with pytest.raises(SchemaFault):
        await blocks.insert("token", 0, data)


async def test_a_server_that_is_gone_is_asked_again(databases: tuple[ClickHouse, ClickHouse]) -> None:
    """No answer is a reason to wait, whatever became of the insert."""
    address = clickhouse_address(SecretUrl("http://127.0.0.1:1/lectr"))
    blocks, _ = databases
    blocks._client._backend._base_url = "http://127.0.0.1:1"
    with pytest.raises(ClickHouseFault) as caught:
        await ClickHouse(blocks._client, address).insert("token", 0, b"")
    assert (caught.value.code, caught.value.action) == (None, Action.RETRY)
