"""Rules in a running gateway: what the provider is sent, what the client gets, and what the row tells."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dashboard import edits
from shared.organisation import Target
from tests.mock_process import MockProcess, mock_process
from tests.parts import fetch
from tests.registry_site import NEVER_S, Site, sites
from tests.rules_site import GROQ_KEY, OWN_KEY, Asked


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path_factory.mktemp("rules"), mock) as made:
        made.start(LECTR_REGISTRY_POLL_S=NEVER_S, GROQ_KEY=GROQ_KEY).wait()
        yield made


@pytest.fixture
def asked(site: Site, request: pytest.FixtureRequest) -> Iterator[Asked]:
    made = Asked(site, request.node.name)
    yield made
    made.operator.close()


def test_another_model(asked: Asked) -> None:
    """The model is replaced; the row has both models and the rule."""
    asked.rule(model="gpt-4o*", target=Target(model="gpt-4o-mini"))
    assert asked.ask()[0] == 200
    assert asked.seen() == [("openai", "gpt-4o-mini", f"Bearer {OWN_KEY}")]
    event = asked.event()
    assert (event.model_requested, event.rule, event.provider_source) == ("gpt-4o", "the rule", "model")
    assert event.model_actual.startswith("gpt-4o-mini")
    assert event.key == "default"


def test_what_is_no_request_for_an_answer_is_unchanged(asked: Asked) -> None:
    """Looking a model up asks for nothing that could come from another one: no rule applies."""
    asked.rule(target=Target(provider="groq", model="gpt-4o-mini"))
    fields = {"X-Lectr-Key": asked.key, "Authorization": f"Bearer {OWN_KEY}"}
    fetch(f"{asked.gateway.url}/v1/models/gpt-4o", headers=fields)
    record = asked.site.mock.requests()[-1]
    assert record["path"].endswith("/v1/models/gpt-4o")
    assert (asked.event().rule, asked.event().model_requested) == ("", "gpt-4o")


def test_what_does_not_match_is_unchanged(asked: Asked) -> None:
    """Another feature than the rule's: the request goes its way, and the row names no rule."""
    asked.rule(feature="chat", target=Target(model="gpt-4o-mini"))
    assert asked.ask()[0] == 200
    assert asked.seen() == [("openai", "gpt-4o", f"Bearer {OWN_KEY}")]
    assert asked.event().rule == ""


def test_another_provider_with_a_credential(asked: Asked) -> None:
    """The request goes there with the installation's key; the client's own goes nowhere."""
    asked.operator.edit(asked.name, edits.set_credential("groq", "env:GROQ_KEY"), "credential")
    asked.rule(target=Target(provider="groq", model="llama-3.1-8b-instant"))
    assert asked.ask()[0] == 200
    assert asked.seen() == [("groq", "llama-3.1-8b-instant", f"Bearer {GROQ_KEY}")]
    event = asked.event()
    assert (event.provider, event.provider_source, event.model_requested) == ("groq", "rule", "gpt-4o")


@pytest.mark.parametrize("reference", [None, "env:NOT_THERE", "file:/nowhere/key", "env:LECTR_REDIS_URL"])
def test_another_provider_without_a_credential(asked: Asked, reference: str | None) -> None:
    """The request passes unchanged, and the row says why."""
    if reference:
        asked.operator.edit(asked.name, edits.set_credential("groq", reference), "credential")
    asked.rule(target=Target(provider="groq", model="llama-3.1-8b-instant"))
    assert asked.ask()[0] == 200
    assert asked.seen() == [("openai", "gpt-4o", f"Bearer {OWN_KEY}")]
    assert "rule_credential_missing" in asked.event().marks


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"status": 429}, "429"),
        ({"status": 503}, "503"),
        ({"status": 500}, "500"),
        ({"drop_before_head": True}, "provider_unreachable"),
    ],
)
def test_failover(asked: Asked, order: dict[str, Any], said: str) -> None:
    """A provider that refuses or breaks before its answer: the next target answers, and the row tells of both."""
    asked.operator.edit(asked.name, edits.set_credential("groq", "env:GROQ_KEY"), "credential")
    asked.rule(failover=(Target(provider="groq", model="llama-3.1-8b-instant"),))
    asked.site.mock.behave(provider="openai", **order)
    assert asked.ask()[0] == 200
    assert [(provider, model) for provider, model, _ in asked.seen()] == [
        ("openai", "gpt-4o"),
        ("groq", "llama-3.1-8b-instant"),
    ]
    event = asked.event()
    assert (event.status, event.provider, event.attempts) == (200, "groq", (f"openai/gpt-4o {said}",))


def test_a_clients_mistake_is_no_reason_to_try_elsewhere(asked: Asked) -> None:
    """A 400 is the client's: it is passed on as it is."""
    asked.rule(failover=(Target(model="gpt-4o-mini"),))
    asked.site.mock.behave(provider="openai", status=400)
    assert asked.ask()[0] == 400
    assert len(asked.seen()) == 1
    assert asked.event().attempts == ()


def test_when_every_target_fails_the_last_answer_counts(asked: Asked) -> None:
    """The client sees what the last one said."""
    asked.rule(failover=(Target(model="gpt-4o-mini"),))
    asked.site.mock.behave(provider="openai", status=503)
    status, body = asked.ask()
    assert (status, b"error" in body) == (503, True)
    assert [model for _, model, _ in asked.seen()] == ["gpt-4o", "gpt-4o-mini"]
    assert asked.event().attempts == ("openai/gpt-4o 503",)


def test_a_stream_that_has_begun_is_not_tried_elsewhere(asked: Asked) -> None:
    """After the first byte there is no other target: the client's stream breaks off."""
    asked.rule(failover=(Target(model="gpt-4o-mini"),))
    asked.site.mock.behave(provider="openai", cut_after_bytes=100)
    with pytest.raises(OSError, match=r"."):
        asked.ask(stream=True)
    assert [model for _, model, _ in asked.seen()] == ["gpt-4o"]


def test_reasoning_is_not_taken_to_a_cheaper_model(asked: Asked) -> None:
    """A rule made from a recommendation leaves the task `reasoning` alone."""
    asked.rule(target=Target(model="gpt-4o-mini"), recommended=True)
    body = json.dumps({"model": "gpt-4o", "messages": []}).encode()
    for task, model in (("reasoning", "gpt-4o"), ("generation", "gpt-4o-mini")):
        fields = {"X-Lectr-Key": asked.key, "Authorization": f"Bearer {OWN_KEY}", "X-Lectr-Task": task}
        fetch(f"{asked.gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")
        assert asked.seen()[-1][1] == model


def test_an_azure_deployment_by_its_model(asked: Asked) -> None:
    """Where no path names the deployment, the body does; the row tells the model that was asked for."""
    edit = edits.set_azure(f"{asked.site.mock.url}/azure", "", "default", {"gpt-4o": "team-chat"})
    asked.operator.edit(asked.name, edit, "azure")
    asked.rule(feature="nobody", target=Target(model="x"))
    body = json.dumps({"model": "gpt-4o", "messages": []}).encode()
    fields = {"X-Lectr-Key": asked.key, "api-key": OWN_KEY, "X-Lectr-Provider": "azure"}
    status, _ = fetch(f"{asked.gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")
    assert (status, [(provider, model) for provider, model, _ in asked.seen()]) == (200, [("azure", "team-chat")])
    event = asked.event()
    assert (event.model_requested, event.rule, event.marks) == ("gpt-4o", "", ())
