"""An organisation that would break or hang a gateway costs itself alone: for others polls, pushes and starts go on."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard import edits
from gateway.credential_reader import CredentialReader
from gateway.credentials import Credentials
from shared.organisation import Rule, Target
from tests.faulty_gateway import HUNG, UNBUILDABLE, FaultyGateway
from tests.mock_process import MockProcess, mock_process
from tests.parts import upstreams_of, wait_until
from tests.registry_operator import Operator
from tests.registry_site import NEVER_S, Site, ask, metric, org_of, sites, until_status, wait_polls
from tests.rules_site import OWN_KEY, Asked

BAD_RECORDS = "lectr_gateway_registry_bad_records_total"
LATE, MISSING = "lectr_gateway_credentials_late", "lectr_gateway_credentials_missing"
MANY = 600
"""Rules that are indexed before their record applies."""


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with mock_process("--keep-bodies") as running_mock:
        yield running_mock


@pytest.fixture
def site(tmp_path: Path, mock: MockProcess) -> Iterator[Site]:
    with sites(tmp_path, mock) as made:
        yield made


def begin(site: Site, poll_s: str = NEVER_S, name: str = "gateway") -> FaultyGateway:
    """A gateway with the defects of tests/faulty_gateway.py, serving."""
    gateway = FaultyGateway(
        site.directory / name, site.redis_url, upstreams_of(site.mock.url), LECTR_REGISTRY_POLL_S=poll_s
    )
    site.started.append(gateway)
    gateway.wait()
    return gateway


def test_rules_that_cannot_be_indexed_cost_their_organisation_alone(site: Site) -> None:
    """Pushed, polled, and in a fresh gateway: named and counted as an unreadable record is, the one before in force."""
    operator = Operator(site.redis_url)
    broken, healthy = (operator.create_org(name)[1] for name in ("broken", "healthy"))
    running = begin(site)
    assert ask(running, broken) == 200
    rules = [Rule(name=f"r{number}", target=Target(model="m")) for number in range(MANY)]
    operator.edit("broken", edits.set_rules([*rules, Rule(name=UNBUILDABLE)]), "rules")
    wait_until(lambda: metric(running, BAD_RECORDS) == 1)
    said = running.line_with("registry_record_unreadable")
    assert '"org": "broken"' in said
    assert "its rules cannot be indexed: AssertionError at " in said
    assert ask(running, broken) == 200
    until_status(running, operator.create_org("later")[1], 200, "a push afterwards")
    fresh = begin(site, poll_s="0.1", name="fresh")
    assert (ask(fresh, healthy), ask(fresh, broken), metric(fresh, BAD_RECORDS)) == (200, 401, 1)
    wait_polls(fresh)
    operator.edit("broken", edits.remove_rule(UNBUILDABLE), "mended")
    operator.close()
    until_status(fresh, broken, 200, "mended")


class Folder:
    """Where keys are, on a disk that hangs or does not."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path

    def put(self, name: str, key: str) -> str:
        """The reference to a file with this key."""
        (self.path / name).write_text(key)
        return f"file:{self.path / name}"

    def hang(self) -> None:
        (self.path / HUNG).touch()

    def answer(self) -> None:
        (self.path / HUNG).unlink()


def keys_used(asked: Asked) -> list[str]:
    """With which key the provider is asked, for one request."""
    asked.site.mock.reset()
    assert asked.ask()[0] == 200
    return [key for _, _, key in asked.seen()]


def test_a_disk_that_hangs_holds_up_nobody(site: Site, tmp_path: Path) -> None:
    """Polls, pushes and other keys go on beside a file that does not answer; it is taken when it does."""
    slow, quick = Folder(tmp_path / "slow"), Folder(tmp_path / "quick")
    gateway = begin(site, poll_s="0.1")
    asked = [Asked(site, name) for name in ("stuck", "another-stuck", "free")]
    for one in asked:
        one.rule(target=Target(provider="groq", model="llama-3.1-8b-instant"))
    slow.hang()
    for one, folder in zip(asked, (slow, slow, quick), strict=True):
        reference = folder.put(one.name, f"gsk-{one.name}")
        one.operator.edit(one.name, edits.set_credential("groq", reference), "credential")
    wait_until(lambda: keys_used(asked[2]) == ["Bearer gsk-free"])
    wait_until(lambda: (metric(gateway, LATE), metric(gateway, MISSING)) == (2, 2))
    assert keys_used(asked[0]) == keys_used(asked[1]) == [f"Bearer {OWN_KEY}"]
    assert "its disk does not answer" in gateway.line_with("credential_late")
    wait_polls(gateway, 3)
    until_status(gateway, asked[0].operator.create_org("made-meanwhile")[1], 200, "a push beside a disk that hangs")
    quick.put("free", "gsk-replaced")
    wait_until(lambda: keys_used(asked[2]) == ["Bearer gsk-replaced"])
    slow.answer()
    for one in asked[:2]:
        wait_until(lambda at=one: keys_used(at) == [f"Bearer gsk-{at.name}"])  # type: ignore[misc]
    wait_until(lambda: (metric(gateway, LATE), metric(gateway, MISSING)) == (0, 0))
    for one in asked:
        one.operator.close()


def test_a_start_beside_a_disk_that_hangs(site: Site, tmp_path: Path) -> None:
    """It serves everybody whatever no disk tells; and SIGTERM ends it although a thread still waits."""
    slow = Folder(tmp_path / "slow")
    operator = Operator(site.redis_url)
    key = operator.create_org("stuck")[1]
    for number in range(40):
        reference = slow.put(f"key-{number}", "gsk-x")
        operator.edit("stuck", edits.set_credential("groq", reference), "credential")
        operator.create_org(f"o{number}")
        operator.edit(f"o{number}", edits.set_credential("groq", reference), "credential")
    operator.close()
    slow.hang()
    gateway = begin(site)
    assert ask(gateway, key) == 200
    wait_until(lambda: metric(gateway, LATE) == 40)
    assert gateway.terminate() == 0


def test_a_known_key_outlives_its_disk(site: Site, tmp_path: Path) -> None:
    """A file that was read before and does not answer any more: what was in it still counts, and it is told."""
    slow = Folder(tmp_path / "slow")
    gateway = begin(site, poll_s="0.1")
    asked = Asked(site, "known")
    reference = slow.put("known", "gsk-known")
    asked.operator.edit("known", edits.set_credential("groq", reference), "credential")
    asked.rule(target=Target(provider="groq", model="llama-3.1-8b-instant"))
    asked.operator.close()
    wait_until(lambda: keys_used(asked) == ["Bearer gsk-known"])
    slow.hang()
    wait_until(lambda: metric(gateway, LATE) == 1)
    assert keys_used(asked) == ["Bearer gsk-known"]
    assert metric(gateway, MISSING) == 0
    slow.put("known", "gsk-new")
    slow.answer()
    wait_until(lambda: keys_used(asked) == ["Bearer gsk-new"])


async def test_a_slow_disk_keeps_nobody_waiting_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that come one by one: whoever needs them goes on before the last, and all are taken in the end."""
    hurry = threading.Event()

    def slow(path: str) -> bytes:
        hurry.wait(0.1)
        return path.encode()

    monkeypatch.setattr("gateway.credentials._read_file", slow)
    orgs = [org_of(f"o{number}", "key", 1, credentials={"groq": f"file:/{number}"}) for number in range(40)]
    reader = CredentialReader(credentials := Credentials())
    reader.start()
    await reader.look_up(orgs[:-1])
    assert 0 < sum(bool(credentials.of(org)) for org in orgs) < len(orgs) - 1
    await reader.look_up(orgs)
    hurry.set()
    await asyncio.to_thread(wait_until, lambda: all(credentials.of(org) for org in orgs))
    await reader.close()
