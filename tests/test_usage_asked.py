"""Usage asked for in a running gateway: the client sees what it would have seen, the row has what was reported."""

import base64
import http.client
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from dashboard import edits
from deploy.local.providers.tokens import count_tokens
from shared.organisation import Rule, Target
from shared.stream import Partition, decode_frame
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, wait_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, metric, sites

ASKED, UNASKED, RULED, DRAINED = "asked", "unasked", "ruled", "drained"
"""Features: one is opted in, one is not, one is and has a rule, one is and has its answers drained."""
CHAT = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": 'what is "usage":null, façade?'}]
STREAM = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
EVENTS = Partition(0)


@dataclass
class Client:
    """Asks the gateway, and looks at what became of it."""

    site: Site
    key: str
    gateway: Gateway
    tasks: Iterator[int] = field(default_factory=itertools.count)
    task: str = ""

    @property
    def mock(self) -> MockProcess:
        return self.site.mock

    def tags(self, feature: str) -> dict[str, str]:
        """By its task a request's event is found."""
        self.task = f"task-{next(self.tasks)}"
        return {"X-Lectr-Key": self.key, "X-Lectr-Feature": feature, "X-Lectr-Task": self.task}

    def ask(
        self, feature: str = ASKED, body: Any = STREAM, path: str = CHAT, *, v1_1: bool = True, **more: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request; the answer's head and body."""
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=30)
        if not v1_1:
            connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined] # no other way
        fields = {**self.tags(feature), "Authorization": "Bearer sk", "Content-Type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in more.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request("POST", path, data, fields)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def event(self) -> Any:
        """The event of the last request."""

        def shipped() -> Any:
            with self.site.client() as client:
                frames: Any = client.xrange(EVENTS.stream)
            events = [event for _, fields in frames for event in decode_frame(fields[b"f"]).events]
            return next((event for event in events if event.task == self.task), None)

        return wait_until(shipped)

    def sent(self, at: int = -1) -> tuple[bytes, dict[str, str]]:
        """What a provider got: the body, and the header fields."""
        record = self.mock.requests()[at]
        return base64.b64decode(record["body_base64"]), {name.lower(): value for name, value in record["headers"]}


@pytest.fixture(scope="module")
def only_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with mock_process("--keep-bodies") as mock, sites(tmp_path_factory.mktemp("usage"), mock) as site:
        operator = Operator(site.redis_url)
        _, key = operator.create_org("acme")
        targets = Target(model="gpt-4o-mini"), (Target(provider="groq", model="llama-3.1-8b-instant"),)
        for edit in (
            edits.set_usage(ASKED, ask=True),
            edits.set_usage(RULED, ask=True),
            edits.set_usage(DRAINED, ask=True),
            edits.set_drain(DRAINED, drain=True),
            edits.set_azure(f"{mock.url}/azure", "2024-10-21", "default", {}),
            edits.set_credential("groq", "env:GROQ_KEY"),
            edits.put_rule(Rule(name="elsewhere", feature=RULED, target=targets[0], failover=targets[1])),
        ):
            operator.edit("acme", edit, "set up")
        operator.close()
        yield Client(site, key, site.start(LECTR_REGISTRY_POLL_S=NEVER_S, GROQ_KEY="gsk").wait())


@pytest.fixture
def client(only_client: Client) -> Client:
    only_client.mock.reset()
    return only_client


def same(body: bytes) -> bytes:
    """A stream without what differs from one request to the next."""
    return re.sub(rb'mock\d{8}|"created":\d+', b"", body)


HOP = {"transfer-encoding", "content-length", "connection", "date"}


def head_of(answer: http.client.HTTPResponse) -> list[Any]:
    """Version, status, reason and all fields that are the same with each request."""
    fields = [(name, re.sub(r"mock\d+|\d{5,}", "", value)) for name, value in answer.getheaders() if name not in HOP]
    return [answer.version, answer.status, answer.reason, *(pair for pair in fields if pair[0].lower() not in HOP)]


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("openai", CHAT),
        ("azure", CHAT),
        ("azure", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        ("anthropic", CHAT),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [None, 7], ids=["by event", "cut"])
def test_the_client_sees_no_difference(client: Client, provider: str, path: str, chunk_bytes: int | None) -> None:
    """Head and body are those of an unasked stream, byte for byte; the row says asked, and has the exact usage."""
    if chunk_bytes:
        client.mock.behave(chunk_bytes=chunk_bytes)
    plain, unasked = client.ask(UNASKED, path=path, X_Lectr_Provider=provider)
    assert client.event().usage_source == "estimated"
    assert client.event().marks == ()
    answer, body = client.ask(path=path, X_Lectr_Provider=provider)
    assert (same(body), head_of(answer)) == (same(unasked), head_of(plain))
    assert b'"usage"' not in same(body).replace(rb"\"usage\"", b"")
    counts = count_tokens(STREAM, "gpt-4o")
    event = client.event()
    assert (event.usage_source, event.marks) == ("provider", ("usage_requested",))
    assert (event.usage.input_tokens, event.usage.output_tokens) == (counts.input_tokens, counts.output_tokens)
    assert event.response_bytes == len(body)
    assert event.request_bytes == len(json.dumps(STREAM).encode())
    assert (event.finish_reason, event.error_category, event.streaming) == ("stop", "", True)


def test_the_request_has_one_insertion(client: Client) -> None:
    """The provider gets the client's body and the option, its length, and no wish for an encoding."""
    body = b'{ "model": "gpt-4o",\t"messages": [], "stream": true, "tools": [{"stream": true}] }'
    client.ask(body=body, Accept_Encoding="gzip, br")
    sent, fields = client.sent()
    assert sent == b'{"stream_options":{"include_usage":true},' + body[1:]
    assert (fields["accept-encoding"], fields["content-length"]) == ("identity", str(len(sent)))
    client.ask(UNASKED, body=body, Accept_Encoding="gzip, br")
    sent, fields = client.sent()
    assert (sent, fields["accept-encoding"]) == (body, "gzip, br")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({**STREAM, "stream_options": {"include_usage": True}}, {}),
        ({**STREAM, "stream_options": {"include_usage": False}}, {}),
        ({**STREAM, "stream": False}, {}),
        (b'{"model":"gpt-4o","messages":[],"stream":true,"x":NaN}', {}),
        (STREAM, {"X_Lectr_Provider": "groq"}),
        (STREAM, {"X_Lectr_Provider": "gemini"}),
        ({**STREAM, "prompt": "x"}, {"path": "/v1/completions"}),
    ],
)
def test_what_is_not_asked_for(client: Client, body: Any, fields: dict[str, str]) -> None:
    """A client that said itself, a provider that tells in any case, an endpoint without the option: nothing changes."""
    asked, unasked = (client.ask(feature, body=body, **fields) for feature in (ASKED, UNASKED))  # type: ignore[arg-type]
    assert same(asked[1]) == same(unasked[1])
    assert client.sent(-2)[0] == client.sent(-1)[0]
    assert "usage_requested" not in client.event().marks


def test_with_openais_own_client(client: Client) -> None:
    """The SDK's stream ends as it does without the option: every chunk has a choice, none a usage."""
    tags = client.tags(ASKED)
    with openai.OpenAI(base_url=f"{client.gateway.url}/v1", api_key="sk", default_headers=tags, max_retries=0) as sdk:
        chunks = list(sdk.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    event = client.event()
    assert (event.usage_source, event.error_category, event.marks) == ("provider", "", ("usage_requested",))


def test_an_old_client(client: Client) -> None:
    """HTTP/1.0: no chunks, the connection ends the body, and what was added is gone too."""
    _, unasked = client.ask(UNASKED)
    answer, body = client.ask(v1_1=False)
    assert same(body) == same(unasked)
    assert (answer.getheader("Transfer-Encoding"), answer.getheader("Connection")) == (None, "close")
    assert client.event().marks == ("usage_requested",)


def test_a_stream_of_known_length(client: Client) -> None:
    """Its length would be another one: it is sent in chunks instead."""
    client.mock.behave(body='data: {"choices":[1],"usage":null}\n\n', content_type="text/event-stream")
    fields = {"X_Lectr_Provider": "azure"}
    plain, whole = client.ask(UNASKED, **fields)  # type: ignore[arg-type]
    assert plain.getheader("Content-Length") == str(len(whole))
    answer, body = client.ask(**fields)  # type: ignore[arg-type]
    assert (answer.getheader("Content-Length"), answer.getheader("Transfer-Encoding")) == (None, "chunked")
    assert body == b'data: {"choices":[1]}\n\n'
    assert head_of(answer) == head_of(plain)


def test_an_encoded_answer_passes(client: Client) -> None:
    """A provider that encodes although it was told not to: its bytes pass as they are, which the row says."""
    client.mock.behave(body="\x1f data: x", content_type="text/event-stream", headers=[["Content-Encoding", "gzip"]])
    before = metric(client.gateway, "lectr_gateway_usage_not_stripped_total")
    answer, body = client.ask()
    assert (answer.getheader("Content-Encoding"), body) == ("gzip", b"\x1f data: x")
    assert client.event().marks == ("usage_not_stripped", "usage_requested")
    assert metric(client.gateway, "lectr_gateway_usage_not_stripped_total") == before + 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_refusal_passes(client: Client, status: int) -> None:
    """An error is the provider's own, and nothing of it was added: the row says that the request was edited."""
    client.mock.behave(status=status)
    (plain, unasked), (answer, body) = client.ask(UNASKED), client.ask()
    assert (same(body), head_of(answer)) == (same(unasked), head_of(plain))
    assert client.event().marks == ("usage_requested",)


def test_a_stream_that_breaks_off(client: Client) -> None:
    """No clean end after a truncated answer, and the usage is an estimate."""
    client.mock.behave(cut_after_bytes=700)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        client.ask()
    event = client.event()
    assert (event.error_category, event.usage_source) == ("stream_truncated", "estimated")
    assert event.marks == ("usage_requested",)
    assert 0 < event.response_bytes < 700


def test_a_client_that_leaves(client: Client) -> None:
    """Drained and asked: the usage is exact although neither the client asked for it nor anybody waited for it."""
    client.mock.behave(chunk_delay_ms=20)
    connection = http.client.HTTPConnection(client.gateway.url.removeprefix("http://"), timeout=30)
    fields = {**client.tags(DRAINED), "Authorization": "Bearer sk", "Content-Type": "application/json"}
    connection.request("POST", CHAT, json.dumps(STREAM), fields)
    assert connection.getresponse().read(6) == b"data: "
    connection.close()
    event = client.event()
    assert (event.error_category, event.usage_source) == ("client_disconnect", "provider")
    assert event.marks == ("drained", "usage_requested")


def test_each_try_is_asked_as_its_provider_wants(client: Client) -> None:
    """With a rule: the replaced model's request asks, the one to a provider that tells in any case does not."""
    client.ask(RULED)
    sent = json.loads(client.sent()[0])
    assert (sent["model"], sent["stream_options"]) == ("gpt-4o-mini", {"include_usage": True})
    assert client.event().marks == ("usage_requested",)
    client.mock.behave(provider="openai", status=503)
    _, body = client.ask(RULED)
    assert json.loads(client.sent(-2)[0])["stream_options"] == {"include_usage": True}
    sent = json.loads(client.sent()[0])
    assert (sent["model"], "stream_options" in sent) == ("llama-3.1-8b-instant", False)
    event = client.event()
    assert (event.provider, event.usage_source, event.marks) == ("groq", "provider", ())
    assert b'"usage":{' in body
