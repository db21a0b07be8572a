"""With LECTR_REGISTRY_FILE organisations are changed in that file, and through no other door."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboard.__main__ import main
from tests.declared_site import CommandLine, records
from tests.parts import running, start_redis
from tests.registry_operator import mark_whole

FILE = "orgs: {acme: {limits: {requests_per_s: 5}}, beta: {}}"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    part, redis_url = start_redis(tmp_path / "redis")
    mark_whole(redis_url)
    with running(part):
        yield redis_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "orgs.yaml"
    made.write_text(FILE)
    return made


READING = {
    ("org", "list"),
    ("org", "show", "acme"),
    ("key", "list", "acme"),
    ("key", "new"),
    ("rule", "list", "acme"),
    ("rule", "test", "acme", "--provider", "openai", "--model", "x"),
    ("budget", "list", "acme"),
    ("price", "list", "acme"),
    ("plan",),
    ("plan", "elsewhere.yaml"),
    ("export",),
    ("completion", "bash"),
    ("serve", "--print-settings"),
}
CHANGING = {
    ("org", "create", "new"),
    ("org", "rotate-key", "acme"),
    ("org", "disable", "acme"),
    ("org", "enable", "acme"),
    ("org", "on-disconnect", "acme", "drain", "--feature", "*"),
    ("org", "usage", "acme", "ask", "--feature", "*"),
    ("key", "add", "acme", "more"),
    ("key", "rotate", "acme", "default"),
    ("key", "disable", "acme", "default"),
    ("key", "enable", "acme", "default"),
    ("key", "remove", "acme", "default"),
    ("rule", "set", "acme", "a", "--to", "x"),
    ("rule", "enable", "acme", "a"),
    ("rule", "disable", "acme", "a"),
    ("rule", "remove", "acme", "a"),
    ("limit", "set", "acme"),
    ("budget", "set", "acme", "a", "--limit-usd", "1"),
    ("budget", "remove", "acme", "a"),
    ("price", "set", "acme", "groq", "x", "--input-usd", "1", "--output-usd", "1"),
    ("price", "remove", "acme", "groq", "x"),
    ("azure", "set", "acme", "--endpoint", "https://a.example"),
    ("azure", "remove", "acme"),
    ("base-url", "set", "acme", "groq", "https://a.example"),
    ("base-url", "remove", "acme", "groq"),
    ("credential", "set", "acme", "groq", "env:A"),
    ("credential", "remove", "acme", "groq"),
    ("import", "elsewhere.yaml"),
    ("apply", "elsewhere.yaml"),
}

ELSEWHERE = {("serve",), ("audit",)}
"""The HTTP API has its own way to refuse, and its own tests of it; the log of changes is read from ClickHouse."""


def test_where_a_file_declares_nothing_else_changes(url: str, file: Path, tmp_path: Path) -> None:
    """With LECTR_REGISTRY_FILE every command that changes something names that file instead; reading goes on."""
    line = CommandLine(url, LECTR_REGISTRY_FILE=str(file), LECTR_ADMIN_SECRET="velvet-harbour-admin")
    assert "2 to create" in line.said("plan", code=3)
    assert line.said("apply", "--prune").endswith("done: 2 created\n")
    before = records(url)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(FILE)
    at = {"elsewhere.yaml": str(elsewhere)}
    for command in CHANGING:
        assert line.refused(*(at.get(word, word) for word in command)) == [
            f"organisations are declared in '{file}' (LECTR_REGISTRY_FILE): change them there"
        ], command
    for command in READING:
        assert line.run(*(at.get(word, word) for word in command)).exit_code == 0, command
    assert records(url) == before
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    assert line.said("apply", str(link)) == "done: nothing was to do\n"


def test_every_command_reads_or_changes() -> None:
    """No command is missing from the two lists that the test above goes through."""

    def leaves(group: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from leaves(command, (*path, name))
            else:
                yield (*path, name)

    listed = READING | CHANGING | ELSEWHERE
    assert [path for path in leaves(main, ()) if not any(command[: len(path)] == path for command in listed)] == []
