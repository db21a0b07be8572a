"""Files that declare organisations, on the command line and a real registry: planned, applied, exported, imported."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from redis import Redis

from dashboard.declared.apply import apply
from dashboard.declared.plan import Plan
from dashboard.registry import RegistryUnavailable, VersionConflict
from shared.organisation import Key, Limits, Org
from shared.registry import LOG_KEY, RegistryFault, hash_key
from tests.declared_orgs import ACME, ONE, REGISTRIES, TWO
from tests.declared_site import CommandLine, at_a_terminal, records, unversioned
from tests.parts import free_port, running, start_redis
from tests.registry_operator import Operator, empty, mark_whole

FILE = f"""
orgs:
  acme:
    keys: [{{name: default, sha256: {ONE}}}]
    limits: {{requests_per_s: 5}}
  beta: {{}}
"""


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, url = start_redis(tmp_path_factory.mktemp("declared"))
    with running(part):
        yield url


@pytest.fixture
def url(own_redis: str) -> str:
    """An empty registry."""
    empty(own_redis)
    return own_redis


@pytest.fixture
def line(url: str) -> CommandLine:
    return CommandLine(url)


@pytest.fixture
def operator(url: str) -> Iterator[Operator]:
    made = Operator(url)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "orgs.yaml"
    made.write_text(FILE)
    return made


def log_of(url: str) -> list[tuple[str, str, str]]:
    with Redis.from_url(url, decode_responses=True) as client:
        entries: Any = client.xrange(LOG_KEY)
    return [(fields["org"], fields["actor"], fields["action"]) for _, fields in entries]


def test_plan_then_apply_then_nothing(line: CommandLine, file: Path) -> None:
    """A plan changes nothing and exits with 3; apply does it once; then both find nothing to do and exit with 0."""
    planned = line.said("plan", str(file), code=3)
    assert planned.splitlines() == [
        "+ create acme (keys: 1, rules: 0, budgets: 0)",
        "+ create beta (keys: 0, rules: 0, budgets: 0)",
        "2 to create, 0 to change, 0 to disable, 0 unchanged, 0 not declared and left alone",
    ]
    assert records(line.redis_url) == {}
    assert line.said("apply", str(file)) == planned + "done: 2 created\n"
    made = records(line.redis_url)
    assert made["acme"].keys == (Key(name="default", sha256=ONE),)
    assert made["acme"].limits == Limits(requests_per_s=5)
    assert line.said("apply", str(file)) == "done: nothing was to do\n"
    assert line.said("plan", str(file)).endswith("0 to disable, 2 unchanged, 0 not declared and left alone\n")
    assert records(line.redis_url) == made
    assert log_of(line.redis_url) == [
        ("acme", "file:orgs.yaml", "create from file"),
        ("beta", "file:orgs.yaml", "create from file"),
    ]


def test_changes_are_said_field_by_field(line: CommandLine, operator: Operator, file: Path) -> None:
    """The plan names what differs, old and new, as text and as JSON; the log of changes names the fields."""
    line.said("apply", str(file))
    operator.create_org("gone")
    file.write_text(FILE.replace("requests_per_s: 5", "body_bytes: 7").replace(ONE, TWO))
    assert line.said("plan", str(file), "--prune", code=3).splitlines()[:-1] == [
        "~ change acme",
        "    keys[default].sha256: 11111111... -> 22222222...",
        "    limits.requests_per_s: 5.0 -> not set",
        "    limits.body_bytes: not set -> 7",
        "- disable gone, which the file does not declare",
        "    enabled: true -> false",
    ]
    as_json = line.value("plan", str(file), "--prune", code=3)
    assert [(change["org"], change["change"]) for change in as_json["changes"]] == [
        ("acme", "change"),
        ("gone", "disable"),
    ]
    assert as_json["changes"][0]["fields"][2] == {"field": "limits.body_bytes", "old": None, "new": "7"}
    assert (as_json["unchanged"], as_json["undeclared"]) == (["beta"], [])
    assert line.value("apply", str(file), "--prune", "--yes") == {"changes": as_json["changes"]}
    assert line.value("apply", str(file), "--prune", "--yes") == {"changes": []}
    assert not records(line.redis_url)["gone"].enabled
    assert log_of(line.redis_url)[-2:] == [
        ("acme", "file:orgs.yaml", "declare keys[default].sha256, limits.requests_per_s, limits.body_bytes"),
        ("gone", "file:orgs.yaml", "disable org, not declared"),
    ]


def test_without_prune_others_are_left_alone(line: CommandLine, operator: Operator, file: Path) -> None:
    """What the file does not declare stays as it is, and is counted."""
    other, _ = operator.create_org("other")
    assert "1 not declared and left alone" in line.said("apply", str(file))
    assert records(line.redis_url)["other"] == other


@pytest.mark.parametrize("text", ["", "orgs: {}", "orgs:", "orgs: {acme: {keys: 1}, b: }", "orgs: {a: {}}\n--- {}"])
@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_faulty_file_changes_nothing(
    line: CommandLine, operator: Operator, file: Path, text: str, command: str
) -> None:
    """An empty file, one without organisations to prune to, and any with a fault: exit code 2, and all stays."""
    operator.create_org("other")
    before = records(line.redis_url)
    file.write_text(text)
    lines = line.refused(command, str(file), "--prune")
    assert len(lines) == (2 if "keys" in text else 1)
    assert records(line.redis_url) == before


def test_a_file_that_is_none(line: CommandLine, tmp_path: Path) -> None:
    """A missing file, a folder, and no file at all are refused by name."""
    assert line.refused("plan", "no.yaml") == ["no.yaml: it cannot be read: No such file or directory"]
    assert line.refused("apply", str(tmp_path)) == [f"{tmp_path}: it cannot be read: Is a directory"]
    [said] = line.refused("plan")
    assert said == "FILE: name the file that declares the organisations, or set LECTR_REGISTRY_FILE"


def test_standard_input(line: CommandLine) -> None:
    """`-` is standard input, YAML or JSON by its first character."""
    assert "1 to create" in line.said("plan", "-", text='{"orgs": {"acme": {}}}', code=3)
    assert line.said("apply", "-", text="orgs: {acme: {}}").endswith("done: 1 created\n")
    assert line.refused("import", "-", text="orgs: {acme: [}}") == [
        "-: no YAML: line 1: did not find expected node content"
    ]


def test_warnings_are_said(line: CommandLine, file: Path) -> None:
    """A rule that can never apply is applied, and said on stderr."""
    file.write_text("orgs: {acme: {rules: [{name: a, target: {model: x}}, {name: b, model: y, target: {model: z}}]}}")
    done = line.run("apply", str(file))
    assert done.exit_code == 0
    assert "orgs.acme.rules: rule 'b' never applies" in done.stderr
    assert len(records(line.redis_url)["acme"].rules) == 2


def test_redis_away(file: Path) -> None:
    """One line says where Redis should be."""
    line = CommandLine(f"redis://127.0.0.1:{free_port()}/0")
    for command in (("plan", str(file)), ("apply", str(file)), ("export",)):
        [said] = line.refused(*command)
        assert "does not answer" in said


def declared(*names: str, **fields: Any) -> list[Org]:
    return [Org(org=name, version=0, **fields) for name in names]


def test_what_changes_meanwhile_is_planned_again(operator: Operator) -> None:
    """Somebody else's change after the plan is not overwritten unseen: a second plan has it, and then it is applied."""
    operator.create_org("acme")
    seen = []

    def meanwhile(planned: Plan, _made: int) -> None:
        seen.append([change.fields[0].field if change.fields else change.org for change in planned.changes])
        if len(seen) == 1:
            operator.set_on_disconnect("acme", "chat", drain=True)
            operator.create_org("new")

    made = apply(operator, declared("new", "acme", enabled=False), prune=False, approve=meanwhile)
    assert seen == [["new", "enabled"], ["enabled", "enabled"]]
    assert [(change.org, change.doing) for change in made] == [("new", "change"), ("acme", "change")]
    assert all(not org.enabled and org.drain_features == () for org in operator.orgs())


def test_who_changes_all_the_time_is_named(operator: Operator) -> None:
    """After a few plans that somebody else overtook, apply gives up and says who; their change is there."""
    operator.create_org("acme")
    before: list[int] = []

    def always(_: Plan, made: int) -> None:
        before.append(made)
        operator.rotate_key("acme")

    with pytest.raises(
        VersionConflict, match=r"somebody else changes acme at the same time; changes made before: 1; apply"
    ):
        apply(operator, declared("other", "acme"), prune=False, approve=always)
    assert before == [0, 1, 1, 1, 1], "who is asked hears what was done"
    assert len(operator.org("acme").keys) == 1


def test_an_organisation_that_vanished_meanwhile_is_made(operator: Operator, url: str) -> None:
    """A Redis that loses its memory between plan and change gets what the file declares all the same."""
    operator.create_org("acme")

    def lose(planned: Plan, _made: int) -> None:
        if planned.changes[0].doing == "change":
            with Redis.from_url(url) as client:
                client.flushall()

    made = apply(operator, declared("acme", enabled=False), prune=True, approve=lose)
    assert [change.doing for change in made] == ["create"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_between_two_changes(
    line: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What was done is said, and the same command does the rest."""

    def tell(_made: int, _of: int) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("dashboard.commands.declared._progress", tell)
    done = line.run("apply", str(file))
    assert (done.exit_code, done.stderr) == (2, "lectr: stopped after 1 of 2 changes; the same command goes on\n")
    monkeypatch.undo()
    assert set(records(line.redis_url)) == {"acme"}
    assert line.said("apply", str(file)).endswith("done: 1 created\n")


def test_what_is_refused_in_between_is_named(operator: Operator, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its organisation, with what was done before."""
    create = operator.create

    def refuse(org: Org, action: str) -> Org:
        if org.org == "beta":
            raise RegistryFault("too large")
        return create(org, action)

    monkeypatch.setattr(operator, "create", refuse)
    with pytest.raises(RegistryFault, match=r"^org 'beta': too large; changes made before: 1$"):
        apply(operator, declared("acme", "beta"), prune=False)
    assert set(records(url)) == {"acme"}


def test_a_redis_that_goes_away_in_between(tmp_path: Path) -> None:
    """What was done is done and said; the same file does the rest."""
    part, url = start_redis(tmp_path / "redis")
    operator = Operator(url)

    def kill(_made: int, _all: int) -> None:
        part.kill()

    try:
        with pytest.raises(RegistryUnavailable, match=r"; changes made before: 1; apply again$"):
            apply(operator, declared("acme", "beta"), prune=False, progress=kill)
    finally:
        operator.close()
        part.kill()


def test_progress_is_said(line: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long apply says on stderr how far it is."""
    monkeypatch.setattr("dashboard.commands.declared._PROGRESS_EVERY", 2)
    file.write_text(json.dumps({"orgs": {f"org-{n}": {} for n in range(5)}}))
    done = line.run("apply", str(file), "--json")
    assert done.stderr.splitlines() == ["lectr: 2 of 5 done", "lectr: 4 of 5 done"]
    assert len(json.loads(done.stdout)["changes"]) == 5


def test_a_person_is_asked_before_somebody_is_shut_out(line: CommandLine, operator: Operator, file: Path) -> None:
    """At a terminal apply asks before it disables organisations or takes keys away, and not otherwise."""
    operator.create_org("gone")
    operator.create_org("acme")
    refused = at_a_terminal(line.redis_url, "n\n", "apply", str(file), "--prune")
    assert refused.returncode == 1
    assert "To be refused from then on: organisations gone; keys default of acme. Go on? [y/N]" in refused.stderr
    assert set(records(line.redis_url)) == {"acme", "gone"}
    agreed = at_a_terminal(line.redis_url, "y\n", "apply", str(file), "--prune")
    assert agreed.returncode == 0, agreed.stderr
    assert not records(line.redis_url)["gone"].enabled
    file.write_text(FILE.replace("beta", "gamma"))
    unasked = at_a_terminal(line.redis_url, "", "apply", str(file))
    assert unasked.stdout.endswith("done: 1 created\n")


def test_nobody_is_shut_out_unasked(line: CommandLine, operator: Operator, file: Path) -> None:
    """Without a terminal apply and import refuse to do so, and say what would happen, unless they are told --yes."""
    operator.create_org("acme")
    before = records(line.redis_url)
    for command in (("apply", str(file)), ("apply", "--json", str(file)), ("import", "-")):
        done = line.run(*command, text=FILE)
        assert done.exit_code == 2
        assert done.stderr == (
            "lectr: To be refused from then on: keys default of acme. "
            "Nothing was done: there is no terminal to ask at; say --yes to do it\n"
        )
    assert records(line.redis_url) == before
    assert line.said("apply", str(file), "--yes").endswith("done: 1 created, 1 changed\n")


def test_export_reads_as_it_was_written(line: CommandLine, operator: Operator, tmp_path: Path) -> None:
    """The export of a registry, whole or of some, in either form, is a file for which there is nothing to do."""
    operator.create(ACME, "create")
    operator.create_org("beta")
    whole = line.said("export")
    assert whole.startswith("# The organisations of a Lectr installation.")
    assert "not for strangers" in whole
    assert ONE in whole
    for form, text in (("yaml", whole), ("json", line.said("export", "--json"))):
        file = tmp_path / f"orgs.{form}"
        file.write_text(text)
        assert line.value("plan", str(file), "--prune") == {
            "changes": [],
            "unchanged": ["acme", "beta"],
            "undeclared": [],
        }
    assert list(json.loads(line.said("export", "beta", "--json"))["orgs"]) == ["beta"]
    assert line.refused("export", "acme", "nobody") == [
        "org 'nobody' does not exist; create it with: org create nobody"
    ]


def test_import_needs_what_export_wrote(line: CommandLine, own_redis: str, operator: Operator) -> None:
    """Export here and import there: the same records; what was there besides is left alone."""
    operator.create(ACME, "create")
    key = operator.create_org("beta")[1]
    mark_whole(own_redis.replace("/0", "/1"))
    there = CommandLine(own_redis.replace("/0", "/1"))
    there.said("org", "create", "other")
    done = there.run("import", "-", text=line.said("export", "--json"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("done: 2 created\n")
    moved = records(there.redis_url)
    del moved["other"]
    assert unversioned(moved) == unversioned(records(line.redis_url))
    assert moved["beta"].keys[0].sha256 == hash_key(key)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orgs=REGISTRIES)
def test_any_registry_moves_whole(own_redis: str, orgs: list[Org]) -> None:
    """Whatever an installation's organisations are, export and import make the same ones elsewhere."""
    here, there = own_redis, own_redis.replace("/0", "/1")
    empty(here)
    mark_whole(there)
    operator = Operator(here)
    try:
        for org in orgs:
            operator.create(org, "create")
    finally:
        operator.close()
    CommandLine(there).run("import", "-", text=CommandLine(here).said("export"))
    assert unversioned(records(there)) == unversioned(records(here))


def test_a_key_for_a_file(line: CommandLine, file: Path) -> None:
    """`key new` shows a key once, with what stands in the file for it, and stores nothing."""
    nowhere = CommandLine(f"redis://127.0.0.1:{free_port()}/0")
    made = nowhere.value("key", "new", "ci")
    assert (made["name"], made["sha256"], made["shown"]) == ("ci", hash_key(made["key"]), made["key"][:13])
    text = nowhere.said("key", "new")
    key, entry = text.splitlines()[0].removeprefix("key  "), text.splitlines()[-1]
    file.write_text(f"orgs:\n  acme:\n    keys:\n    {entry}\n")
    line.said("apply", str(file))
    [kept] = records(line.redis_url)["acme"].keys
    assert (kept.name, kept.sha256, kept.shown) == ("default", hash_key(key), key[:13])
    assert kept.created_ms
    [said] = nowhere.refused("key", "new", "a/b")
    assert "name" in said
