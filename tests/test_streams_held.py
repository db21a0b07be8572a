"""Streams of keys that may have only so many at once: each is given back, however it ends."""

import http
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import ServerConnection, serve

from dashboard import edits
from shared.clock import unix_ms
from shared.organisation import Budget, Rule, Target
from shared.spending import SPEND_KEY, Spend, encode_spends, period_of
from tests.canaries import provider_key
from tests.faulty_gateway import RELAY, FaultyGateway
from tests.limits_site import limited, recorded
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, upstreams_of, wait_until
from tests.raw_http import connect, read_all, read_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, metric, sites
from tests.stream_requests import ASKED, UNASKED, request_of, unreadable

MOST: Final = 2
"""Streams at once."""
LEFT: Final = "lectr_gateway_client_disconnects_total"
SILENCE_S: Final = 1.5
"""The first byte and the next one are awaited for as long; held streams send something more often."""


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    settings = {
        "LECTR_REGISTRY_POLL_S": NEVER_S,
        "LECTR_FIRST_BYTE_TIMEOUT_S": str(SILENCE_S),
        "LECTR_IDLE_TIMEOUT_S": str(SILENCE_S),
        "LECTR_UNATTENDED_TIMEOUT_S": "1",
        "GROQ_KEY": "gsk-limits",
    }
    with sites(tmp_path_factory.mktemp("held"), mock) as made:
        gateway = FaultyGateway(made.directory / "gateway", made.redis_url, upstreams_of(mock.url), **settings)
        made.started.append(gateway)
        gateway.wait()
        yield made


@pytest.fixture
def operator(site: Site) -> Iterator[Operator]:
    site.mock.reset()
    made = Operator(site.redis_url)
    yield made
    made.close()


def begun(gateway: Gateway, request: bytes) -> socket.socket:
    client = connect(gateway.url)
    client.sendall(request)
    return client


def status_of(client: socket.socket) -> int:
    return int(read_until(client, b"\r\n\r\n").split()[1])


def hold(mock: MockProcess) -> None:
    """From now on streams last for long, and are never silent for long."""
    mock.reset()
    mock.behave(path_contains="/chat/completions", answer="word " * 300, chunk_delay_ms=100)
    mock.behave(body="data: {}\n\n" * 300, content_type="text/event-stream", chunk_delay_ms=100)


def is_full_again(site: Site, key: str) -> bool:
    """Whether as many as may be can be opened and not one more."""
    with ExitStack() as open_ones:
        found = [status_of(open_ones.enter_context(begun(site.started[0], request_of(key)))) for _ in range(MOST + 1)]
    wait_until(lambda: metric(site.started[0], "lectr_gateway_open_requests") == 0)
    return found == [200] * MOST + [429]


class Stream:
    """One stream of a key that may have two, and how it ends."""

    def __init__(self, site: Site, key: str, websockets: str) -> None:
        self.site, self.key, self.websockets = site, key, websockets
        self.mock, self.gateway = site.mock, site.started[0]

    def answered(self, **more: Any) -> bytes:
        """All of an answer."""
        with begun(self.gateway, request_of(self.key, connection="close", **more)) as client:
            return read_all(client)

    def over(self) -> None:
        """Until nothing is served any more."""
        wait_until(lambda: metric(self.gateway, "lectr_gateway_open_requests") == 0)

    def seen(self) -> None:
        """Until a provider has it."""
        self.mock.wait_for(bool)

    def to_its_end(self) -> None:
        self.mock.behave(chunk_delay_ms=5)
        with begun(self.gateway, request_of(self.key)) as client:
            read_until(client, b"[DONE]")

    def client_leaves_early(self) -> None:
        self.mock.behave(delay_ms=60_000)
        with begun(self.gateway, request_of(self.key)):
            self.seen()

    def client_leaves_late(self) -> None:
        hold(self.mock)
        with begun(self.gateway, request_of(self.key)) as client:
            read_until(client, b"data: ")

    def client_takes_nothing(self) -> None:
        self.mock.behave(body=f"data: {'x' * 60_000}\n\n" * 400, content_type="text/event-stream")
        with begun(self.gateway, request_of(self.key)):
            self.seen()
            self.over()

    def provider_breaks_off(self) -> None:
        self.mock.behave(cut_after_bytes=300)
        with pytest.raises(ConnectionResetError):
            self.answered()

    def provider_breaks_off_at_once(self) -> None:
        self.mock.behave(cut_after_bytes=0)
        with pytest.raises(ConnectionResetError):
            self.answered()

    def provider_refuses(self) -> None:
        self.mock.behave(status=500)
        assert b" 500 " in self.answered()

    def provider_is_not_there(self) -> None:
        self.mock.behave(drop_before_head=True)
        assert b" 502 " in self.answered()

    def provider_is_too_slow(self) -> None:
        self.mock.behave(delay_ms=60_000)
        with begun(self.gateway, request_of(self.key)) as client:
            assert status_of(client) == 504

    def provider_falls_silent(self) -> None:
        self.mock.behave(chunk_delay_ms=60_000)
        with begun(self.gateway, request_of(self.key)) as client:
            assert status_of(client) == 200
            self.over()

    def gateway_fails(self) -> None:
        assert b" 500 " in self.answered(feature=RELAY)

    def another_target_answers(self) -> None:
        self.mock.behave(provider="openai", status=503)
        assert b" 200 " in self.answered(feature="failover")

    def no_target_answers(self) -> None:
        self.mock.behave(status=503)
        assert b" 503 " in self.answered(feature="failover")

    def client_leaves_between_targets(self) -> None:
        self.mock.behave(provider="openai", status=503)
        self.mock.behave(provider="groq", delay_ms=60_000)
        with begun(self.gateway, request_of(self.key, feature="failover")):
            self.mock.wait_for(lambda records: len(records) == 2)

    def read_on_to_its_end(self) -> None:
        self.mock.behave(chunk_delay_ms=20)
        with begun(self.gateway, request_of(self.key, feature="drained")) as client:
            read_until(client, b"data: ")

    def read_on_for_too_long(self) -> None:
        hold(self.mock)
        with begun(self.gateway, request_of(self.key, feature="drained")) as client:
            read_until(client, b"data: ")

    def body_too_large(self) -> None:
        with begun(self.gateway, request_of(self.key, user="x" * 2_000)) as client:
            assert status_of(client) == 413

    def budget_spent(self) -> None:
        with begun(self.gateway, request_of(self.key, feature="spent")) as client:
            assert status_of(client) == 429

    def unreadable_to_its_end(self) -> None:
        self.mock.behave(chunk_delay_ms=5)
        with begun(self.gateway, unreadable(self.key)) as client:
            read_until(client, b"[DONE]")

    def unreadable_client_leaves(self) -> None:
        hold(self.mock)
        with begun(self.gateway, unreadable(self.key)) as client:
            read_until(client, b"data: ")

    def unreadable_provider_breaks_off(self) -> None:
        self.mock.behave(cut_after_bytes=300)
        with begun(self.gateway, unreadable(self.key)) as client, pytest.raises(ConnectionResetError):
            read_all(client)

    def unreadable_gateway_fails(self) -> None:
        with begun(self.gateway, unreadable(self.key, feature=RELAY, connection="close")) as client:
            assert b" 500 " in read_all(client)

    def unreadable_read_on(self) -> None:
        self.mock.behave(chunk_delay_ms=20)
        with begun(self.gateway, unreadable(self.key, feature="drained")) as client:
            read_until(client, b"data: ")

    def websocket(self, path: str = "/v1/realtime") -> Any:
        fields = {
            "X-Lectr-Key": self.key,
            "Authorization": f"Bearer {provider_key('held')}",
            "X-Lectr-Provider": "groq",
        }
        return connect_websocket(self.gateway.url.replace("http", "ws", 1) + path, additional_headers=fields)

    def websocket_client_leaves(self) -> None:
        with self.websocket() as one, self.websocket(), pytest.raises(InvalidStatus, match="429"), self.websocket():
            pass
        one.close()

    def websocket_provider_leaves(self) -> None:
        with self.websocket() as one:
            one.send("bye")
            self.over()

    def websocket_refused(self) -> None:
        with pytest.raises(InvalidStatus, match="401"), self.websocket("/v1/refused"):
            pass


ENDINGS: Final[dict[str, Callable[[Stream], None]]] = {
    name: act for name, act in vars(Stream).items() if not name.startswith("_")
}
for other in ("answered", "seen", "over", "websocket"):
    del ENDINGS[other]


@pytest.fixture(scope="module")
def websockets() -> Iterator[str]:
    """A provider of WebSockets that leaves when it is told something."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        refused = request.path.endswith("refused")
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no\n") if refused else None

    def talk(connection: ServerConnection) -> None:
        for _ in connection:
            break

    with serve(talk, "127.0.0.1", 0, process_request=check, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        server.shutdown()
        thread.join(10)


def spent(site: Site, name: str) -> None:
    """As the ingestor says it."""
    now_ms = unix_ms()
    start_ms = period_of("month", now_ms).start_ms
    spend = Spend(org=name, feature="spent", period="month", start_ms=start_ms, total_usd=Decimal(5), as_of_ms=now_ms)
    with site.client() as client:
        client.hset(SPEND_KEY, name, encode_spends([spend]))


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_stream_is_given_back(site: Site, operator: Operator, websockets: str, ending: str) -> None:
    """However a stream ends, as many as may be can be opened afterwards, and not one more."""
    name = ending.replace("_", "-")
    rule = Rule(name="r", feature="failover", failover=(Target(provider="groq", model="m"),))
    more = [edits.put_rule(rule), edits.set_drain("drained", drain=True), edits.set_credential("groq", "env:GROQ_KEY")]
    if ending == "budget_spent":
        more.append(edits.put_budget(Budget(name="b", feature="spent", limit_usd=Decimal(1), action="block")))
        spent(site, name)
    if ending.startswith("websocket"):
        more.append(edits.set_base_url("groq", websockets))
    key = limited(site, operator, name, *more, concurrent_streams=MOST, body_bytes=1_000)
    if ending == "budget_spent":
        wait_until(lambda: b"budget_exceeded" in Stream(site, key, websockets).answered(feature="spent"))
    site.mock.reset()
    stream = Stream(site, key, websockets)
    ENDINGS[ending](stream)
    stream.over()
    hold(site.mock)
    assert is_full_again(site, key)


@pytest.mark.parametrize("asked", ASKED)
def test_every_way_to_ask_for_a_stream_counts(site: Site, operator: Operator, asked: str) -> None:
    """Whatever in a request says that it asks for a stream: the one too many is refused."""
    key = limited(site, operator, f"asked-{list(ASKED).index(asked)}", concurrent_streams=1)
    hold(site.mock)
    with begun(site.started[0], ASKED[asked](key)) as client:
        assert status_of(client) == 200
        with begun(site.started[0], ASKED[asked](key)) as another:
            assert status_of(another) == 429


@pytest.mark.parametrize("unasked", UNASKED)
def test_a_stream_that_only_its_answer_shows(site: Site, operator: Operator, unasked: str) -> None:
    """Not refused, as nobody knew; from its answer on it takes a place, and gives it back at its end."""
    key = limited(site, operator, f"unasked-{list(UNASKED).index(unasked)}", concurrent_streams=MOST)
    hold(site.mock)
    gateway = site.started[0]
    with ExitStack() as open_ones:
        for _ in range(MOST + 1):
            assert status_of(open_ones.enter_context(begun(gateway, UNASKED[unasked](key)))) == 200
        with begun(gateway, request_of(key)) as client:
            assert status_of(client) == 429
        assert ask(gateway, key) == 200, "what is no stream passes"
    wait_until(lambda: metric(gateway, "lectr_gateway_open_requests") == 0)
    assert is_full_again(site, key)


def test_what_is_read_on_counts_until_its_end(site: Site, operator: Operator) -> None:
    """A client that leaves a stream which is read on cannot open another one in its place before that has ended."""
    drain = edits.set_drain("drained", drain=True)
    key = limited(site, operator, "read-on", drain, concurrent_streams=1)
    hold(site.mock)
    left = metric(site.started[0], LEFT)
    with begun(site.started[0], request_of(key, feature="drained")) as client:
        assert status_of(client) == 200
    wait_until(lambda: metric(site.started[0], LEFT) > left)
    with begun(site.started[0], request_of(key)) as client:
        assert status_of(client) == 429

    def free() -> bool:
        with begun(site.started[0], request_of(key)) as client:
            return status_of(client) == 200

    wait_until(free)


def test_a_stop_cuts_streams_and_starts_afresh(site: Site, operator: Operator) -> None:
    """SIGTERM with streams open at their limit: they are cut in time, and the next process counts none."""
    key = limited(site, operator, "stopped", concurrent_streams=MOST)
    hold(site.mock)
    settings = {"LECTR_REGISTRY_POLL_S": NEVER_S, "LECTR_DRAIN_TIMEOUT_S": "0.2"}
    for _ in range(2):
        gateway = site.start("stopping", **settings).wait()
        wait_until(lambda at=gateway: ask(at, key) == 200)  # type: ignore[misc]
        with ExitStack() as open_ones:
            clients = [open_ones.enter_context(begun(gateway, request_of(key))) for _ in range(MOST + 1)]
            assert sorted(map(status_of, clients)) == [200] * MOST + [429]
            assert gateway.terminate() == 0
    wait_until(lambda: sum(event.status == 200 for event in recorded(site, "stopped")) >= 2 * MOST)
