"""The command line as a process: what it prints, what it stores, and one clear line when it cannot do a thing."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from shared.organisation import Azure
from shared.registry import CHANGES_CHANNEL, LOG_KEY, ORGS_KEY, VERSION_KEY, RegistryFault, decode_org, hash_key
from tests.parts import free_port, run_command, running, start_redis
from tests.registry_operator import Operator, empty, mark_whole

PASSWORD = "hunter2-velvet"
KEY = re.compile(r"lc_key_[A-Za-z0-9_-]{43,}")
ENDPOINT = "https://acme.openai.azure.com"


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, url = start_redis(tmp_path_factory.mktemp("cli"))
    with running(part):
        yield url


@pytest.fixture
def url(own_redis: str) -> str:
    """An empty registry."""
    empty(own_redis)
    return own_redis


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command("dashboard", *arguments, LECTR_REDIS_URL=url)


def text(url: str, *arguments: str) -> str:
    """A command that must succeed, and say nothing on stderr."""
    done = run(url, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def value(url: str, *arguments: str) -> Any:
    """The same with --json: exactly one JSON value on one line."""
    printed = text(url, *arguments, "--json")
    assert len(printed.splitlines()) == 1
    return json.loads(printed)


def refusal(url: str, *arguments: str) -> str:
    """A command that must fail: exit code 2, one line on stderr, nothing on stdout."""
    done = run(url, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("lectr: ")
    return lines[0]


def stored(url: str, *, current: bool = False) -> str:
    """Everything that Redis holds, keys and values, as one text; `current`: without what is on its way to the log."""
    with Redis.from_url(url, decode_responses=True) as client:
        read = {
            "hash": client.hgetall,
            "string": client.get,
            "stream": client.xrange,
            "zset": lambda key: client.zrange(key, 0, -1),
        }
        found = [f"{key}={read[client.type(key)](key)}" for key in client.scan_iter() if not current or key != LOG_KEY]
    assert found, "nothing is stored"
    return "\n".join(sorted(found))


def record(url: str, name: str) -> Any:
    with Redis.from_url(url) as client:
        data = client.hget(ORGS_KEY, name)
    assert data is not None
    return decode_org(data)


def test_commands_as_text(url: str) -> None:
    """Each command says in words what is now the case; a key is shown with the warning that it is shown once."""
    assert text(url, "org", "list") == "no organisations yet; create one with: org create NAME\n"
    created = text(url, "org", "create", "acme")
    assert re.search(r"^org +acme$", created, re.MULTILINE)
    assert len(KEY.findall(created)) == 1
    assert "cannot be shown again" in created
    rotated = text(url, "org", "rotate-key", "acme", "--yes")
    assert len(KEY.findall(rotated)) == 1
    assert KEY.findall(rotated) != KEY.findall(created)
    assert text(url, "org", "disable", "acme", "--yes") == "acme is disabled\n"
    assert text(url, "org", "enable", "acme") == "acme is enabled\n"
    assert text(url, "azure", "set", "acme", "--endpoint", ENDPOINT) == f"acme sends Azure traffic to {ENDPOINT}\n"
    assert text(url, "org", "usage", "acme", "ask", "--feature", "*") == "acme asks for the usage of: *\n"
    assert text(url, "org", "usage", "acme", "leave", "--feature", "*") == "acme asks for the usage of: no feature\n"
    text(url, "org", "create", "beta")
    text(url, "org", "disable", "beta", "--yes")
    assert [line.split() for line in text(url, "org", "list").splitlines()] == [
        ["org", "state", "keys", "rules", "azure"],
        ["acme", "enabled", "1", "0", ENDPOINT],
        ["beta", "disabled", "1", "0", "-"],
    ]


def test_commands_as_json(url: str) -> None:
    """Each command with --json prints one JSON value with the same facts."""
    assert value(url, "org", "list") == []
    created = value(url, "org", "create", "acme")
    assert (created["org"], created["name"]) == ("acme", "default")
    assert KEY.fullmatch(created["key"])
    rotated = value(url, "key", "rotate", "acme", "default", "--yes")
    assert record(url, "acme").keys[0].sha256 == hash_key(rotated["key"])
    rotated = value(url, "org", "rotate-key", "acme", "--yes")
    assert set(rotated) == {"org", "name", "key"}
    disabled = value(url, "org", "disable", "acme", "--yes")
    assert (disabled["org"], disabled["enabled"]) == ("acme", False)
    [key] = disabled["keys"]
    assert (key["name"], key["shown"]) == ("default", rotated["key"][:13])
    enabled = value(url, "org", "enable", "acme")
    assert enabled["enabled"] is True
    assert enabled["version"] > disabled["version"]
    azure = value(url, "azure", "set", "acme", "--endpoint", ENDPOINT + "/", "--api-version", "2024-10-21")
    assert azure["azure"] == [{"endpoint": ENDPOINT, "api_version": "2024-10-21"}]
    drained = value(url, "org", "on-disconnect", "acme", "drain", "--feature", "checkout")
    assert drained["drain_features"] == ["checkout"]
    assert value(url, "org", "list") == [drained]
    assert value(url, "org", "on-disconnect", "acme", "cancel", "--feature", "checkout").get("drain_features", []) == []
    assert value(url, "org", "usage", "acme", "ask", "--feature", "checkout")["usage_features"] == ["checkout"]
    assert value(url, "org", "usage", "acme", "leave", "--feature", "checkout").get("usage_features", []) == []


def test_a_key_is_shown_once_and_stored_nowhere(url: str) -> None:
    """Redis holds the hash of the current key alone, and no later command prints a key or a hash."""
    first = value(url, "org", "create", "acme")["key"]
    assert record(url, "acme").keys[0].sha256 == hash_key(first)
    second = value(url, "org", "rotate-key", "acme", "--yes")["key"]
    assert record(url, "acme").keys[0].sha256 == hash_key(second)
    assert not KEY.search(stored(url))
    assert hash_key(first) not in stored(url, current=True)
    for command in (
        ("org", "list"),
        ("org", "disable", "acme", "--yes"),
        ("azure", "set", "acme", "--endpoint", ENDPOINT),
    ):
        for printed in (text(url, *command), text(url, *command, "--json")):
            assert not KEY.search(printed)
            assert hash_key(second) not in printed


def test_changes_keep_what_they_do_not_name(url: str) -> None:
    """A rotation keeps Azure and the switch; a switch keeps the key; Azure keeps both."""
    value(url, "org", "create", "acme")
    value(url, "azure", "set", "acme", "--endpoint", ENDPOINT, "--api-version", "2024-10-21")
    value(url, "org", "disable", "acme", "--yes")
    key = value(url, "org", "rotate-key", "acme", "--yes")["key"]
    org = record(url, "acme")
    assert not org.enabled
    assert org.azure == (Azure(endpoint=ENDPOINT, api_version="2024-10-21"),)
    value(url, "azure", "set", "acme", "--endpoint", "https://other.openai.azure.com")
    value(url, "org", "enable", "acme")
    org = record(url, "acme")
    assert (org.enabled, org.keys[0].sha256) == (True, hash_key(key))
    assert org.azure == (Azure(endpoint="https://other.openai.azure.com"),), "an api-version is not left over"


def test_each_change_is_pushed(url: str) -> None:
    """A change is published as the record that is stored, with the version that the poll sees."""
    with Redis.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as changes:
        changes.subscribe(CHANGES_CHANNEL)
        changes.get_message(timeout=5)
        value(url, "org", "create", "acme")
        message = changes.get_message(timeout=5)
        assert message is not None
        assert message["data"] == client.hget(ORGS_KEY, "acme")
        assert int(client.get(VERSION_KEY) or 0) == decode_org(message["data"]).version


BAD_NAMES = ("", "Acme", "acme corp", "-acme", ".acme", "_acme", "a" * 64, "acme/eu", "acmé", "acme\n", "a'; DROP", "*")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_refused(url: str, name: str) -> None:
    """A name that URLs, SQL or files could misread is refused with the rule and an example, and nothing is stored."""
    registry = Operator(url)
    try:
        for change in (registry.create_org, registry.rotate_key):
            with pytest.raises(RegistryFault, match=r"^org name .*: use 1-63 of a-z 0-9 .*, like 'acme'"):
                change(name)
        assert registry.orgs() == []
    finally:
        registry.close()


@pytest.mark.parametrize("name", ["a", "0", "acme-eu.prod_2", "a" * 63])
def test_names_that_are_taken(url: str, name: str) -> None:
    """The shortest, the longest, and all kinds of characters of the rule."""
    assert value(url, "org", "create", name)["org"] == name


def test_refusals_name_the_field_and_the_fix(url: str) -> None:
    """A bad name, a taken name and an unknown organisation: one line each that says what to do; nothing changes."""
    assert "org name 'Acme Corp': use 1-63 of a-z" in refusal(url, "org", "create", "Acme Corp")
    assert "org name 'two\\nlines'" in refusal(url, "org", "rotate-key", "two\nlines", "--yes")
    key = value(url, "org", "create", "acme")["key"]
    before = stored(url)
    assert "org 'acme' exists; rotate its key with: org rotate-key acme" in refusal(url, "org", "create", "acme")
    for command in (("rotate-key", "--yes"), ("disable", "--yes"), ("enable",), ("disable", "--json", "--yes")):
        line = refusal(url, "org", command[0], "nobody", *command[1:])
        assert line == "lectr: org 'nobody' does not exist; create it with: org create nobody"
    assert "does not exist" in refusal(url, "azure", "set", "nobody", "--endpoint", ENDPOINT)
    assert stored(url) == before
    assert record(url, "acme").keys[0].sha256 == hash_key(key)


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "acme", "acme.openai.azure.com", "//acme.openai.azure.com", "https://", "https:///", "https://:443"),
        *("ftp://acme.openai.azure.com", "file:///etc/passwd", "javascript:alert(1)", "redis://acme"),
        *("http://acme.openai.azure.com", "http://10.0.0.1", "http://localhost.example.com", "http://127.0.0.1.nip.io"),
        *(f"https://user:{PASSWORD}@acme.openai.azure.com", f"https://{PASSWORD}@acme.openai.azure.com"),
        *(f"{ENDPOINT}?api-key={PASSWORD}", f"{ENDPOINT}#{PASSWORD}", f"{ENDPOINT}?", f"{ENDPOINT}#"),
        *(f"{ENDPOINT}/openai", f"{ENDPOINT}/openai/v1/", f"{ENDPOINT}/openai/deployments/gpt-4o", f"{ENDPOINT}/v1"),
        *("https://acme.openai.azure.com:port", "https://acme.openai.azure.com:99999", "https://[::1"),
        *(
            "https://ac me.openai.azure.com",
            f"{ENDPOINT}\r\nX-Evil: 1",
            f"{ENDPOINT}\t",
            f" {ENDPOINT}",
            f"{ENDPOINT} ",
        ),
        *("https://acme.openai.azure.com\\@evil.example", "https://acmé.openai.azure.com", f"{ENDPOINT}/%2e%2e/x"),
    ],
)
def test_endpoints_that_are_refused(url: str, endpoint: str) -> None:
    """What is no scheme and host, or would send the key elsewhere or in the clear, is refused; secrets not repeated."""
    registry = Operator(url)
    try:
        registry.create_org("acme")
        with pytest.raises(RegistryFault, match=r"^azure endpoint: [^\r\n]*$") as refused:
            registry.set_azure("acme", endpoint, "")
        assert PASSWORD not in str(refused.value)
        assert [org.azure for org in registry.orgs()] == [()]
    finally:
        registry.close()


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        (ENDPOINT, ENDPOINT),
        (f"{ENDPOINT}//", ENDPOINT),
        ("https://acme.cognitiveservices.azure.com", "https://acme.cognitiveservices.azure.com"),
        ("https://apim.example.com/team-a", "https://apim.example.com/team-a"),
        ("https://azure_proxy:8443", "https://azure_proxy:8443"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("http://localhost:9000/azure", "http://localhost:9000/azure"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_endpoints_that_are_taken(url: str, endpoint: str, kept: str) -> None:
    """Azure's own hosts, a proxy with a path, and plain http on this machine alone; no trailing slash is kept."""
    registry = Operator(url)
    try:
        registry.create_org("acme")
        assert registry.set_azure("acme", endpoint, "").azure == (Azure(endpoint=kept),)
    finally:
        registry.close()


@pytest.mark.parametrize("version", ["2024", "2024-10", "24-10-21", "2024-10-21-beta", "v1", "2024-10-21 ", "x&key=1"])
def test_api_versions_that_are_refused(url: str, version: str) -> None:
    """What is no date is refused by name and value, as it would become part of a URL."""
    text(url, "org", "create", "acme")
    line = refusal(url, "azure", "set", "acme", "--endpoint", ENDPOINT, "--api-version", version)
    assert f"azure api-version {version!r}: expected a date like 2024-10-21" in line


def test_an_endpoint_is_refused_in_one_line(url: str) -> None:
    """On the command line too; the option that is missing is named."""
    text(url, "org", "create", "acme")
    line = refusal(url, "azure", "set", "acme", "--endpoint", f"https://u:{PASSWORD}@acme.openai.azure.com")
    assert "like https://NAME.openai.azure.com" in line
    assert PASSWORD not in line
    missing = run(url, "azure", "set", "acme")
    assert missing.returncode == 2
    assert "--endpoint" in missing.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(("org", word, "acme") for word in ("create", "enable")),
        *(("org", word, "acme", "--yes") for word in ("rotate-key", "disable")),
        ("org", "list"),
        ("org", "list", "--json"),
        ("azure", "set", "acme", "--endpoint", ENDPOINT),
    ],
)
def test_redis_down(command: tuple[str, ...]) -> None:
    """Every command says where Redis should be and which variable to set, without the password."""
    url = f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0"
    line = refusal(url, *command)
    assert "does not answer" in line
    assert "redis://***@127.0.0.1:" in line
    assert "LECTR_REDIS_URL" in line
    assert PASSWORD not in line


def test_redis_that_wants_a_password(tmp_path: Path) -> None:
    """A Redis that refuses the password is told apart by its name in the one line; the password is not in it."""
    part, url = start_redis(tmp_path)
    mark_whole(url)
    with running(part), Redis.from_url(url) as client:
        client.config_set("requirepass", "the right one")
        line = refusal(url.replace("redis://", f"redis://:{PASSWORD}@"), "org", "list")
        assert "AuthenticationError" in line
        assert PASSWORD not in line


def test_a_broken_record_is_named(url: str) -> None:
    """A record that cannot be read is named by its organisation; the others can still be changed."""
    text(url, "org", "create", "acme")
    with Redis.from_url(url) as client:
        client.hset(ORGS_KEY, "broken", b'{"org": "\xff"}')
    assert "org 'broken': registry record unreadable" in refusal(url, "org", "list")
    assert "org 'broken': registry record unreadable" in refusal(url, "org", "disable", "broken", "--yes")
    assert text(url, "org", "disable", "acme", "--yes") == "acme is disabled\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ("org", "azure", "LECTR_REDIS_URL")),
        (("org",), ("create", "rotate-key", "disable", "enable", "list")),
        (("azure",), ("set",)),
        (("org", "create"), ("ORG", "--json", "once")),
        (("org", "rotate-key"), ("ORG", "--json", "once")),
        (("org", "disable"), ("ORG", "Refuse")),
        (("org", "enable"), ("ORG", "Serve")),
        (("org", "list"), ("--json",)),
        (("azure", "set"), ("ORG", "--endpoint", "--api-version", "https://NAME.openai.azure.com")),
    ],
)
def test_help(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Every command explains itself under -h and --help, without Redis."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    printed = text(nowhere, *command, "--help")
    assert not [word for word in words if word not in printed]
    assert text(nowhere, *command, "-h") == printed


@pytest.mark.parametrize(
    "command", [("orgs",), ("org", "delete", "acme"), ("org", "create"), ("org", "list", "--yaml")]
)
def test_wrong_usage(command: tuple[str, ...]) -> None:
    """A command, argument or option that does not exist: exit code 2, and usage instead of a traceback."""
    done = run("redis://127.0.0.1:1/0", *command)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: python -m dashboard")
    assert "Traceback" not in done.stderr
