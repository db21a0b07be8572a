"""`python -m ingestor rollup`: what it compares, what it makes anew, and what a scheduler learns from its exit code."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import redis
from click.testing import CliRunner

from ingestor.__main__ import rollup_command
from shared.environment import KNOWN_NAMES
from shared.stream import ROLLUP_REBUILD
from tests.ingestor_process import new_database
from tests.parts import execute, free_port, migrate, run_command, select

HOUR = "2026-03-01 10:00:00"
LATER = "2026-03-01 12:00:00"
DROP = ("--rebuild", "--drop-surplus")
LEFT = "left alone: the rollup alone may know of rows that were removed; --rebuild --drop-surplus drops these"
COLUMNS = "ts, org, feature, cost, input_tokens, output_tokens"
ROWS = f"('{HOUR}', 'acme', 'search', 0.25, 1000, 100), ('{HOUR}', 'acme', 'chat', NULL, 500, 50)"
FIGURES = "SELECT sum(requests) AS r, sum(cost) AS c, sum(input_tokens) AS i, sum(output_tokens) AS o FROM {}"
EXTRA = "INSERT INTO lectr.requests_hourly (hour, org, feature, {}) VALUES ('{}', 'acme', 'search', {})"


@dataclass
class Rollup:
    """A database with two requests of one hour, long over."""

    url: str
    redis_url: str

    def order(self, statement: str) -> None:
        execute(self.url, statement)

    @property
    def urls(self) -> dict[str, str]:
        return {"LECTR_CLICKHOUSE_URL": f"{self.url}/lectr", "LECTR_REDIS_URL": self.redis_url}

    def command(self, *options: str) -> tuple[int, str]:
        """Exit code and everything that the ingestor's command says, without a process of its own."""
        environ = {**dict.fromkeys(KNOWN_NAMES), **self.urls}
        done = CliRunner().invoke(rollup_command, options, env=environ)
        return done.exit_code, done.output

    def process(self, *options: str) -> tuple[int, str]:
        """The same from a process."""
        done = run_command("ingestor", "rollup", *options, **self.urls)
        return done.returncode, done.stdout + done.stderr

    def figures(self) -> list[dict[str, object]]:
        return select(self.url, FIGURES.format("lectr.usage_hourly"))


@pytest.fixture
def rollup(clickhouse_url: str, redis_url: str) -> Rollup:
    made = Rollup(clickhouse_url, redis_url)
    new_database(clickhouse_url)
    made.order(f"INSERT INTO lectr.requests ({COLUMNS}) VALUES {ROWS}")
    assert made.command() == (0, "no hour differs\n")
    return made


@pytest.mark.parametrize(
    ("figure", "by", "said"),
    [
        ("requests", "1", "requests 2 rollup 3"),
        ("cost", "0.5", "cost 0.250000000000 rollup 0.750000000000"),
        ("input_tokens", "1000000", "input_tokens 1500 rollup 1001500"),
        ("output_tokens", "7", "output_tokens 150 rollup 157"),
    ],
)
def test_every_sum_is_compared(rollup: Rollup, figure: str, by: str, said: str) -> None:
    """One sum too high makes an hour differ and the exit code 1; made anew it is right, and the exit code 0."""
    right = rollup.figures()
    rollup.order(EXTRA.format(figure, HOUR, by))
    assert rollup.command() == (1, f"{HOUR}  {said}  {LEFT}\n")
    assert rollup.command(*DROP) == (0, f"{HOUR}  {said}  made anew\n")
    assert rollup.command() == (0, "no hour differs\n")
    assert rollup.figures() == right


def test_an_hour_is_made_anew_as_often_as_needed(rollup: Rollup) -> None:
    """The second time the same rows go into the rollup: they are not taken for a repeated insert."""
    right = rollup.figures()
    for _ in range(2):
        rollup.order(EXTRA.format("requests", HOUR, 1))
        assert rollup.command(*DROP)[0] == 0
        assert rollup.figures() == right


def test_an_hour_that_may_still_change_is_no_fault(rollup: Rollup) -> None:
    """It is listed, not made anew, and a scheduler is not alarmed."""
    hour = datetime.now(UTC).strftime("%Y-%m-%d %H:00:00")
    rollup.order(f"INSERT INTO lectr.requests ({COLUMNS}) VALUES ('{hour}', 'acme', 'search', 0, 1, 1)")
    rollup.order(EXTRA.format("requests", hour, 5))
    assert rollup.command("--rebuild") == (0, f"{hour}  requests 1 rollup 6  may still change\n")


def test_an_hour_without_rows_is_left_alone(rollup: Rollup) -> None:
    """Sums of rows that were removed cannot be made anew: they stay, and the exit code says that the hour differs."""
    rollup.order(EXTRA.format("requests", LATER, 4))
    before = rollup.figures()
    for option in ((), ("--rebuild",)):
        code, said = rollup.command(*option)
        assert code == 1
        assert said == f"{LATER}  requests 0 rollup 4  left alone: requests has no rows of it to make it from\n"
    assert rollup.figures() == before


def test_what_the_rollup_alone_knows_of_goes_only_when_it_is_told(rollup: Rollup) -> None:
    """Rows of an hour were removed: --rebuild leaves it as it is and says so, exit code 1; --drop-surplus makes it."""
    before = rollup.figures()
    rollup.order("ALTER TABLE lectr.requests DELETE WHERE feature = 'chat' SETTINGS mutations_sync = 2")
    said = f"{HOUR}  requests 1 rollup 2  input_tokens 1000 rollup 1500  output_tokens 100 rollup 150"
    for options in ((), ("--rebuild",)):
        assert rollup.command(*options) == (1, f"{said}  {LEFT}\n")
        assert rollup.figures() == before
    assert rollup.command(*DROP) == (0, f"{said}  made anew\n")
    assert rollup.command() == (0, "no hour differs\n")


def test_to_drop_is_said_of_a_rebuild_alone(rollup: Rollup) -> None:
    """Without --rebuild the option is refused, exit code 2."""
    code, said = rollup.command("--drop-surplus")
    assert (code, "--drop-surplus says what --rebuild is to do" in said) == (2, True)


def test_groups_are_compared(rollup: Rollup) -> None:
    """A group that is short does not hide one that has more: such an hour is left alone as well."""
    rollup.order("ALTER TABLE lectr.requests_hourly DELETE WHERE feature = 'chat' SETTINGS mutations_sync = 2")
    rollup.order(EXTRA.format("requests", HOUR, 1))
    said = "requests 2 rollup 2 (1 more in groups)  input_tokens 1500 rollup 1000  output_tokens 150 rollup 100"
    assert rollup.command("--rebuild") == (1, f"{HOUR}  {said}  {LEFT}\n")


def test_months_are_compared_each(rollup: Rollup) -> None:
    """Hours of several months are found, in their order."""
    hours = ["2025-12-31 23:00:00", "2026-01-01 00:00:00", LATER]
    for hour in reversed(hours):
        rollup.order(EXTRA.format("requests", hour, 1))
    assert [line[: len(LATER)] for line in rollup.command()[1].splitlines()] == hours


@pytest.mark.parametrize("gone", ["requests_to_hourly", "requests_hourly", "requests"])
@pytest.mark.parametrize("options", [(), ("--rebuild",)], ids=["list", "rebuild"])
def test_a_rollup_that_is_gone_is_said_in_one_line(rollup: Rollup, gone: str, options: tuple[str, ...]) -> None:
    """The object and the command that cures it, exit code 2."""
    rollup.order(f"DROP TABLE lectr.{gone} SYNC")
    code, said = rollup.process(*options)
    assert code == 2
    assert said.startswith("lectr ingestor: LECTR_CLICKHOUSE_URL=http://127.0.0.1")
    assert f" {gone}" in said
    assert "run: python -m ingestor migrate" in said
    assert said.count("\n") == 1


def test_rows_that_missed_the_rollup_are_brought_in(rollup: Rollup) -> None:
    """Stored while the view was gone, they are in the rollup after the two commands that the fault names."""
    rollup.order("DROP TABLE lectr.requests_to_hourly SYNC")
    rollup.order(f"INSERT INTO lectr.requests ({COLUMNS}) VALUES ('{LATER}', 'acme', 'search', 1, 10, 20)")
    migrate(rollup.url)
    assert rollup.command()[0] == 1
    code, said = rollup.command("--rebuild")
    assert (code, said.endswith("made anew\n")) == (0, True)
    assert rollup.figures() == select(
        rollup.url,
        FIGURES.format("lectr.requests").replace("sum(requests)", "count()"),
    )


def test_a_second_rebuild_is_refused(rollup: Rollup) -> None:
    """Two at once would both insert what both have deleted: the second one says so, exit code 2, and does nothing."""
    rollup.order(EXTRA.format("requests", HOUR, 1))
    before = rollup.figures()
    with redis.Redis.from_url(rollup.redis_url) as client:
        client.set(ROLLUP_REBUILD, "another one", px=30_000)
        code, said = rollup.command(*DROP)
        assert code == 2
        assert said.startswith(
            "lectr ingestor: hours of the rollup are being made anew already, by rollup --rebuild or by an"
        )
        assert f" s until its lock {ROLLUP_REBUILD} in Redis expires" in said
        assert rollup.figures() == before
        assert rollup.command()[0] == 1
        client.delete(ROLLUP_REBUILD)
    assert rollup.command(*DROP)[0] == 0


def test_rebuilds_at_once_double_nothing(rollup: Rollup) -> None:
    """Of several started together each ends with the hour made anew, right already, or refused."""
    right = rollup.figures()
    rollup.order(EXTRA.format("requests", HOUR, 1))
    with ThreadPoolExecutor() as pool:
        codes = {code for code, _ in pool.map(lambda _: rollup.process(*DROP), range(3))}
    assert codes <= {0, 2}
    assert 0 in codes
    assert rollup.figures() == right


def test_without_redis_nothing_is_made_anew(rollup: Rollup) -> None:
    """The setting is named, exit code 2; to list the hours needs no Redis."""
    rollup.order(EXTRA.format("requests", HOUR, 1))
    alone = Rollup(rollup.url, f"redis://127.0.0.1:{free_port()}/0")
    assert alone.command()[0] == 1
    code, said = alone.command(*DROP)
    assert (code, said.startswith(f"lectr ingestor: LECTR_REDIS_URL={alone.redis_url}: ")) == (2, True)
    assert rollup.command()[0] == 1
