"""Missing and doubled rows of a gateway's run: each is told exactly, and neither hides the other."""

from typing import Any

import pytest

from ingestor.boots import store_ends
from ingestor.clickhouse import ClickHouse
from ingestor.migrate import migrate
from ingestor.presence import stored_marks
from ingestor.settings import clickhouse_address
from shared.environment import SecretUrl
from shared.stream import BootEnd
from tests.parts import execute, select

DATABASE = "gaps"
GAPS = f"SELECT gateway_boot, first_seq, end_seq, events FROM {DATABASE}.event_gaps ORDER BY gateway_boot, first_seq"
DOUBLES = f"SELECT gateway_boot, gateway, gateway_seq, rows FROM {DATABASE}.event_doubles ORDER BY gateway_boot"


class Rows:
    """A table of rows whose sequence numbers the test chooses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = clickhouse_address(SecretUrl(f"{url}/{DATABASE}"))

    def store(self, boot: int, *seqs: int) -> None:
        values = ", ".join(f"('2026-11-18 11:00:00', 'acme', 'gw-{boot}', {boot}, {seq})" for seq in seqs)
        self.order(f"INSERT INTO {DATABASE}.requests (ts, org, gateway, gateway_boot, gateway_seq) VALUES {values}")

    def order(self, statement: str) -> None:
        execute(self.url, statement)

    def select(self, query: str) -> list[dict[str, Any]]:
        return select(self.url, query)


@pytest.fixture
async def rows(clickhouse_url: str) -> Rows:
    made = Rows(clickhouse_url)
    await migrate(made.address)
    made.order(f"TRUNCATE TABLE {DATABASE}.requests")
    made.order(f"TRUNCATE TABLE {DATABASE}.gateway_boots")
    return made


def test_a_doubled_row_hides_no_missing_one(rows: Rows) -> None:
    """As many rows as numbers, and one of them is missing: the gap is told, and the doubled row is."""
    rows.store(1, *range(10))
    rows.store(7, 0, 1, 3, 4, 4)
    assert rows.select(GAPS) == [{"gateway_boot": 7, "first_seq": 2, "end_seq": 3, "events": 1}]
    assert rows.select(DOUBLES) == [{"gateway_boot": 7, "gateway": "gw-7", "gateway_seq": 4, "rows": 2}]


def test_a_doubled_row_is_no_gap(rows: Rows) -> None:
    """Rows that are there more than once are listed with their number; nothing is missing for that."""
    rows.store(7, 0, 1, 1, 2)
    rows.store(7, 1)
    rows.store(8, 0, 1, 2)
    assert rows.select(GAPS) == []
    assert rows.select(DOUBLES) == [{"gateway_boot": 7, "gateway": "gw-7", "gateway_seq": 1, "rows": 3}]


def test_gaps_at_the_end_are_told_beside_doubled_rows(rows: Rows) -> None:
    """What a run numbered last and nobody stored is a gap, however many rows there are."""
    rows.store(7, 0, 0, 2)
    columns = "gateway_boot, gateway, started_at, ended_at, events, unfinished, killed"
    rows.order(f"INSERT INTO {DATABASE}.gateway_boots ({columns}) VALUES (7, 'gw-7', now(), now(), 5, 0, 1)")
    assert rows.select(GAPS) == [
        {"gateway_boot": 7, "first_seq": 1, "end_seq": 2, "events": 1},
        {"gateway_boot": 7, "first_seq": 3, "end_seq": 5, "events": 2},
    ]


async def test_an_end_that_knows_less_changes_nothing(rows: Rows) -> None:
    """What an old copy of a state directory says of a run hides no gap; who knows more, or the same, replaces it."""
    rows.store(7, *range(5))
    clickhouse = await ClickHouse.connect(rows.address)
    try:
        for events, killed, expected in (
            (6, True, (6, True)),
            (9, False, (9, False)),
            (5, True, (9, False)),
            (9, True, (9, False)),
            (9, False, (9, False)),
            (12, True, (12, True)),
        ):
            await store_ends(clickhouse, {7: BootEnd("gw-7", 1_000, 2_000, events, 1, killed=killed)})
            (row,) = rows.select(f"SELECT events, killed FROM {DATABASE}.gateway_boots FINAL")
            assert (row["events"], row["killed"]) == expected
            (gap,) = rows.select(GAPS)
            assert gap["end_seq"] == expected[0]
    finally:
        await clickhouse.close()


async def test_marks_from_clickhouse_leave_out_what_is_missing(rows: Rows) -> None:
    """A number without a row is not taken for stored because another one has two: its event would be lost."""
    rows.store(7, 0, 1, 3, 4, 4)
    server = await ClickHouse.connect(rows.address)
    try:
        marks = await stored_marks(server, [7])
    finally:
        await server.close()
    assert marks[7].missing == 1
    assert marks[7].encode() == "2,3-5"
