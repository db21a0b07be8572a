"""Random walks through everything that can happen to events: each that was published is stored, and once."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from ingestor.clickhouse import ClickHouse
from ingestor.marks import Marks
from tests.ingestor_process import stores
from tests.model.delivery import CRASHES, Site, World

WALKS = settings(
    max_examples=60,
    stateful_step_count=25,
    derandomize=True,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


class Delivery(RuleBasedStateMachine):
    """A walk. Hypothesis chooses the steps, and shortens a walk that breaks the promise."""

    site: ClassVar[Site]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.site)

    @rule(count=st.integers(1, 40))
    def publish(self, count: int) -> None:
        self.world.publish(count)

    @rule(count=st.integers(1, 3))
    def leave_out(self, count: int) -> None:
        self.world.leave_out(count)

    @rule(most=st.integers(1, 30), answer_lost=st.booleans())
    def ship(self, most: int, *, answer_lost: bool) -> None:
        self.world.ship(most=most, answer_lost=answer_lost)

    @rule()
    def look(self) -> None:
        self.world.look()

    @rule(crash=st.sampled_from((None, *CRASHES)))
    def ingest(self, crash: str | None) -> None:
        self.world.ingest(crash)

    @rule()
    def replace_owner(self) -> None:
        self.world.replace_owner()

    @precondition(lambda self: self.world.replaced)
    @rule()
    def former_owner(self) -> None:
        self.world.former_owner()

    @rule()
    def kill_gateway(self) -> None:
        self.world.kill_gateway()

    @rule()
    def keep_snapshot(self) -> None:
        self.world.keep_snapshot()

    @rule()
    def go_back_to_snapshot(self) -> None:
        self.world.go_back_to_snapshot()

    @rule()
    def forget_all(self) -> None:
        self.world.forget_all()

    @rule(place=st.integers(0, 5))
    def lose_frame(self, place: int) -> None:
        self.world.lose_frame(place)

    def teardown(self) -> None:
        try:
            self.world.check()
        finally:
            self.world.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with stores(tmp_path_factory.mktemp("model")) as own, pytest.MonkeyPatch.context() as patch:
        # A walk has thousands of rounds: one that finds nothing waits for a millisecond, not for a second, and each may
        # be the one that finds what vanished.
        patch.setattr("ingestor.worker._RECONCILE_S", 0.0)
        patch.setattr("ingestor.reader._IDLE_WAIT_MS", 1)
        made = Site(own.redis_url, own.clickhouse_url)
        yield made
        made.close()


@pytest.fixture
def walk(site: Site) -> type[Delivery]:
    Delivery.site = site
    return Delivery


@pytest.mark.timeout(600)
def test_every_walk_ends_with_each_event_once(walk: type[Delivery], pytestconfig: pytest.Config) -> None:
    """Publish, ship, crash, lose answers, take over, forget, roll back, lose frames: each event is there once."""
    examples = 500 if pytestconfig.getoption("--full", default=False) else WALKS.max_examples
    run_state_machine_as_test(walk, settings=settings(WALKS, max_examples=examples))


async def nothing_stored(_clickhouse: ClickHouse, sources: Sequence[int]) -> dict[int, Marks]:
    """The planted bug: after Redis forgot, nobody asks ClickHouse what it has."""
    return dict.fromkeys(sources, Marks())


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestor.worker.stored_marks", nothing_stored)
    monkeypatch.setattr("ingestor.recovery.stored_marks", nothing_stored)


def short_walk(site: Site) -> None:
    """What a planted bug comes down to when the walk that finds it is shortened."""
    world = World(site)
    try:
        world.publish(1)
        world.ship(most=1, answer_lost=False)
        # The first round compares the marks, the second one stores.
        world.ingest(None)
        world.ingest(None)
        world.forget_all()
        world.check()
    finally:
        world.close()


def test_the_short_walk_is_fine(site: Site) -> None:
    """A Redis that forgets everything after an event was stored makes nobody store it again."""
    short_walk(site)


def test_the_short_walk_finds_a_planted_bug(site: Site, planted: None) -> None:
    """The same walk catches an ingestor that does not ask ClickHouse what it has."""
    with pytest.raises(AssertionError, match="stored twice: \\['boot 0 event 0'\\]"):
        short_walk(site)


@pytest.mark.timeout(3_600)
def test_a_planted_bug_is_found_and_shortened(
    walk: type[Delivery],
    planted: None,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Random walks find it by themselves, and end with one that is short enough to read."""
    if not pytestconfig.getoption("--full", default=False):
        pytest.skip("shortening takes minutes: make faults does it")
    # It would end after five minutes, and a slow machine comes less far in that time.
    monkeypatch.setattr("hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS", 3_000)
    few = settings(WALKS, max_examples=1_000, stateful_step_count=15, report_multiple_bugs=False)
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(walk, settings=few)
    steps = [line for line in "\n".join(caught.value.__notes__).splitlines() if "state." in line]
    with capsys.disabled():
        print("\nplanted: nobody asks ClickHouse after Redis forgot. Found:", caught.value, *steps, sep="\n  ")
    assert len(steps) <= 12
