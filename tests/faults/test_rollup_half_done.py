"""An insert that reached the table and not the rollup behind it: what a ClickHouse killed in between leaves."""

import re
from pathlib import Path

from tests.faults.feed import Feed, feeding
from tests.faults.reckoning import both_sums, check_sources, check_sums, count, wait_arrived
from tests.faults.site import Installation, installation
from tests.ingestor_process import metric
from tests.parts import Part, clean_environ, execute, python, run_command, wait_until

EVENTS = 300
RETRIES = "lectr_ingestor_insert_retries_total"


def urls_of(site: Installation) -> dict[str, str]:
    return {"LECTR_CLICKHOUSE_URL": f"{site.clickhouse_url}/lectr", "LECTR_REDIS_URL": site.redis_url}


def rollup(site: Installation, *options: str, code: int = 0) -> str:
    """What the ingestor's command says, with this exit code."""
    done = run_command("ingestor", "rollup", *options, **urls_of(site))
    assert done.returncode == code, done.stderr
    return done.stdout


def test_an_hour_that_differs_is_made_anew(tmp_path: Path) -> None:
    """A rollup that lost sums, or has too many, is found hour by hour, and made anew from the table."""
    with installation(tmp_path, gateways=0) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
            feed.add(EVENTS)
            wait_until(lambda: feed.events == EVENTS and feed.unconfirmed == 0)
        wait_arrived(site)
        assert rollup(site) == "no hour differs\n"
        figures = (
            "SELECT count() AS n, sum(requests) AS r, sum(cost) AS c, sum(input_tokens) AS t FROM lectr.usage_hourly"
        )
        right = site.select(figures)
        execute(site.clickhouse_url, "INSERT INTO lectr.requests_hourly SELECT * FROM lectr.requests_hourly LIMIT 1")
        line = rollup(site, code=1)
        assert line.endswith("--rebuild --drop-surplus drops these\n")
        assert line.count("\n") == 1
        assert rollup(site, "--rebuild", "--drop-surplus").endswith("made anew\n")
        assert rollup(site) == "no hour differs\n"
        assert site.select(figures) == right


def leave_half_done(site: Installation, feed: Feed) -> None:
    """Have EVENTS rows in table and rollup, and as many more in the table alone."""
    feed.add(EVENTS)
    wait_until(lambda: feed.events == EVENTS and feed.unconfirmed == 0)
    execute(site.clickhouse_url, "ALTER TABLE lectr.requests_hourly ADD CONSTRAINT never CHECK requests = 0")
    feed.add(EVENTS)
    wait_until(lambda: metric(site.ingestors[0].running, RETRIES) >= 1)
    wait_until(lambda: site.figures()[0] == 2 * EVENTS)


def test_a_half_done_insert_is_completed(tmp_path: Path) -> None:
    """What an insert left out of the rollup is added to it by whoever goes on."""
    with installation(tmp_path, gateways=0) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
            leave_half_done(site, feed)
            execute(site.clickhouse_url, "ALTER TABLE lectr.requests_hourly DROP CONSTRAINT never")
        wait_arrived(site)
        check_sources("rollup half done", site, {feed.source: feed.events})


def test_a_rebuild_waits_for_a_half_done_insert(tmp_path: Path) -> None:
    """With the batch's ingestor away no hour is made anew, or its repeat would be added to one that is right."""
    with installation(tmp_path, gateways=0) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
            leave_half_done(site, feed)
            site.ingestors[0].kill()
            execute(site.clickhouse_url, "ALTER TABLE lectr.requests_hourly DROP CONSTRAINT never")
            environ = clean_environ(**urls_of(site))
            rebuild = Part("rebuild", python("ingestor", "rollup", "--rebuild"), environ, tmp_path / "logs")
            try:
                assert rebuild.line_with("partition 0: a batch is being stored; waiting for it")
                assert both_sums(site)[0]["requests"] == EVENTS
                site.ingestors[0].start()
                assert rebuild.process.wait(40) == 0, rebuild.output
            finally:
                rebuild.kill()
        wait_arrived(site)
        check_sources("rollup half done, rebuilt", site, {feed.source: feed.events})
        assert rollup(site) == "no hour differs\n"


def test_a_half_done_insert_that_redis_forgot_is_said(tmp_path: Path) -> None:
    """A limit: with the record of its batch gone, the rollup lacks just that batch until the hour is made anew."""
    with installation(tmp_path, gateways=0) as site:
        with feeding(site.redis_url, tmp_path / "feed", rate_per_s=0) as feed:
            leave_half_done(site, feed)
            site.pusher.client.flushall()
            wait_until(lambda: site.pusher.client.exists(site.pusher.partition.done))
            execute(site.clickhouse_url, "ALTER TABLE lectr.requests_hourly DROP CONSTRAINT never")
        wait_arrived(site)
        found = count(site, sent=feed.events, answered=feed.events)
        short, table = both_sums(site)
        print(f"rollup half done, forgotten: {found}, rollup {short['requests']}")
        assert (found.stored, found.distinct, found.gaps) == (2 * EVENTS, 2 * EVENTS, 0)
        assert (table["requests"], short["requests"]) == (2 * EVENTS, EVENTS)
        said = re.findall(r"requests (\d+) rollup (\d+)", rollup(site, code=1))
        assert sum(int(table) - int(rolled) for table, rolled in said) == EVENTS
        assert rollup(site, "--rebuild").endswith("made anew\n")
        check_sums(site)
