"""`make bench-peers`: other LLM gateways into .peers, so that `make bench` measures them too.

LiteLLM from PyPI (a venv of its own, several hundred MB), Portkey from npm (needs Node.js). Neither touches the
project's own environment.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable  # noqa: TC003 - one import more or less costs an installer nothing

from tests.bench.peers import LITELLM, PEERS, PORTKEY, PORTKEY_PACKAGE, litellm_version, portkey_version
from tests.parts import clean_environ

_OLDEST_NODE = 18
_OVERRIDES = {"@hono/node-server": "1.14.1"}
"""Portkey allows newer ones, but answers streams with 500 on them (its issue 1389): it gets what it works with."""


class NotInstalled(Exception):
    """What a person has to do first."""


def main() -> None:
    """Install what is asked for; exit 1 if one of them could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", default="", metavar="VERSION", help="default: the newest")
    parser.add_argument("--portkey", default="", metavar="VERSION", help="default: the newest")
    parser.add_argument("--only", choices=("litellm", "portkey"))
    args = parser.parse_args()
    steps: dict[str, Callable[[], str]] = {
        "portkey": lambda: install_portkey(args.portkey),
        "litellm": lambda: install_litellm(args.litellm),
    }
    failed = False
    PEERS.mkdir(exist_ok=True)
    for name, install in steps.items():
        if args.only in {None, name}:
            try:
                print(f"{name} {install()} is in .peers/{name}", flush=True)
            except NotInstalled as problem:
                print(f"{name} is not installed: {problem}", file=sys.stderr, flush=True)
                failed = True
    sys.exit(failed)


def install_litellm(version: str) -> str:
    """Into a venv of its own; its version."""
    print("litellm: several hundred MB, a few minutes ...", flush=True)
    python = LITELLM / "bin" / "python"
    if not python.exists():
        _run(
            [sys.executable, "-m", "venv", str(LITELLM)],
            "the venv could not be made (Debian: apt-get install python3-venv)",
        )
    wanted = "litellm[proxy]" + (f"=={version}" if version else "")
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--upgrade",
    ]
    _run([*command, wanted], "pip could not install it; its last lines above say why")
    return litellm_version() or _missing()


def install_portkey(version: str) -> str:
    """Into a folder of its own; its version."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotInstalled(
            f"it needs Node.js {_OLDEST_NODE} or newer with npm on PATH (Debian: apt-get install nodejs npm); "
            "then make bench-peers again"
        )
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(found.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise NotInstalled(f"it needs Node.js {_OLDEST_NODE} or newer, on PATH is {found}")
    print("portkey: about a minute ...", flush=True)
    shutil.rmtree(PORTKEY, ignore_errors=True)
    PORTKEY.mkdir()
    project = {"private": True, "dependencies": {PORTKEY_PACKAGE: version or "latest"}, "overrides": _OVERRIDES}
    (PORTKEY / "package.json").write_text(json.dumps(project))
    command = ["npm", "install", "--prefix", str(PORTKEY), "--no-fund", "--no-audit", "--omit=dev"]
    _run(command, "npm could not install it; its last lines above say why")
    return portkey_version() or _missing()


def _missing() -> str:
    raise NotInstalled(
        "the installer reported success, but the package is not there; delete its folder in .peers and try again"
    )


def _run(command: list[str], problem: str) -> None:
    """Run with its output shown as it comes: that is the progress."""
    if subprocess.run(command, env=clean_environ(), check=False).returncode:
        raise NotInstalled(problem)


if __name__ == "__main__":
    main()
