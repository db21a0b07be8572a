"""What most tests share: a real Redis, a ClickHouse engine, mock providers, a gateway and an ingestor."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ingestor.clickhouse import ClickHouse
from ingestor.settings import clickhouse_address
from shared.environment import SecretUrl
from tests.ingestor_process import Stores, new_database, stores_in
from tests.lectr import Lectr, start_lectr
from tests.mock_process import MockProcess
from tests.parts import Gateway, running, start_clickhouse, start_redis
from tests.registry_operator import mark_whole
from tests.shipper_site import Sender, Store, store_in

# How fast an example is says what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server for tests that need no other part."""
    part, url = start_redis(tmp_path_factory.mktemp("redis"))
    mark_whole(url)
    with running(part):
        yield url


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real engine behind its HTTP door, for tests that have databases of their own, or make `lectr` anew."""
    part, url = start_clickhouse(tmp_path_factory.mktemp("clickhouse"))
    with running(part):
        yield url


@pytest.fixture(scope="session")
def lectr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lectr]:
    """Everything: real Redis and ClickHouse, mock providers, a gateway and an ingestor, and one organisation."""
    with start_lectr(tmp_path_factory.mktemp("lectr")) as running_lectr:
        yield running_lectr


@pytest.fixture
def mock(lectr: Lectr) -> MockProcess:
    """The mock providers behind the shared installation, without orders or records of earlier tests."""
    lectr.mock.reset()
    return lectr.mock


@pytest.fixture
def feature(request: pytest.FixtureRequest) -> str:
    """A feature name of the test's own, by which it finds its rows."""
    return f"{request.path.stem}-{request.node.name}"


@pytest.fixture
def own_gateway(lectr: Lectr, tmp_path: Path) -> Iterator[Any]:
    """Start gateways with settings of the test's own, against the shared installation."""
    started: list[Gateway] = []

    def start(upstreams: dict[str, str], **settings: str) -> Gateway:
        gateway = Gateway(tmp_path, lectr.redis_url, upstreams, **settings)
        started.append(gateway)
        return gateway.wait()

    yield start
    for gateway in started:
        with running(gateway):
            pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A Redis of the test's own, to be killed and started again."""
    with store_in(tmp_path / "redis") as made:
        yield made


@pytest.fixture
def own(tmp_path: Path, clickhouse_url: str) -> Iterator[Stores]:
    """Stores without a row, for an ingestor."""
    with stores_in(tmp_path, clickhouse_url) as made:
        yield made


@pytest.fixture
async def database(clickhouse_url: str) -> AsyncIterator[ClickHouse]:
    """An ingestor's way to a database without a row."""
    await asyncio.to_thread(new_database, clickhouse_url)
    made = await ClickHouse.connect(clickhouse_address(SecretUrl(f"{clickhouse_url}/lectr")))
    yield made
    await made.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    return tmp_path / "state"


@pytest.fixture
async def quick_shipper(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Shippers of this process ask often, and look for the dead often; what a failed test leaves of them ends."""
    monkeypatch.setattr("gateway.shipper._LOOK_S", 0.05)
    monkeypatch.setattr("gateway.shipper._ADOPT_S", 0.05)
    yield
    for sender in [*Sender.alive]:
        await sender.die()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Fault tests have a short form, which every run makes, and a full one."""
    parser.addoption("--full", action="store_true", help="run the fault tests in full: more kills, longer outages")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full_timeout(seconds): the time limit of a fault test's full form")
    config.addinivalue_line("markers", "only_in_full: a fault test that has no short form")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether a fault test is to run in full."""
    return bool(request.config.getoption("--full"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The search for leaks reads what every other test wrote, so it comes last."""
    in_full = config.getoption("--full")
    for item in items:
        limit = item.get_closest_marker("full_timeout")
        if limit is not None and in_full:
            item.add_marker(pytest.mark.timeout(limit.args[0]))
        if item.get_closest_marker("only_in_full") is not None and not in_full:
            item.add_marker(pytest.mark.skip("only in full"))
    items.sort(key=lambda item: Path(item.path).name == "test_leaks.py")
