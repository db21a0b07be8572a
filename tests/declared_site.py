"""A registry on a real Redis, and the command line on it within this process, as a person would use it."""

import json
import os
import pty
import subprocess
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from dashboard.__main__ import main
from shared.organisation import Org
from tests.parts import ROOT, clean_environ, python
from tests.registry_operator import Operator


class CommandLine:
    """`python -m dashboard` with these settings."""

    def __init__(self, redis_url: str, **settings: str) -> None:
        self.redis_url = redis_url
        self.settings = {"LECTR_REDIS_URL": redis_url, **settings}

    def run(self, *arguments: str, text: str | None = None) -> Result:
        """Whatever comes of it; `text` is standard input."""
        return CliRunner(env=self.settings).invoke(main, arguments, input=text, catch_exceptions=False)

    def said(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        """What a command prints that says nothing on stderr."""
        done = self.run(*arguments, text=text)
        assert (done.exit_code, done.stderr) == (code, "")
        return done.stdout

    def value(self, *arguments: str, code: int = 0) -> Any:
        """The same with --json: one JSON value on one line."""
        [line] = self.said(*arguments, "--json", code=code).splitlines()
        return json.loads(line)

    def refused(self, *arguments: str, text: str | None = None) -> list[str]:
        """The lines on stderr of a command that is refused."""
        done = self.run(*arguments, text=text)
        assert (done.exit_code, done.stdout) == (2, "")
        lines = done.stderr.splitlines()
        assert lines
        assert all(line.startswith("lectr: ") for line in lines)
        return [line.removeprefix("lectr: ") for line in lines]


def records(redis_url: str) -> dict[str, Org]:
    """What the registry holds, by name; versions as they are."""
    operator = Operator(redis_url)
    try:
        return {org.org: org for org in operator.orgs()}
    finally:
        operator.close()


def unversioned(orgs: dict[str, Org]) -> list[Org]:
    return [msgspec.structs.replace(org, version=0) for org in orgs.values()]


def at_a_terminal(url: str, answer: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command whose standard input is a terminal, at which this is typed."""
    here, there = pty.openpty()
    try:
        os.write(here, answer.encode())
        command = python("dashboard", *arguments)
        environ = clean_environ(LECTR_REDIS_URL=url)
        return subprocess.run(
            command, cwd=ROOT, env=environ, stdin=there, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(here)
        os.close(there)
