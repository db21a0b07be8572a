"""WebSockets through the gateway: a real client and a real server, the frames untouched, one event at the end."""

import http
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve

from tests.canaries import provider_key
from tests.conformance.site import Site, Sites

LARGE_BYTES = 24 * 1024 * 1024


class Echo:
    """A provider of WebSockets: sends back what it gets; `bye` makes it close. Keeps the heads it was asked with."""

    def __init__(self) -> None:
        self.heads: list[Request] = []

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.heads.append(request)
        if request.path.endswith("refused"):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no such key\n")
        return None

    def talk(self, connection: ServerConnection) -> None:
        for message in connection:
            if message == "bye":
                break
            connection.send(message)


@contextmanager
def running(server: Server) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
    finally:
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def echo() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def site(sites: Sites, echo: Echo) -> Iterator[Site]:
    """A gateway before the echo."""
    with (
        serve(echo.talk, "127.0.0.1", 0, process_request=echo.check, compression=None, max_size=None) as server,
        running(server) as base,
        sites.start("websocket", LECTR_UPSTREAM_OPENAI=base) as started,
    ):
        yield started


def headers(site: Site, feature: str) -> dict[str, str]:
    return {
        "X-Lectr-Key": site.key.decode(),
        "X-Lectr-Feature": feature,
        "Authorization": f"Bearer {provider_key('websocket')}",
    }


def url(site: Site, path: str = "/v1/realtime?model=gpt-realtime") -> str:
    return site.gateway.url.replace("http", "ws", 1) + path


def test_messages_pass_both_ways(site: Site, echo: Echo, feature: str) -> None:
    """Text and binary messages of any size come back; the provider got the credential and nothing of Lectr's."""
    echo.heads.clear()
    large = bytes(range(256)) * (LARGE_BYTES // 256)
    with connect(url(site), additional_headers=headers(site, feature), max_size=None, compression=None) as client:
        client.send("hello")
        assert client.recv(10) == "hello"
        client.send(large)
        assert client.recv(30) == large
    (head,) = echo.heads
    assert head.path == "/v1/realtime?model=gpt-realtime"
    assert head.headers["Authorization"] == f"Bearer {provider_key('websocket')}"
    assert not [name for name in head.headers if name.lower().startswith("x-lectr")]
    event = site.event(feature)
    assert (event.status, event.error_category, event.streaming) == (101, "", True)
    assert (event.usage_source, event.model_requested) == ("absent", "gpt-realtime")
    assert event.request_bytes > LARGE_BYTES < event.response_bytes


def test_the_provider_may_end_it(site: Site, feature: str) -> None:
    """A close by the provider reaches the client as a close, and is no error."""
    with connect(url(site), additional_headers=headers(site, feature)) as client:
        client.send("bye")
        with pytest.raises(ConnectionClosedOK):
            client.recv(10)
    assert site.event(feature).error_category == ""


def test_a_refused_upgrade_is_relayed(site: Site, feature: str) -> None:
    """A provider's refusal comes back as the plain HTTP answer it is."""
    with (
        pytest.raises(InvalidStatus) as refusal,
        connect(url(site, "/v1/realtime/refused"), additional_headers=headers(site, feature)),
    ):
        pass
    assert refusal.value.response.status_code == 401
    assert refusal.value.response.body == b"no such key\n"
    assert site.event(feature).status == 401


def test_a_stranger_gets_no_websocket(site: Site, echo: Echo) -> None:
    """Without a key the provider is not asked."""
    echo.heads.clear()
    with pytest.raises(InvalidStatus) as refusal, connect(url(site)):
        pass
    assert refusal.value.response.status_code == 401
    assert echo.heads == []


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used as a context manager:DeprecationWarning")
def test_the_sdks_realtime_client(site: Site, feature: str) -> None:
    """OpenAI's own client opens a realtime session through the gateway and gets its events."""
    client = openai.OpenAI(
        api_key=provider_key("websocket"),
        base_url=f"{site.gateway.url}/v1",
        websocket_base_url=url(site, "/v1"),
        default_headers={"X-Lectr-Key": site.key.decode(), "X-Lectr-Feature": feature},
    )
    with client.realtime.connect(
        model="gpt-realtime", extra_headers={"X-Lectr-Key": site.key.decode(), "X-Lectr-Feature": feature}
    ) as session:
        session.send({"type": "response.create", "event_id": "e1"})
        assert json.loads(session.recv_bytes()) == {"type": "response.create", "event_id": "e1"}
    assert site.event(feature).status == 101
