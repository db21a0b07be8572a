"""Where requests go, and that a remembered decision is the one that would be made anew."""

import pytest
from multidict import CIMultiDict

from gateway.client_head import ClientHead
from gateway.destination import Destination, Router, Way
from gateway.faults import AzureConfigMissing, UnknownPath
from gateway.providers import DEFAULT_BASES, Catalogue
from shared.organisation import Azure, Org

ROUTER = Router(Catalogue.load(), DEFAULT_BASES)
ACME = Org(org="acme", version=1)
WITH_AZURE = Org(org="acme", version=2, azure=(Azure(endpoint="https://acme.openai.azure.com"),))
RAW = (
    (b"host", b"gateway"),
    (b"X-Lectr-Key", b"lc_key_a"),
    (b"Accept", b"*/*"),
    (b"content-LENGTH", b"12"),
    (b"Authorization", b"Bearer sk-1"),
)


def head_of(*more: tuple[bytes, bytes], raw: tuple[tuple[bytes, bytes], ...] = RAW) -> ClientHead:
    raw = (*raw, *more)
    return ClientHead(raw, CIMultiDict((name.decode(), value.decode()) for name, value in raw))


def ask(head: ClientHead, target: str = "/v1/chat/completions", model: str = "gpt-4o", org: Org = ACME) -> Destination:
    return ROUTER.destination(head, target, model, org)


def way_of(found: Destination) -> Way:
    assert isinstance(found.way, Way)
    return found.way


def test_the_lines_of_a_request() -> None:
    """Host in its place, our own fields left out, the rest as it came; the length is put in for each request."""
    way = way_of(ask(head_of()))
    assert (way.origin.host, way.target) == ("api.openai.com", b"/v1/chat/completions")
    assert way.lines_before + b"99" + way.lines_after == (
        b"\r\nhost: api.openai.com\r\nAccept: */*\r\ncontent-LENGTH: 99\r\nAuthorization: Bearer sk-1"
    )


def test_the_lines_of_a_request_without_length() -> None:
    """All lines stand before the place that a length would have."""
    way = way_of(ask(head_of(raw=RAW[:3])))
    assert (way.lines_before, way.lines_after) == (b"\r\nhost: api.openai.com\r\nAccept: */*", b"")


def test_a_decision_is_remembered_by_all_that_it_depends_on() -> None:
    """The same question has the same answer; another target, model, Azure endpoint or head is another question."""
    head = head_of()
    first = ask(head)
    assert ask(head) is first
    assert ask(head, model="claude-sonnet-4-5").provider == "anthropic"
    assert ask(head, model="").provider_source == "default"
    assert way_of(ask(head, target="/v1/embeddings")).target == b"/v1/embeddings"
    assert ask(head_of((b"X-Lectr-Provider", b"groq"))).provider == "groq"
    azure = head_of((b"X-Lectr-Provider", b"azure"))
    assert way_of(ask(azure, org=WITH_AZURE)).origin.host == "acme.openai.azure.com"
    moved = Org(org="acme", version=3, azure=(Azure(endpoint="https://new.openai.azure.com"),))
    assert way_of(ask(azure, org=moved)).origin.host == "new.openai.azure.com"
    assert ask(head) == first


def test_azure_resources_by_model() -> None:
    """A model goes to the resource that has a deployment of it, under the deployment's name; any other to the first."""
    org = Org(
        org="acme",
        version=4,
        azure=(
            Azure(endpoint="https://one.openai.azure.com", api_version="2024-10-21", name="one"),
            Azure(
                endpoint="https://two.openai.azure.com",
                api_version="2024-10-21",
                name="two",
                deployments={"gpt-4o": "team chat"},
            ),
        ),
    )
    azure = head_of((b"X-Lectr-Provider", b"azure"))
    there = way_of(ask(azure, org=org))
    assert there.origin.host == "two.openai.azure.com"
    assert there.target == b"/openai/deployments/team%20chat/chat/completions?api-version=2024-10-21"
    assert way_of(ask(azure, model="gpt-5", org=org)).origin.host == "one.openai.azure.com"
    named = head_of((b"api-key", b"of-azure"))
    asked = ask(named, "/openai/deployments/team%20chat/chat/completions?api-version=1", model="", org=org)
    assert way_of(asked).origin.host == "two.openai.azure.com", "a client that names the deployment itself"


def test_an_organisations_own_base_url() -> None:
    """Requests to that provider go there, those to others do not."""
    org = Org(org="acme", version=5, base_urls={"openai": "https://llm.example.com/team/v1"})
    way = way_of(ask(head_of(), org=org))
    assert (way.origin.host, way.target) == ("llm.example.com", b"/team/v1/chat/completions")
    assert way_of(ask(head_of(), model="claude-sonnet-4-5", org=org)).origin.host == "api.anthropic.com"


def test_little_is_remembered() -> None:
    """Clients choose targets and models: a few short ones are kept."""
    head = head_of()
    for number in range(100):
        ask(head, model=f"gpt-{number}")
    assert len(head.destinations) <= 8
    head.destinations.clear()
    ask(head, target="/v1/models/" + "x" * 300)
    ask(head, model="m" * 300)
    assert head.destinations == {}


@pytest.mark.parametrize(
    ("target", "fields", "fault"),
    [
        ("/nowhere", (), UnknownPath),
        ("/v1/chat/completions", ((b"X-Lectr-Provider", b"azure"),), AzureConfigMissing),
    ],
)
def test_what_leads_nowhere(target: str, fields: tuple[tuple[bytes, bytes], ...], fault: type[Exception]) -> None:
    """A fault stands in the way's place, a new one each time; provider and model are known all the same."""
    head = head_of(*fields)
    found = ask(head, target=target)
    assert type(found.way) is fault
    assert found.model == "gpt-4o"
    assert ask(head, target=target).way is not found.way
