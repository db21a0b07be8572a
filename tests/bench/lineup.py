"""Who takes part: everything that is installed, started one after the other in front of one upstream."""

import contextlib
import importlib.metadata
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.installation import FEATURE, Installation, start_installation
from tests.bench.peers import litellm_version, portkey_version, start_litellm, start_portkey
from tests.bench.processes import Cores
from tests.bench.progress import say
from tests.bench.targets import Target, nginx_binary, start_bare, start_nginx, start_upstream
from tests.parts import Part

NAMES = ("direct", "nginx", "bare aiohttp", "lectr", "portkey", "litellm")


@dataclass
class Lineup:
    """The running targets, and what they are."""

    upstream: Part
    targets: list[Target] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    installation: Installation | None = None


@contextlib.contextmanager
def start_lineup(folder: Path, cores: Cores, wanted: set[str]) -> Iterator[Lineup]:
    """Start what is installed; `wanted` limits it (direct is always there, it costs nothing)."""
    names = {"direct", *(name for name in NAMES if not wanted or name.split()[0] in wanted)}
    with ExitStack() as parts:
        lineup = Lineup(parts.enter_context(start_upstream(folder, cores)))
        upstream = lineup.upstream.url_in("listening on")
        lineup.targets.append(Target("direct", upstream, effort=4))
        for name in NAMES[1:]:
            if name in names:
                say(f"starting {name}")
                _start(name, parts, folder / name.split()[0], cores, upstream, lineup)
        yield lineup


def _start(name: str, parts: ExitStack, folder: Path, cores: Cores, upstream: str, lineup: Lineup) -> None:
    versions = lineup.versions
    if name == "nginx":
        if binary := nginx_binary():
            lineup.targets.append(parts.enter_context(start_nginx(folder, cores, upstream)))
            done = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True)
            versions[name] = done.stderr.strip().rpartition("/")[2]
        else:
            versions[name] = "not installed (apt-get install nginx)"
    elif name == "bare aiohttp":
        lineup.targets.append(parts.enter_context(start_bare(folder, cores, upstream)))
        versions[name] = importlib.metadata.version("aiohttp")
    elif name == "lectr":
        installation = parts.enter_context(start_installation(folder, cores, upstream))
        gateway = installation.gateway
        fields = {"X-Lectr-Key": installation.key, "X-Lectr-Feature": FEATURE}
        lineup.installation = installation
        lineup.targets.append(
            Target("lectr", gateway.url, gateway.process.pid, fields=fields, installation=installation)
        )
    elif name == "portkey":
        versions[name] = portkey_version() or "not installed (make bench-peers)"
        if portkey_version():
            lineup.targets.append(parts.enter_context(start_portkey(folder, cores, upstream)))
    elif name == "litellm":
        versions[name] = litellm_version() or "not installed (make bench-peers)"
        if litellm_version():
            lineup.targets.append(parts.enter_context(start_litellm(folder, cores, upstream)))
