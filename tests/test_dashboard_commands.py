"""Commands as a person or a script gives them: targets of rules, what asks first, amounts and limits that are meant."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from dashboard.__main__ import main
from dashboard.commands.door import confirm
from dashboard.commands.targets import shown_target, target
from shared.organisation import Limits, Target
from shared.registry import RegistryFault
from tests.declared_orgs import ONE
from tests.declared_site import CommandLine, at_a_terminal, records
from tests.parts import clean_environ, python, running, start_redis
from tests.registry_operator import empty

SET_RULE: Final = ("rule", "set", "acme", "r")
ROTATED: Final = "will be refused until they have the new one."
ASKING: Final = {
    (
        "org",
        "rotate-key",
        "acme",
    ): f"Clients with the key 'default' of acme {ROTATED}",
    ("org", "disable", "acme"): "All clients of acme will be refused until it is enabled again.",
    ("key", "rotate", "acme", "ci"): f"Clients with the key 'ci' of acme {ROTATED}",
    ("key", "disable", "acme", "ci"): "Clients with the key 'ci' of acme will be refused until it is enabled again.",
    ("key", "remove", "acme", "ci"): "Clients with the key 'ci' of acme will be refused for good.",
    ("rule", "remove", "acme", "r"): "Rule 'r' of acme will be gone.",
    ("budget", "remove", "acme", "b"): "Budget 'b' of acme will be gone, and will stop nothing any more.",
    ("price", "remove", "acme", "groq", "m"): "All prices of groq/m for acme will be gone.",
    ("azure", "remove", "acme"): "Azure resource 'default' of acme will be gone: no request will be sent there.",
    ("base-url", "remove", "acme", "groq"): "Requests of acme to groq will go where the installation sends them.",
    ("credential", "remove", "acme", "groq"): "Rules of acme will send nothing to groq any more.",
}
"""Commands, and what would happen."""
THERE: Final = (
    ("org", "create", "acme"),
    ("key", "add", "acme", "ci"),
    ("rule", "set", "acme", "r", "--to", "x"),
    ("budget", "set", "acme", "b", "--limit-usd", "5"),
    ("price", "set", "acme", "groq", "m", "--input-usd", "1", "--output-usd", "2"),
    ("azure", "set", "acme", "--endpoint", "https://a.example"),
    ("base-url", "set", "acme", "groq", "https://a.example/v1"),
    ("credential", "set", "acme", "groq", "env:GROQ_KEY"),
)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, url = start_redis(tmp_path_factory.mktemp("commands"))
    with running(part):
        yield url


@pytest.fixture
def line(own_redis: str) -> CommandLine:
    """An installation with one organisation that has something of everything."""
    empty(own_redis)
    made = CommandLine(own_redis)
    for command in THERE:
        assert made.run(*command).exit_code == 0, command
    return made


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("gpt-4o-mini", Target(model="gpt-4o-mini")),
        ("groq/", Target(provider="groq")),
        ("groq/llama-3.1-8b-instant", Target(provider="groq", model="llama-3.1-8b-instant")),
        ("groq/meta-llama/llama-4-scout-17b", Target(provider="groq", model="meta-llama/llama-4-scout-17b")),
        ("groq/openai/gpt-oss-120b", Target(provider="groq", model="openai/gpt-oss-120b")),
        ("openai/gpt-oss-120b", Target(provider="openai", model="gpt-oss-120b")),
        ("/openai/gpt-oss-120b", Target(model="openai/gpt-oss-120b")),
        ("/groq", Target(model="groq")),
        ("/meta-llama/llama-4-scout-17b", Target(model="meta-llama/llama-4-scout-17b")),
    ],
)
def test_a_target_is_read_and_shown_alike(text: str, meant: Target) -> None:
    """Provider and model, either alone, and models that have slashes: each can be said, and is shown as it is said."""
    assert target("--to", text) == meant
    assert shown_target(meant) == text


@pytest.mark.parametrize("option", ["--to", "--failover"])
@pytest.mark.parametrize("text", ["nosuch/gpt-4o", "grok/", "OpenAI/gpt-4o", "meta-llama/llama-4-scout-17b", "", "/"])
def test_a_provider_that_is_none_is_refused(line: CommandLine, option: str, text: str) -> None:
    """It may be a slip or the name of a model: both ways to say what is meant are named, and nothing is stored."""
    before = records(line.redis_url)
    [said] = line.refused(*SET_RULE, option, text)
    assert said.startswith(f"{option} {text!r}: ")
    if len(text) > 1:
        assert f"{text.partition('/')[0]!r} is no provider; give PROVIDER/MODEL with one of openai, anthropic," in said
        assert f"or /{text} if that is the name of a model" in said
    assert records(line.redis_url) == before


def test_a_provider_without_its_slash_is_no_model(line: CommandLine) -> None:
    """It is the likeliest slip, and every request would ask for a model of that name."""
    [said] = line.refused(*SET_RULE, "--to", "groq")
    assert said == "--to 'groq': give groq/ to keep the model, or /groq if a model is called so"


def test_a_target_with_a_star_is_refused(line: CommandLine) -> None:
    """It would be asked for as it stands."""
    [said] = line.refused(*SET_RULE, "--to", "gpt-4o*")
    assert said.startswith("rule 'r': a target's model 'gpt-4o*' has a *")


def test_a_model_that_may_be_nowhere_is_warned_of(line: CommandLine) -> None:
    """It is stored as it was said, and what to add is said on stderr."""
    done = line.run(*SET_RULE, "--to", "/openai/gpt-oss-120b")
    assert (done.exit_code, done.stdout) == (0, "rule r of acme: any -> /openai/gpt-oss-120b\n")
    assert "goes to whatever provider the request was for" in done.stderr
    assert line.run(*SET_RULE, "--to", "/openai/gpt-oss-120b", "--provider", "groq").stderr == ""


def test_a_recommended_rule_stays_one(line: CommandLine) -> None:
    """An ordinary edit keeps the guard of reasoning, and lists show it; only who says so lifts it."""
    guarded = ("rule", "set", "acme", "guarded", "--feature", "guarded", "--to", "x", "--priority")
    shown = ", not task reasoning (recommended)"
    steps = ((), False), (("--recommended",), True), ((), True), (("--not-recommended",), False), ((), False)
    for options, kept in steps:
        for priority in ("7", "8"):
            said = line.said(*guarded, priority, *options)
            assert said == f"rule guarded of acme: feature guarded{shown if kept else ''} -> x\n"
        stored = next(one for one in records(line.redis_url)["acme"].rules if one.name == "guarded")
        assert (stored.recommended, stored.priority) == (kept, 8)
        listed = next(one for one in line.value("rule", "list", "acme") if one["name"] == "guarded")
        assert listed["recommended"] is kept
        assert (shown in line.said("rule", "list", "acme")) is kept


def test_a_rule_has_its_own_patience(line: CommandLine) -> None:
    """It is set, shown and tried with the rule; what is no such time is refused by its field."""
    command = (*SET_RULE, "--to", "gpt-4o-mini", "--failover", "groq/", "--first-byte-timeout-s")
    goes = "gpt-4o-mini, after 2.5 s without an answer, then groq/"
    assert line.said(*command, "2.5") == f"rule r of acme: any -> {goes}\n"
    asked = ("rule", "test", "acme", "--provider", "openai", "--model", "gpt-4o")
    assert line.said(*asked).startswith(f"rule r applies: it goes to {goes}\n")
    assert line.value(*asked)["rule"]["first_byte_timeout_s"] == 2.5
    for wrong in ("0", "601", "-1", "nan"):
        assert "first_byte_timeout_s" in line.refused(*command, wrong)[0]


def test_a_rule_is_tried_for_a_provider_that_there_is(line: CommandLine) -> None:
    """Another one is refused with those that there are."""
    [said] = line.refused("rule", "test", "acme", "--provider", "foo", "--model", "gpt-4o")
    assert said == "provider 'foo': one of openai, anthropic, groq, gemini, azure"


@pytest.mark.parametrize("command", ASKING)
def test_what_cannot_be_asked_is_not_done(line: CommandLine, command: tuple[str, ...]) -> None:
    """A script must say --yes before clients are refused or something is gone; the refusal says what would happen."""
    before = records(line.redis_url)
    for form in ((), ("--json",)):
        assert line.refused(*command, *form) == [
            f"{ASKING[command]} Nothing was done: there is no terminal to ask at; say --yes to do it"
        ]
    assert records(line.redis_url) == before
    line.said(*command, "--yes")
    assert records(line.redis_url) != before


def test_everything_that_takes_something_away_asks() -> None:
    """Every command of such a name has --yes; those that have it and are not of such a name are the two for files."""

    def leaves(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from leaves(command, (*path, name))
            else:
                yield (*path, name), command

    asking = {path for path, one in leaves(main, ()) if any("--yes" in option.opts for option in one.params)}
    assert asking == {command[:2] for command in ASKING} | {("apply",), ("import",)}
    named = {path for path, _ in leaves(main, ()) if re.match("remove|rotate|disable", path[-1])}
    # A rule that is off refuses nobody.
    assert named - asking == {("rule", "disable")}


def test_a_person_is_asked(line: CommandLine) -> None:
    """At a terminal; no is no, and nothing was done."""
    refused = at_a_terminal(line.redis_url, "n\n", "org", "disable", "acme")
    assert refused.returncode == 1
    assert "All clients of acme will be refused until it is enabled again. Go on? [y/N]" in refused.stderr
    assert records(line.redis_url)["acme"].enabled
    agreed = at_a_terminal(line.redis_url, "y\n", "org", "disable", "acme")
    assert agreed.returncode == 0, agreed.stderr
    assert not records(line.redis_url)["acme"].enabled


def test_a_question_is_no_part_of_what_a_program_reads(line: CommandLine) -> None:
    """A key that is shown once is all that standard output has, also where somebody was asked first."""
    done = at_a_terminal(line.redis_url, "y\n", "key", "rotate", "acme", "ci", "--json")
    assert json.loads(done.stdout)["key"].startswith("lc_key_")
    assert "Go on? [y/N]" in done.stderr


def test_a_key_that_could_not_be_shown_is_told_of(line: CommandLine) -> None:
    """Its only showing went nowhere: one line says so, and what to do."""
    command = python("dashboard", "key", "add", "acme", "lost")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, env=clean_environ(LECTR_REDIS_URL=line.redis_url), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "lectr: the key 'lost' of acme was made, but could not be written (No space left on device), and cannot be "
        "shown again; replace it with: key rotate acme lost\n"
    )


def test_without_standard_input_nothing_is_done(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some schedulers start commands; told as where there is no terminal."""
    monkeypatch.setattr("sys.stdin", None)
    with click.Context(main), pytest.raises(RegistryFault, match=r"^Gone\. Nothing was done: there is no terminal"):
        confirm("Gone.", yes=False)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("1e3", "1000"), ("250.00", "250.00"), ("+7", "7"), ("1E-2", "0.01"), ("6." + "0" * 30, "6." + "0" * 18)],
)
def test_amounts_are_kept_in_plain_notation(line: CommandLine, text: str, kept: str) -> None:
    """However they are typed, every door reads what is stored; zeros are kept where they fit."""
    line.said("budget", "set", "acme", "b", "--limit-usd", text)
    assert str(records(line.redis_url)["acme"].budgets[0].limit_usd) == kept
    line.said("price", "set", "acme", "groq", "m", "--input-usd", text, "--output-usd", text)
    [price] = records(line.redis_url)["acme"].prices
    assert (str(price.input_usd), str(price.output_usd)) == (kept, kept)
    assert line.said("budget", "list", "acme").splitlines()[1].split()[2] == kept


def test_a_burst_without_a_rate_is_refused(line: CommandLine) -> None:
    """It limits nothing: the fix is named. A key may have its rate from the organisation, which then keeps one."""
    burst = ("--burst-requests", "5")
    fix = "burst_requests 5 limits nothing without a rate: set requests_per_s as well, or leave it out"
    assert line.refused("limit", "set", "acme", *burst) == [fix]
    assert line.refused("limit", "set", "acme", "--key", "ci", *burst) == [fix]
    line.said("limit", "set", "acme", *burst, "--requests-per-s", "1")
    line.said("limit", "set", "acme", "--key", "ci", *burst)
    assert line.refused("limit", "set", "acme") == [f"key 'ci': {fix}"]
    [_, ci] = records(line.redis_url)["acme"].keys
    assert ci.limits == Limits(burst_requests=5)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "limits: {burst_requests: 5}",
            "limits: burst_requests 5 limits nothing without a rate: set requests_per_s as",
        ),
        (
            f"keys: [{{name: a, sha256: {ONE}, limits: {{burst_requests: 5}}}}]",
            "keys: key 'a': burst_requests 5 limits",
        ),
        ("rules: [{name: a, failover: [{model: 'gpt-4o*'}]}]", "rules: rule 'a': a target's model 'gpt-4o*' has a *"),
    ],
)
def test_a_file_says_no_less(line: CommandLine, section: str, said: str) -> None:
    """What a command refuses, a file that declares it is refused for."""
    [fault] = line.refused("apply", "-", text=f"orgs: {{acme: {{{section}}}}}")
    assert fault.startswith(f"-: orgs.acme.{said}")


def test_an_empty_target_is_a_fault() -> None:
    """Not the target that keeps everything as it is."""
    with pytest.raises(RegistryFault, match=r"^--to '': give a model, like gpt-4o-mini, or PROVIDER/MODEL$"):
        target("--to", "")


@pytest.mark.parametrize("said", ["include_usage, true or false", "stream_options: null", "Groq and Gemini"])
def test_help_says_whose_streams_are_left_alone(line: CommandLine, said: str) -> None:
    """What the gateway does not edit, in the words of the requests."""
    assert said in " ".join(line.said("org", "usage", "--help").split())
