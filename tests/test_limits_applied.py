"""Limits in a running gateway: what is refused, how it is said, and that a change applies at once."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import pytest

from dashboard import edits
from shared.organisation import Limits
from tests.mock_process import MockProcess, mock_process
from tests.parts import Gateway, fetch, wait_until
from tests.raw_http import connect, read_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, metric, sites

SLOW = 0.000_01
"""Requests per second: none is gained while a test runs."""
MOST_BYTES = 2 << 20
"""What LECTR_MAX_BODY_BYTES is if it is not set."""


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process() as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path_factory.mktemp("limits"), mock) as made:
        made.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
        yield made


@pytest.fixture
def operator(site: Site) -> Iterator[Operator]:
    site.mock.reset()
    made = Operator(site.redis_url)
    yield made
    made.close()


def post(gateway: Gateway, key: str) -> tuple[int, str]:
    """Status, and the code of a refusal."""
    body = b'{"model": "gpt-4o", "messages": []}'
    fields = {"X-Lectr-Key": key, "Authorization": "Bearer sk-limits"}
    status, answer = fetch(f"{gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")
    return status, "" if status == 200 else json.loads(answer)["error"]["code"]


def head_of(key: str, length: int) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: x", f"X-Lectr-Key: {key}", "Authorization: Bearer sk-limits")
    return "\r\n".join((*lines, f"Content-Length: {length}", "\r\n")).encode()


def limited(site: Site, operator: Operator, name: str, limits: Limits) -> str:
    """An organisation's key, with these limits in force."""
    key = operator.create_org(name)[1]
    operator.edit(name, edits.set_limits(limits), "limits")
    settle(site, operator, name)
    return key


def settle(site: Site, operator: Operator, name: str) -> None:
    """Until the gateway knows what was set: records arrive in the order in which they were made."""
    marker = operator.create_org(f"{name}-marker")[1]
    wait_until(lambda: post(site.started[0], marker)[0] == 200)


def test_rate_of_many_connections(site: Site, operator: Operator) -> None:
    """64 connections at once: as many pass as the bucket holds, and each of the others is refused as SDKs expect it."""
    key = limited(site, operator, "rated", Limits(requests_per_s=SLOW, burst_requests=50))
    with ThreadPoolExecutor(64) as clients:
        answers = Counter(clients.map(lambda _: post(site.started[0], key), range(320)))
    assert answers == {(200, ""): 50, (429, "rate_limit_exceeded"): 270}
    assert site.mock.hits()["openai"] == 51, "and one of the marker"


def test_refusals_say_when_to_come_back(site: Site, operator: Operator) -> None:
    """Retry-After in whole seconds, in a connection that stays open."""
    key = limited(site, operator, "told", Limits(requests_per_s=0.1, burst_requests=1))
    body = b'{"model": "gpt-4o", "messages": []}'
    fields = {"X-Lectr-Key": key, "Authorization": "Bearer sk-limits"}
    with closing(HTTPConnection(site.started[0].url.removeprefix("http://"), timeout=30)) as client:
        for expected in (200, 429, 429):
            client.request("POST", "/v1/chat/completions", body=body, headers=fields)
            answer = client.getresponse()
            answer.read()
            assert answer.status == expected
            assert not answer.will_close
            if expected == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 10


def test_each_key_has_its_own(site: Site, operator: Operator) -> None:
    """What one key uses up, another key of the organisation has still; a key's own limit comes before it."""
    key = limited(site, operator, "shared", Limits(requests_per_s=SLOW, burst_requests=2))
    other, strict = "lc_key_" + "o" * 43, "lc_key_" + "s" * 43
    for name, secret in (("other", other), ("strict", strict)):
        operator.edit("shared", edits.add_key(edits.new_key_record(name, secret, 0)), "add key")
    own = edits.change_key("strict", limits=Limits(burst_requests=1))
    operator.edit("shared", own, "limit key")
    settle(site, operator, "shared-again")
    gateway = site.started[0]
    assert post(gateway, strict)[0] == 200
    assert [post(gateway, key)[0] for _ in range(3)] == [200, 200, 429]
    assert [post(gateway, other)[0] for _ in range(3)] == [200, 200, 429]
    assert post(gateway, strict) == (429, "rate_limit_exceeded")


def test_a_change_of_limits_applies_at_once(site: Site, operator: Operator) -> None:
    """Raised, lowered, lifted: by push, and what was used is not forgotten."""
    key = limited(site, operator, "changed", Limits(requests_per_s=SLOW, burst_requests=1))
    gateway = site.started[0]
    assert [post(gateway, key)[0] for _ in range(2)] == [200, 429]
    operator.edit("changed", edits.set_limits(Limits()), "lift")
    wait_until(lambda: post(gateway, key)[0] == 200)
    operator.edit("changed", edits.set_limits(Limits(requests_per_s=SLOW, burst_requests=1)), "limit")
    wait_until(lambda: post(gateway, key)[0] == 429)


@pytest.mark.parametrize(
    ("limits", "length", "told"),
    [
        (Limits(body_bytes=200), 201, "raise this key's limit body_bytes"),
        (Limits(), MOST_BYTES + 1, "raise LECTR_MAX_BODY_BYTES"),
        (
            Limits(body_bytes=9_999_999),
            MOST_BYTES + 1,
            "raise the gateway's LECTR_MAX_BODY_BYTES: this key's limit body_bytes of 9999999 cannot exceed it",
        ),
    ],
)
def test_bodies(site: Site, operator: Operator, limits: Limits, length: int, told: str) -> None:
    """Of the key's limit and the gateway's the smaller holds: a body of its size passes, one byte more is refused.

    The refusal names the one to raise.
    """
    key = limited(site, operator, f"sized-{limits.body_bytes or 0}", limits)
    fields = {"X-Lectr-Key": key, "Authorization": "Bearer sk-limits"}

    def sent(size: int) -> tuple[int, bytes]:
        body = b'{"model": "gpt-4o", "messages": []'.ljust(size - 1) + b"}"
        return fetch(f"{site.started[0].url}/v1/chat/completions", data=body, headers=fields, method="POST")

    assert sent(length - 1)[0] == 200
    status, answer = sent(length)
    assert status == 413
    error = json.loads(answer)["error"]
    message = f"request body is over the limit of {length - 1} bytes; send less, or {told}"
    assert (error["code"], error["message"]) == ("request_too_large", message)


def open_stream(gateway: Gateway, key: str) -> socket.socket:
    """A stream whose first event has come, or that was refused."""
    body = b'{"model": "gpt-4o", "messages": [], "stream": true}'
    head = head_of(key, len(body))
    client = connect(gateway.url)
    client.sendall(head + body)
    return client


def is_open(client: socket.socket) -> bool:
    answer = read_until(client, b"\r\n\r\n")
    if b"200 OK" in answer:
        return True
    assert b"429 Too Many Requests" in answer
    return False


@pytest.mark.parametrize("ending", ["to its end", "client leaves", "provider breaks off", "provider refuses"])
def test_streams_are_counted_down(site: Site, operator: Operator, ending: str) -> None:
    """Two at once and no third; whichever way one ends, another may begin."""
    key = limited(site, operator, ending.replace(" ", "-"), Limits(concurrent_streams=2))
    gateway, mock = site.started[0], site.mock
    slow = {"provider": "openai", "chunk_delay_ms": 20_000}
    for _ in range(3):
        mock.reset()
        match ending:
            case "to its end":
                mock.behave(provider="openai", times=1, chunk_delay_ms=10)
            case "provider breaks off":
                mock.behave(provider="openai", times=1, cut_after_bytes=300, chunk_delay_ms=10)
            case "provider refuses":
                mock.behave(provider="openai", times=1, status=500, delay_ms=200)
            case _:
                mock.behave(times=1, **slow)
        ending_one = open_stream(gateway, key)
        wait_until(lambda: mock.hits().get("openai", 0) == 1)
        mock.behave(**slow)
        with open_stream(gateway, key) as lasting:
            assert is_open(lasting)
            if ending == "client leaves":
                with open_stream(gateway, key) as third:
                    assert not is_open(third)
                ending_one.close()

            def another_begins() -> bool:
                with open_stream(gateway, key) as further:
                    return is_open(further)

            wait_until(another_begins)
        ending_one.close()
        wait_until(lambda: metric(gateway, "lectr_gateway_open_requests") == 0)
