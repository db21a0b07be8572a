"""Answers whose client leaves, where the organisation wants exact usage: read to the end, for nobody."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lectr import Lectr, chat
from tests.mock_process import MockProcess
from tests.parts import Gateway, admin, upstreams_of, wait_until
from tests.raw_http import connect, head, read_until
from tests.registry_site import metric

STREAM = json.dumps(chat(stream=True, stream_options={"include_usage": True})).encode()
PLAIN = json.dumps(chat()).encode()


@pytest.fixture
def gateway(lectr: Lectr, mock: MockProcess, own_gateway: Callable[..., Gateway], feature: str) -> Any:
    """A gateway for the test, started after the policy was set: `feature` drains."""
    admin(lectr.redis_url, "org", "on-disconnect", lectr.org, "drain", "--feature", feature)

    def start(**settings: str) -> Gateway:
        return own_gateway(upstreams_of(mock.url), LECTR_FLUSH_INTERVAL_MS="20", **settings)

    return start


def leave_stream(lectr: Lectr, gateway: Gateway, feature: str) -> None:
    """Ask for a stream and leave after its first event."""
    with connect(gateway.url) as client:
        client.sendall(head(lectr, feature, length=len(STREAM)) + STREAM)
        read_until(client, b"data: ")


def leave_before_answer(lectr: Lectr, mock: MockProcess, gateway: Gateway, feature: str) -> None:
    """Ask for a plain answer and leave once the provider works on it."""
    before = len(mock.requests())
    with connect(gateway.url) as client:
        client.sendall(head(lectr, feature, length=len(PLAIN)) + PLAIN)
        mock.wait_for(lambda records: len(records) > before)


def whole_answer(lectr: Lectr, feature: str, body: bytes) -> dict[str, Any]:
    """The row of the same request by a client that stays."""
    status, _ = lectr.post("/v1/chat/completions", body, X_Lectr_Feature=f"{feature}-whole")
    assert status == 200
    return lectr.row_of(f"{feature}-whole", usage_source="provider")


TOKENS = ("input_tokens", "output_tokens", "cost", "model_actual", "finish_reason", "response_bytes")


def test_a_stream_is_read_to_its_end(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """Usage, cost and finish reason are those of the whole answer; the row says that the client left."""
    mock.behave(chunk_delay_ms=40)
    running = gateway()
    leave_stream(lectr, running, feature)
    row = lectr.row_of(feature, status=200, error_category="client_disconnect", error_source="client")
    assert (row["usage_source"], row["marks"]) == ("provider", ["drained"])
    assert [record["cancelled"] for record in mock.requests()] == [False]
    mock.reset()
    whole = whole_answer(lectr, feature, STREAM)
    assert {name: row[name] for name in TOKENS} == {name: whole[name] for name in TOKENS}
    assert metric(running, 'lectr_gateway_drained_total{outcome="ended"}') == 1


def test_an_answer_that_has_not_begun(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """A client that leaves before the head: the answer is awaited all the same. No status was sent to it: 499."""
    mock.behave(delay_ms=2_000)
    leave_before_answer(lectr, mock, gateway(), feature)
    row = lectr.row_of(feature, status=499, error_category="client_disconnect", error_source="client")
    assert (row["usage_source"], row["marks"]) == ("provider", ["drained"])
    # Nobody waited for what came after the client had left.
    assert (row["ttfb_ms"], row["ttft_ms"]) == (None, None)
    mock.reset()
    whole = whole_answer(lectr, feature, PLAIN)
    assert {name: row[name] for name in TOKENS} == {name: whole[name] for name in TOKENS}


def test_other_features_are_cancelled(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """The policy is one feature's: another one of the same organisation stops its provider."""
    mock.behave(chunk_delay_ms=200)
    leave_stream(lectr, gateway(), f"{feature}-other")
    mock.wait_for(lambda records: bool(records) and records[-1]["cancelled"])
    row = lectr.row_of(f"{feature}-other", error_category="client_disconnect")
    assert row["marks"] == []


def test_the_policy_is_taken_back(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """With `cancel` the feature stops its provider again, in a gateway that runs."""
    running = gateway()
    admin(lectr.redis_url, "org", "on-disconnect", lectr.org, "cancel", "--feature", feature)
    wait_until(lambda: metric(running, 'lectr_gateway_registry_refreshes_total{outcome="pushed"}') >= 1)
    mock.behave(chunk_delay_ms=200)
    leave_stream(lectr, running, feature)
    mock.wait_for(lambda records: bool(records) and records[-1]["cancelled"])


def test_too_many_are_cancelled(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """Past LECTR_UNATTENDED_ANSWERS a client that leaves stops its provider, and a counter says so."""
    mock.behave(chunk_delay_ms=200)
    running = gateway(LECTR_UNATTENDED_ANSWERS="0")
    leave_stream(lectr, running, feature)
    mock.wait_for(lambda records: bool(records) and records[-1]["cancelled"])
    assert lectr.row_of(feature, error_category="client_disconnect")["marks"] == ["drain_refused"]
    assert metric(running, 'lectr_gateway_drained_total{outcome="too_many"}') == 1


def test_one_that_takes_too_long_is_cancelled(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """Past LECTR_UNATTENDED_TIMEOUT_S the provider is stopped; the row has what had come."""
    mock.behave(chunk_delay_ms=60_000)
    running = gateway(LECTR_UNATTENDED_TIMEOUT_S="0.2")
    leave_stream(lectr, running, feature)
    mock.wait_for(lambda records: bool(records) and records[-1]["cancelled"])
    row = lectr.row_of(feature, status=200, error_category="client_disconnect", error_source="client")
    assert (row["usage_source"], row["marks"]) == ("estimated", ["drained", "drain_cut"])
    assert metric(running, 'lectr_gateway_drained_total{outcome="timed_out"}') == 1


def test_a_stop_waits_for_it(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """SIGTERM lets it end, as it lets answers end that have a client."""
    mock.behave(chunk_delay_ms=100)
    running = gateway()
    leave_stream(lectr, running, feature)
    running.terminate()
    assert lectr.row_of(feature, status=200)["usage_source"] == "provider"


def test_a_slow_client_that_leaves(lectr: Lectr, mock: MockProcess, gateway: Any, feature: str) -> None:
    """One that had stopped the reading, because it took nothing, does not stop it any more."""
    text = "x" * 60_000
    event = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}\n\n'
    mock.behave(body=event * 400 + "data: [DONE]\n\n", content_type="text/event-stream")
    running = gateway()
    leave_stream(lectr, running, feature)
    row = lectr.row_of(feature, error_category="client_disconnect")
    assert row["marks"] == ["drained"]
    assert row["response_bytes"] == len(event) * 400 + len("data: [DONE]\n\n")
