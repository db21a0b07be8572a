"""Which provider understands which request, and what becomes of a rule that leads to one that does not."""

from collections.abc import Mapping
from itertools import product
from typing import Final

import pytest
from multidict import CIMultiDict

from gateway.client_head import ClientHead
from gateway.destination import Router, Way
from gateway.providers import DEFAULT_BASES, PROVIDERS, Catalogue
from gateway.redirect import MARK_MODEL_KEPT, MARK_NO_CREDENTIAL, MARK_NOT_SERVED, Asked, Plan, plan, speaks
from gateway.request_body import model_in_path
from gateway.routes import route_of
from shared.environment import Secret
from shared.organisation import Azure, Org, Provider, Rule, Target

OPENAI, ANTHROPIC, GROQ, GEMINI, AZURE = "openai", "anthropic", "groq", "gemini", "azure"
SPOKEN: Final = {
    "/chat/completions": {OPENAI, ANTHROPIC, GROQ, GEMINI, AZURE},
    "/embeddings": {OPENAI, GEMINI, AZURE},
    "/responses": {OPENAI, GROQ, AZURE},
    "/completions": {OPENAI, AZURE},
    "/audio/transcriptions": {OPENAI, GROQ, AZURE},
    "/audio/translations": {OPENAI, GROQ, AZURE},
    "/audio/speech": {OPENAI, GROQ, AZURE},
    "/images/generations": {OPENAI, GEMINI, AZURE},
    "/messages": {ANTHROPIC, AZURE},
    "/messages/count_tokens": {ANTHROPIC, AZURE},
    # Of one provider's objects, or in words that nobody else has.
    "": set(),
    "/": set(),
    "/models/gpt-4o": set(),
    "/chat/completions/x": set(),
    "/responses/resp_1": set(),
    "/responses/compact": set(),
    "/messages/batches": set(),
    "/files": set(),
    "/batches": set(),
    "/images/edits": set(),
    "/moderations": set(),
    "/realtime": set(),
    "/fine_tuning/jobs": set(),
}
PREFIXES: Final = ("/v1", "/v1/v1", "/openai/v1", "/v1/openai/v1", "/v1beta/openai")
DEPLOYMENTS: Final = ("/openai/deployments/team%20chat", "/v1/deployments/d")
NOBODY_ELSES: Final = (
    *("/v1beta/models/gemini-3-pro:generateContent", "/v1/models/gemini-3-pro:streamGenerateContent"),
    *("/v1beta/tunedModels/m:embedContent", "/upload/v1beta/files", "/v1alpha/cachedContents"),
    *("/openai/responses", "/openai/chat/completions", "/openai/files", "/openai/deployments/d", "/openai/"),
    *("/chat/completions", "/metrics", "/v2/chat/completions", "/v1/../v1/chat/completions", "/", ""),
)
PATHS: Final = {
    **{prefix + endpoint: spoken for prefix in PREFIXES for endpoint, spoken in SPOKEN.items()},
    **{prefix + endpoint: spoken for prefix in DEPLOYMENTS for endpoint, spoken in SPOKEN.items()},
    **{path: set() for path in NOBODY_ELSES},
}
OTHER: Final = "another-model"
ROUTER: Final = Router(Catalogue.load(), DEFAULT_BASES)
ORG: Final = Org(org="acme", version=1, azure=(Azure(endpoint="https://acme.openai.azure.com"),))
KEYS: Final = {provider: Secret(f"key-of-{provider}") for provider in PROVIDERS}
RAW: Final = ((b"Host", b"gateway"), (b"Content-Type", b"application/json"), (b"Content-Length", b"25"))
HEAD: Final = ClientHead(RAW, CIMultiDict((name.decode(), value.decode()) for name, value in RAW))


def planned(
    path: str,
    came_from: str,
    target: Target,
    body: bytes = b'{"model":"gpt-4o"}',
    *,
    keys: Mapping[str, Secret] = KEYS,
) -> Plan:
    """What a rule makes of a request that would go to `came_from`."""
    model = model_in_path(path) or "gpt-4o"
    way = ROUTER.way(came_from, HEAD.fields, head=HEAD, target=path, model=model, org=ORG)
    assert isinstance(way, Way)
    asked = Asked(
        head=HEAD,
        target=path,
        held=body,
        readable=True,
        provider=came_from,
        model=model,
        way=way,
        org=ORG,
        credentials=keys,
    )
    return plan(ROUTER, Rule(name="r", target=target), asked)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("query", ["", "?", "?key=a&x=%2Fv1/files"])
def test_who_speaks_which_path(provider: str, query: str) -> None:
    """Of every kind of path, at whatever prefix a client asks for it: who understands it, whatever its query."""
    assert [path for path in PATHS if speaks(provider, path + query)] == [
        path for path, spoken in PATHS.items() if provider in spoken
    ]


@pytest.mark.parametrize(("came_from", "provider"), [*product(PROVIDERS, PROVIDERS)])
def test_only_what_is_understood_goes_to_another_provider(came_from: str, provider: Provider) -> None:
    """Every path, from every provider to every one: it is asked, or the request goes its own way and that is marked."""
    for path, spoken in PATHS.items():
        if route_of(path) is None:
            # Refused before any rule is looked at.
            continue
        found = planned(path, came_from, Target(provider=provider))
        [step] = found.steps
        if provider == came_from:
            assert (step.provider, found.marks) == (provider, ()), path
        elif provider in spoken:
            assert (step.provider, step.by_rule, found.marks) == (provider, True, ()), path
        else:
            assert (step.provider, step.by_rule, found.marks) == (came_from, False, (MARK_NOT_SERVED,)), path
            assert (step.body, found) == (None, planned(path, came_from, Target(provider=provider, model=OTHER)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_without_a_credential_is_left_out(provider: Provider) -> None:
    """Nobody else's key is tried there."""
    came_from = next(one for one in PROVIDERS if one != provider)
    found = planned("/v1/chat/completions", came_from, Target(provider=provider), keys={came_from: KEYS[came_from]})
    assert ([step.provider for step in found.steps], found.marks) == ([came_from], (MARK_NO_CREDENTIAL,))


DEPLOYED: Final = "/openai/deployments/team%20chat/chat/completions"


@pytest.mark.parametrize(
    ("body", "target", "sent"),
    [
        (b'{"model":"gpt-4o"}', Target(provider="openai", model=OTHER), b'{"model":"another-model"}'),
        (b'{"model":"gpt-4o"}', Target(provider="openai"), None),
        (b'{"messages":[]}', Target(provider="openai"), MARK_MODEL_KEPT),
        (b'{"messages":[]}', Target(provider="openai", model=OTHER), MARK_MODEL_KEPT),
        (b'{"messages":[]}', Target(model=OTHER), None),
    ],
)
def test_what_leaves_an_azure_path_has_its_model_in_the_body(
    body: bytes, target: Target, sent: bytes | str | None
) -> None:
    """A deployment's name means nothing elsewhere: the body names the model, or the request stays with Azure."""
    found = planned(DEPLOYED, "azure", target, body)
    [step] = found.steps
    if isinstance(sent, str):
        assert (step.provider, step.by_rule, step.body, found.marks) == ("azure", False, None, (sent,))
    else:
        assert (step.provider, step.body, found.marks) == (target.provider or "azure", sent, ())
