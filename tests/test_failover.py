"""When a rule's target fails before its answer's first byte the next one is asked; after it, never."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from dashboard import edits
from shared.organisation import Rule, Target
from tests.mock_process import MockProcess, mock_process
from tests.parts import fetch, free_port, wait_until
from tests.raw_http import connect, read_all, read_until
from tests.registry_site import NEVER_S, Site, metric, sites
from tests.rules_site import GROQ_KEY, OWN_KEY, Asked

ANTHROPIC_KEY: Final = "sk-ant-of-the-installation"
GROQ: Final = Target(provider="groq", model="llama-3.1-8b-instant")
MINI: Final = Target(model="gpt-4o-mini")
HANDLED: Final = "lectr_gateway_handler_faults_total"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    """The second gateway is impatient."""
    keys = {"GROQ_KEY": GROQ_KEY, "ANTHROPIC_KEY": ANTHROPIC_KEY, "LECTR_REGISTRY_POLL_S": NEVER_S}
    with sites(tmp_path_factory.mktemp("failover"), mock) as made:
        started = [made.start("patient", **keys), made.start("impatient", LECTR_FIRST_BYTE_TIMEOUT_S="1", **keys)]
        for gateway in started:
            gateway.wait()
        yield made
        assert [metric(gateway, HANDLED) for gateway in started] == [0, 0]


@pytest.fixture
def asked(site: Site, request: pytest.FixtureRequest) -> Iterator[Asked]:
    made = Asked(site, request.node.name)
    for provider, name in (("groq", "GROQ_KEY"), ("anthropic", "ANTHROPIC_KEY")):
        made.operator.edit(made.name, edits.set_credential(provider, f"env:{name}"), "credential")
    yield made
    made.operator.close()


FAILURES: Final[dict[str, dict[str, Any]]] = {
    "429": {"status": 429},
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503},
    "529": {"status": 529},
    "503 with a large body": {"status": 503, "body": "x" * 3_000_000},
    "closed before the head": {"drop_before_head": True},
    "refused": {},
    "too slow": {"delay_ms": 60_000},
}
SAID: Final = {"closed before the head": "provider_unreachable", "refused": "provider_unreachable"}


def fail(asked: Asked, how: str) -> str:
    """Let OpenAI fail like this; what the row says of it."""
    if how == "refused":
        edit = edits.set_base_url("openai", f"http://127.0.0.1:{free_port()}/v1")
        asked.operator.edit(asked.name, edit, "base URL")
        settle(asked)
    else:
        asked.site.mock.behave(provider="openai", **FAILURES[how])
    if how == "too slow":
        asked.gateway = asked.site.started[1]
        return "provider_timeout"
    return SAID.get(how, how[:3])


def settle(asked: Asked) -> None:
    """Until gateways know what was set last."""
    marker = Rule(name="marker", priority=0, feature="marker", target=Target(provider="groq", model="settled"))
    asked.operator.edit(asked.name, edits.put_rule(marker), "put rule")
    for gateway in asked.site.started:
        asked.gateway = gateway
        wait_until(lambda: asked.ask(feature="marker")[0] == 200 and asked.site.mock.last_body()["model"] == "settled")
    asked.gateway = asked.site.started[0]
    asked.site.mock.reset()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("how", FAILURES)
def test_the_next_target_answers(asked: Asked, how: str, *, stream: bool) -> None:
    """Whatever goes wrong before the first byte, the client sees the other target's whole answer, and the row all."""
    asked.rule(failover=(GROQ,))
    settle(asked)
    said = fail(asked, how)
    before = metric(asked.gateway, 'lectr_gateway_failovers_total{provider="openai"}')
    status, body = asked.ask(stream=stream)
    assert status == 200
    assert b"data: [DONE]" in body if stream else "choices" in json.loads(body)
    expected = [("openai", "gpt-4o", f"Bearer {OWN_KEY}"), ("groq", GROQ.model, f"Bearer {GROQ_KEY}")]
    assert asked.seen() == (expected[1:] if how == "refused" else expected)
    event = asked.event()
    assert (event.status, event.provider, event.provider_source) == (200, "groq", "rule")
    assert (event.rule, event.attempts) == ("the rule", (f"openai/gpt-4o {said}",))
    assert (event.model_requested, event.model_actual) == ("gpt-4o", GROQ.model)
    assert (event.error_category, event.streaming, event.marks) == ("", stream, ())
    assert event.usage_source in {"provider", "estimated"}
    if how == "too slow":
        assert event.latency_us > 1_000_000, "all of it, the failed try too"
    assert metric(asked.gateway, 'lectr_gateway_failovers_total{provider="openai"}') == before + 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_rules_own_patience(asked: Asked, *, stream: bool) -> None:
    """A target that says nothing for as long as its rule allows is given up, and the last one has all its time."""
    asked.rule(failover=(MINI, GROQ), first_byte_timeout_s=0.3)
    asked.site.mock.behave(provider="openai", delay_ms=60_000)
    asked.site.mock.behave(provider="groq", delay_ms=600)
    status, body = asked.ask(stream=stream)
    assert (status, b"[DONE]" in body) == (200, stream)
    event = asked.event()
    assert event.attempts == ("openai/gpt-4o provider_timeout", "openai/gpt-4o-mini provider_timeout")
    assert (event.provider, event.rule, event.error_category) == ("groq", "the rule", "")
    assert event.latency_us > 1_200_000, "all of it"
    asked.site.mock.wait_for(lambda records: [record["cancelled"] for record in records] == [True, True, False])


def test_a_rules_patience_is_for_the_first_byte(asked: Asked) -> None:
    """An answer that began in time may go on for longer than that."""
    asked.rule(failover=(GROQ,), first_byte_timeout_s=0.3)
    asked.site.mock.behave(provider="openai", chunk_delay_ms=200, answer="one two three four")
    status, body = asked.ask(stream=True)
    assert (status, b"[DONE]" in body) == (200, True)
    event = asked.event()
    assert (event.provider, event.attempts) == ("openai", ())
    assert event.latency_us > 300_000


@pytest.mark.parametrize("status", [200, 204, 302, 304, 400, 401, 403, 404, 408, 409, 413, 422, 499])
def test_any_other_answer_is_the_answer(asked: Asked, status: int) -> None:
    """What is no 429 and no 5xx is passed on as it came, and nobody else is asked."""
    asked.rule(failover=(GROQ, MINI))
    asked.site.mock.behave(provider="openai", status=status, headers=[["X-Odd", "1"]])
    head = raw_answer(asked)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nX-Odd: 1\r\n" in head
    assert [provider for provider, _, _ in asked.seen()] == ["openai"]
    event = asked.event()
    assert (event.status, event.provider, event.attempts, event.rule) == (status, "openai", (), "the rule")


def request_of(asked: Asked, *, url: str = "/v1/chat/completions", **more: Any) -> bytes:
    body = json.dumps({"model": "gpt-4o", "messages": [], **more}).encode()
    lines = [f"POST {url} HTTP/1.1", "Host: x", f"X-Lectr-Key: {asked.key}", f"Authorization: Bearer {OWN_KEY}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def raw_answer(asked: Asked, **more: Any) -> bytes:
    """All bytes of an answer."""
    with connect(asked.gateway.url) as client:
        client.sendall(request_of(asked, **more))
        return read_all(client)


@pytest.mark.parametrize(
    "order",
    [
        {"cut_after_bytes": 0},
        {"cut_after_bytes": 100},
        {"cut_after_bytes": 0, "stream": True},
        {"cut_after_bytes": 300, "stream": True},
        {"cut_after_bytes": 300, "chunk_delay_ms": 50, "stream": True},
    ],
    ids=["after the head", "in the body", "after a stream's head", "in a stream", "in a slow stream"],
)
def test_an_answer_that_has_begun_is_not_tried_elsewhere(asked: Asked, order: dict[str, Any]) -> None:
    """Broken off after its head or later: so is the client's, and the row says that it was truncated."""
    order = dict(order)
    stream = order.pop("stream", False)
    asked.rule(failover=(GROQ,))
    asked.site.mock.behave(provider="openai", **order)
    with pytest.raises(OSError, match=r"."):
        asked.ask(stream=stream)
    assert [provider for provider, _, _ in asked.seen()] == ["openai"]
    event = asked.event()
    assert (event.status, event.provider, event.attempts) == (200, "openai", ())
    assert (event.error_category, event.error_source) == ("stream_truncated", "provider")


def test_an_error_inside_a_stream_is_passed_on(asked: Asked) -> None:
    """A stream that ends with the provider's own error event had begun: the client gets it as it is."""
    asked.rule(failover=(GROQ,))
    asked.site.mock.behave(provider="openai", error_event_after=2)
    status, body = asked.ask(stream=True)
    assert (status, b'"error"' in body, b"[DONE]" in body) == (200, True, False)
    assert [provider for provider, _, _ in asked.seen()] == ["openai"]
    assert asked.event().attempts == ()


def test_targets_are_tried_in_order(asked: Asked) -> None:
    """Another model, other providers with their own keys: each once, until one answers."""
    asked.rule(target=MINI, failover=(Target(model="gpt-4.1"), Target(provider="anthropic", model="claude"), GROQ))
    asked.site.mock.behave(provider="openai", status=503)
    asked.site.mock.behave(provider="anthropic", drop_before_head=True)
    assert asked.ask()[0] == 200
    assert asked.seen() == [
        ("openai", "gpt-4o-mini", f"Bearer {OWN_KEY}"),
        ("openai", "gpt-4.1", f"Bearer {OWN_KEY}"),
        ("anthropic", "claude", ANTHROPIC_KEY),
        ("groq", GROQ.model, f"Bearer {GROQ_KEY}"),
    ]
    event = asked.event()
    assert event.attempts == ("openai/gpt-4o-mini 503", "openai/gpt-4.1 503", "anthropic/claude provider_unreachable")
    assert (event.provider, event.model_requested, event.model_actual) == ("groq", "gpt-4o", GROQ.model)


def test_a_target_that_cannot_be_asked_is_left_out(asked: Asked) -> None:
    """One without a credential, and one that does not speak like this, cost nothing: the next one is asked."""
    asked.rule(failover=(Target(provider="gemini", model="g"), Target(provider="azure", model="a"), GROQ))
    asked.operator.edit(asked.name, edits.set_credential("azure", "env:GROQ_KEY"), "credential")
    settle(asked)
    asked.site.mock.behave(provider="openai", status=500)
    assert asked.ask()[0] == 200
    assert [provider for provider, _, _ in asked.seen()] == ["openai", "groq"]
    assert asked.event().marks == ("rule_credential_missing", "rule_endpoint_unsupported")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_when_all_fail_the_last_answer_is_the_clients(asked: Asked, *, stream: bool) -> None:
    """Byte for byte what the last target said, fields in their order and case; the row tells of all of them."""
    asked.rule(failover=(GROQ,))
    asked.site.mock.behave(provider="openai", status=503, body={"error": "the first"})
    odd: dict[str, Any] = {"status": 500, "reason": "Odd  Reason", "body": '{"error":  "caf\u00e9"}\n\n'}
    fields = [["x-ODD", "1"], ["Set-Cookie", "a=1"], ["X-odd", "2"], ["Date", "today"], ["Retry-After", "7"]]
    asked.site.mock.behave(provider="groq", headers=fields, content_type="text/odd", **odd)
    answer = raw_answer(asked, stream=stream)
    with connect(asked.site.mock.url) as direct:
        direct.sendall(request_of(asked, url="/groq/openai/v1/chat/completions", stream=stream))
        expected = read_all(direct)
    assert without_hop(answer) == without_hop(expected)
    event = asked.event()
    assert (event.status, event.provider, event.attempts) == (500, "groq", ("openai/gpt-4o 503",))
    assert (event.error_category, event.error_source) == ("server_error", "provider")


def without_hop(answer: bytes) -> tuple[list[bytes], bytes]:
    """An answer's lines but for what belongs to the connection and to the request's number, and its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    own = (b"connection:", b"keep-alive:", b"x-request-id:", b"cf-ray:")
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(own)], body


def test_when_the_last_one_cannot_be_reached_the_gateway_says_so(asked: Asked) -> None:
    """There is no answer of anybody's: 502 by its code, and the row has the tries before."""
    asked.rule(failover=(GROQ,))
    asked.site.mock.behave(provider="openai", status=503)
    asked.site.mock.behave(provider="groq", drop_before_head=True)
    status, body = asked.ask()
    assert (status, json.loads(body)["error"]["code"]) == (502, "provider_unreachable")
    event = asked.event()
    assert (event.status, event.provider, event.attempts) == (502, "groq", ("openai/gpt-4o 503",))
    assert (event.error_category, event.error_source) == ("connection", "gateway")


@pytest.mark.parametrize("at", ["the first try", "the second try"])
def test_a_client_that_leaves_ends_the_trying(asked: Asked, at: str) -> None:
    """The provider that is being asked is told at once, and nobody is asked after it."""
    asked.rule(failover=(GROQ, MINI))
    slow = "openai" if at == "the first try" else "groq"
    if slow == "groq":
        asked.site.mock.behave(provider="openai", times=1, status=503)
    asked.site.mock.behave(provider=slow, delay_ms=60_000)
    with connect(asked.gateway.url) as client:
        client.sendall(request_of(asked))
        asked.site.mock.wait_for(lambda records: bool(records) and records[-1]["provider"] == slow)
    asked.site.mock.wait_for(lambda records: records[-1]["cancelled"])
    event = asked.event()
    attempts = () if slow == "openai" else ("openai/gpt-4o 503",)
    assert (event.status, event.provider, event.attempts) == (499, slow, attempts)
    assert (event.error_category, event.error_source) == ("client_disconnect", "client")
    assert [provider for provider, _, _ in asked.seen()][-1] == slow


FORM: Final = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound'
)
END: Final = b"\r\n--B--\r\n"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed on"])
def test_a_body_that_is_streamed_on_is_sent_once(asked: Asked, *, whole: bool) -> None:
    """What passed through the gateway is gone: the first target's answer is the client's. What it has whole is not."""
    asked.rule(failover=(Target(provider="groq", model="whisper-large-v3"),))
    asked.site.mock.behave(provider="openai", status=503)
    start, end = (FORM + END, b"") if whole else (FORM, END)
    lines = ["POST /v1/audio/transcriptions HTTP/1.1", "Host: x", f"X-Lectr-Key: {asked.key}", "Connection: close"]
    lines += [f"Authorization: Bearer {OWN_KEY}", "Content-Type: multipart/form-data; boundary=B"]
    lines += ["X-Lectr-Feature: search", f"Content-Length: {len(start) + len(end)}", "", ""]
    with connect(asked.gateway.url) as client:
        client.sendall("\r\n".join(lines).encode() + start)
        if not whole:
            # By then what came with the head has been read, and the provider is asked.
            wait_until(lambda: metric(asked.gateway, "lectr_gateway_open_requests") == 1)
        client.sendall(end)
        head = read_until(client, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 " if whole else b"HTTP/1.1 503 ")
    providers = [record["provider"] for record in asked.site.mock.requests()]
    assert providers == (["openai", "groq"] if whole else ["openai"])
    event = asked.event()
    assert event.attempts == (("openai/whisper-1 503",) if whole else ())
    assert event.rule == "the rule"


def test_a_request_without_a_body_has_its_rule_too(asked: Asked) -> None:
    """There is nothing to send twice: POST without a body goes to the next target like any other."""
    asked.rule(provider="openai", failover=(GROQ,))
    asked.site.mock.behave(provider="openai", status=503)
    fields = {"X-Lectr-Key": asked.key, "Authorization": f"Bearer {OWN_KEY}", "X-Lectr-Feature": "search"}
    fetch(f"{asked.gateway.url}/v1/chat/completions", data=b"", headers=fields, method="POST")
    assert [record["provider"] for record in asked.site.mock.requests()] == ["openai"]
    assert asked.event().marks == ("provider_unknown", "rule_model_not_replaced")
