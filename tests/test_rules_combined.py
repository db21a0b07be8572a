"""Rules in every combination of their conditions, and what a defect in them costs a request: nothing."""

import base64
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import pytest

from dashboard import edits
from shared.organisation import Rule, Target
from shared.rules import RuleTable
from tests.faulty_gateway import FAULTS, UNBUILDABLE, FaultyGateway
from tests.mock_process import MockProcess, mock_process
from tests.parts import upstreams_of, wait_until
from tests.registry_site import NEVER_S, Site, metric, sites
from tests.rules_site import OWN_KEY, Asked

REQUEST: Final = {"feature": "checkout", "task": "extraction", "provider": "openai", "model": "gpt-5-mini"}
CONDITIONS: Final[dict[str, tuple[tuple[str | None, bool], ...]]] = {
    "feature": ((None, True), ("checkout", True), ("search", False)),
    "task": ((None, True), ("extraction", True), ("Extraction", False)),
    "provider": ((None, True), ("openai", True), ("groq", False)),
    "model": (
        (None, True),
        ("gpt-5-mini", True),
        ("gpt-5*", True),
        ("gpt-5-mini*", True),
        ("*", True),
        ("gpt-5", False),
        ("gpt-5-mini-*", False),
        ("gpt-4*", False),
    ),
}
"""What a rule may ask for, and whether REQUEST meets it."""


def rule(name: str, choice: tuple[tuple[str | None, bool], ...], **more: Any) -> Rule:
    conditions: dict[str, Any] = {field: value for field, (value, _) in zip(CONDITIONS, choice, strict=True)}
    return Rule(name=name, target=Target(model=name), **conditions, **more)


def test_every_combination_of_conditions() -> None:
    """Each of 216: set or not, met or not, exact or a beginning. It applies if and only if all that are set are met."""
    seen = 0
    for choice in product(*CONDITIONS.values()):
        expected = all(met for _, met in choice)
        made = rule("r", choice)
        assert (RuleTable([made]).find(**REQUEST) is made) == expected, made
        assert RuleTable([rule("r", choice, enabled=False)]).find(**REQUEST) is None
        seen += 1
    assert seen == 216


@pytest.mark.parametrize("priorities", [(1, 2), (2, 2), (2, 1)])
def test_every_pair_of_rules(priorities: tuple[int, int]) -> None:
    """Of two rules in any combination the one with the lower priority applies, among equals the first, if it is met."""
    choices = [choice for choice in product(*CONDITIONS.values()) if choice[1][0] is None]
    for one, two in product(choices, repeat=2):
        first, second = rule("first", one, priority=priorities[0]), rule("second", two, priority=priorities[1])
        order = [first, second] if priorities[0] <= priorities[1] else [second, first]
        met = {"first": all(met for _, met in one), "second": all(met for _, met in two)}
        expected = next((made for made in order if met[made.name]), None)
        assert RuleTable([first, second]).find(**REQUEST) is expected


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as running_mock:
        yield running_mock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Iterator[Site]:
    """A gateway whose rules are broken."""
    with sites(tmp_path_factory.mktemp("faulty"), mock) as made:
        settings = {"LECTR_REGISTRY_POLL_S": NEVER_S}
        made.started.append(FaultyGateway(made.directory, made.redis_url, upstreams_of(mock.url), **settings))
        made.started[0].wait()
        yield made


@pytest.fixture
def asked(site: Site, request: pytest.FixtureRequest) -> Iterator[Asked]:
    made = Asked(site, request.node.name)
    yield made
    made.operator.close()


@pytest.mark.parametrize("where", [*FAULTS, UNBUILDABLE])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_defect_in_rules_costs_nothing(asked: Asked, where: str, *, stream: bool) -> None:
    """The request goes its own way, every byte of it; the row, a counter and the log say that its rule failed."""
    asked.rule(target=Target(model="gpt-4o-mini"), failover=(Target(model="gpt-4.1"),))
    if where == UNBUILDABLE:
        asked.operator.edit(asked.name, edits.put_rule(Rule(name=UNBUILDABLE, feature="nobody")), "put rule")
        wait_until(lambda: asked.ask(feature="marker")[0] == 200 and asked.site.mock.last_body()["model"] == "gpt-4o")
        asked.site.mock.reset()
    before = metric(asked.gateway, "lectr_gateway_rule_faults_total")
    assert asked.ask(feature=where, stream=stream)[0] == 200
    [record] = asked.site.mock.requests()
    said = str(stream).lower().encode()
    body = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "say \\"model\\""}], "stream": ' + said + b"}"
    assert base64.b64decode(record["body_base64"]) == body
    assert asked.seen() == [("openai", "gpt-4o", f"Bearer {OWN_KEY}")]
    assert metric(asked.gateway, "lectr_gateway_rule_faults_total") == before + 1
    event = asked.event()
    assert (event.status, event.provider, event.rule, event.attempts) == (200, "openai", "", ())
    assert (event.model_requested, event.marks) == ("gpt-4o", ("rule_failed",))
    assert '"event": "defect"' in asked.gateway.output
    assert "sk-canary" not in asked.gateway.output
    assert metric(asked.gateway, "lectr_gateway_handler_faults_total") == 0
