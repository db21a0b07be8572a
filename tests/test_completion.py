"""The shell completes commands, options and the names of organisations; and says nothing when Redis is away."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from click.testing import CliRunner

from dashboard.__main__ import main
from tests.declared_site import CommandLine
from tests.parts import ROOT, clean_environ, free_port, running, start_redis
from tests.registry_operator import Operator, mark_whole


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part, redis_url = start_redis(tmp_path_factory.mktemp("completion"))
    mark_whole(redis_url)
    with running(part):
        operator = Operator(redis_url)
        for name in ("acme", "acme-eu", "beta"):
            operator.create_org(name)
        operator.close()
        yield redis_url


def completed(url: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands to choose for the last of the words."""
    monkeypatch.setenv("LECTR_REDIS_URL", url)
    shell = BashComplete(main, {}, "lectr", "_LECTR_COMPLETE")
    return [item.value for item in shell.get_completions([*words[:-1]], words[-1])]


def silent_url() -> str:
    """Of a server that takes connections and never answers; it ends with the process."""
    server = socket.create_server(("127.0.0.1", 0))
    SERVERS.append(server)
    return f"redis://127.0.0.1:{server.getsockname()[1]}/0"


SERVERS: list[socket.socket] = []


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (("or",), ["org"]),
        (("org", "dis"), ["disable"]),
        (("org", "disable", ""), ["acme", "acme-eu", "beta"]),
        (("org", "disable", "acme"), ["acme", "acme-eu"]),
        (("key", "list", "b"), ["beta"]),
        (("rule", "set", "acme-"), ["acme-eu"]),
        (("export", "beta", "acm"), ["acme", "acme-eu"]),
        (("org", "disable", "nobody"), []),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("apply", "--pr"), ["--prune"]),
    ],
)
def test_what_is_completed(
    url: str, words: tuple[str, ...], choices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, options, and organisations by the beginning of their names."""
    assert completed(url, *words, monkeypatch=monkeypatch) == choices


@pytest.mark.parametrize("where", ["nowhere", "silent", "no address"])
def test_nothing_is_said_without_a_registry(
    where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No Redis, one that never answers, a setting that is none: no names, and no fault in a person's prompt."""
    urls = {"nowhere": f"redis://127.0.0.1:{free_port()}/0", "no address": "nonsense"}
    assert completed(urls.get(where) or silent_url(), "org", "disable", "", monkeypatch=monkeypatch) == []
    assert capfd.readouterr() == ("", "")
    for server in SERVERS:
        server.close()


@pytest.mark.parametrize(("shell", "kind"), [("bash", BashComplete), ("zsh", ZshComplete), ("fish", FishComplete)])
def test_the_scripts(shell: str, kind: type[click.shell_completion.ShellComplete]) -> None:
    """What the shell is to read, without Redis: it asks the installed command that printed it, or else the Python."""
    installed = CliRunner().invoke(main, ["completion", shell], prog_name="lectr").stdout
    assert installed == kind(main, {}, "lectr", "_LECTR_COMPLETE").source()
    line = CommandLine(f"redis://127.0.0.1:{free_port()}/0")
    script = line.said("completion", shell)
    command = f"{sys.executable} -m dashboard 2>/dev/null)"
    if shell == "bash":
        assert script == installed.replace("$1)", command)
    else:
        called = [row for row in installed.splitlines() if "_LECTR_COMPLETE=" in row]
        assert [row for row in script.splitlines() if command in row] == [
            row.replace("lectr)", command, 1) for row in called
        ]
        assert "$+commands[lectr]" not in script
    assert line.run("completion", "tcsh").exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize("how", ["installed", "alias", "function"])
def test_bash_completes(how: str, url: str, tmp_path: Path) -> None:
    """A bash that has read the script offers the organisations for the next word, whatever `lectr` is there."""
    python = f"{sys.executable} -m dashboard"
    if how == "installed":
        program = tmp_path / "lectr"
        program.write_text(f"#!{sys.executable}\nfrom dashboard.__main__ import main\nmain(prog_name='lectr')\n")
        program.chmod(0o755)
    made = {
        "installed": "",
        "alias": f"shopt -s expand_aliases\nalias lectr='{python}'\n",
        "function": f'lectr() {{ {python} "$@"; }}\n',
    }
    script = (
        f'{made[how]}eval "$(lectr completion bash)"; COMP_WORDS=(lectr org disable acm); COMP_CWORD=3; '
        '_lectr_completion lectr; printf "%s\\n" "${COMPREPLY[@]}"; complete -p lectr'
    )
    path = f"{tmp_path}{os.pathsep}{os.defpath}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=ROOT if how != "installed" else tmp_path,
        env=clean_environ(LECTR_REDIS_URL=url, PATH=path, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["acme", "acme-eu", "complete -o nosort -F _lectr_completion lectr"], done.stderr
