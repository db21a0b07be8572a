"""After the storm: wait until everything has arrived, count, say it in one line, and compare with what was promised."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.load import Load
from tests.faults.site import Installation
from tests.parts import wait_until

_SUMS = "toString(sum(cost)) AS cost, sum(input_tokens) AS input, sum(output_tokens) AS output"


@dataclass(frozen=True)
class Reckoning:
    """What was found."""

    sent: int
    answered: int
    stored: int
    distinct: int
    gaps: int
    unfinished: int
    killed: int
    """Boots that ended without order."""

    def __str__(self) -> str:
        names = ("sent", "answered", "stored", "distinct", "gaps", "unfinished")
        return " ".join(f"{name} {getattr(self, name)}" for name in names)


def wait_arrived(site: Installation, deadline_s: float = 60.0) -> None:
    """Until nothing is on its way: no frame, no batch, no journal of a dead process, no event to be confirmed."""
    left: dict[str, Any] = {}

    def look() -> bool:
        nonlocal left
        left = _on_the_way(site)
        return not left

    try:
        wait_until(look, deadline_s=deadline_s, every_s=0.1)
    except AssertionError:
        raise AssertionError(f"not arrived within {deadline_s} s: {left}") from None


def _on_the_way(site: Installation) -> dict[str, Any]:
    """What is still to arrive."""
    left: dict[str, Any] = {}
    for place in site.gateways:
        if not place.alive:
            continue
        details = place.details()
        if len(details) != place.workers:
            left[place.directory.name] = "does not answer"
        elif any(one["unconfirmed_events"] or one["adopted_boots"] or one["open_requests"] for one in details):
            left[place.directory.name] = details
        elif len(place.folders()) != place.workers:
            left[place.directory.name] = place.folders()
    for keys in site.all_keys():
        if site.pusher.client.xlen(keys.stream) or site.pusher.client.exists(keys.pending):
            left[keys.stream] = site.pusher.client.xlen(keys.stream)
    return left


def count(site: Installation, *, sent: int, answered: int) -> Reckoning:
    """The figures as ClickHouse gives them."""
    rows = site.select("SELECT count() AS n, uniqExact(event_id) AS ids FROM lectr.requests")[0]
    gaps = site.select("SELECT sum(events) AS n FROM lectr.event_gaps")[0]
    boots = site.select("SELECT sum(unfinished) AS n, countIf(killed) AS k FROM lectr.gateway_boots FINAL")[0]
    return Reckoning(sent, answered, rows["n"], rows["ids"], gaps["n"], boots["n"], boots["k"])


def both_sums(site: Installation) -> tuple[dict[str, Any], dict[str, Any]]:
    """Requests, cost and tokens as the rollup says, and as the table does."""
    (table,) = site.select(f"SELECT count() AS requests, {_SUMS} FROM lectr.requests")
    (rollup,) = site.select(f"SELECT sum(requests) AS requests, {_SUMS} FROM lectr.usage_hourly")
    return rollup, table


def check_sums(site: Installation) -> None:
    """The rollup says what the table says, to the last digit."""
    rollup, table = both_sums(site)
    assert rollup == table


def reckon(
    scenario: str, site: Installation, load: Load, *, gaps: int = 0, deadline_s: float = 60.0, sums: bool = True
) -> Reckoning:
    """Wait, count, print, and assert that every whole answer is one row, no row is there twice, and the sums agree."""
    wait_arrived(site, deadline_s)
    found = count(site, sent=load.sent, answered=len(load.answered))
    print(f"{scenario}: {found}")
    stored = {
        row["task"]: (row["n"], row["status"])
        for row in site.select(
            "SELECT task, count() AS n, any(status) AS status FROM lectr.requests "
            f"WHERE startsWith(task, '{load.name}-') GROUP BY task"
        )
    }
    assert load.wrong == [], "answers that came whole and are wrong"
    assert load.hung == set(), "requests without an end"
    lost = sorted(task for task in load.answered if task not in stored)
    assert lost == [], f"{len(lost)} answered requests have no row"
    twice = {task: n for task, (n, _) in stored.items() if n != 1}
    assert twice == {}, "requests with several rows"
    other = {task: (status, stored[task][1]) for task, status in load.answered.items() if stored[task][1] != status}
    assert other == {}, "rows that tell another status than the client saw"
    assert found.stored == found.distinct
    assert found.gaps == gaps, site.select("SELECT * FROM lectr.event_gaps")
    # Who was being served when a process was killed got no whole answer, or is stored.
    assert found.unfinished <= len(load.broken - set(stored)), "more unfinished than unanswered"
    assert len(load.answered) > 0
    if sums:
        check_sums(site)
    return found


def check_sources(scenario: str, site: Installation, sources: Mapping[int, int], *, gaps: int = 0) -> Reckoning:
    """Events that were fed without a client: each number of each source is one row."""
    rows = site.select(
        "SELECT gateway_boot AS boot, count() AS n, uniqExact(gateway_seq) AS ids FROM lectr.requests GROUP BY boot"
    )
    fed = sum(sources.values())
    found = count(site, sent=fed, answered=fed)
    print(f"{scenario}: {found}")
    stored = Counter({row["boot"]: row["n"] for row in rows})
    assert sum(row["ids"] for row in rows) == found.distinct == found.stored
    assert dict(stored) == {source: count for source, count in sources.items() if count} or gaps
    assert stored.total() == fed - gaps
    assert found.gaps == gaps, site.select("SELECT * FROM lectr.event_gaps")
    check_sums(site)
    return found
