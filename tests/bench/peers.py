"""Other LLM gateways, as `make bench-peers` installed them under .peers: LiteLLM and Portkey."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.bench.processes import Cores, on_core
from tests.bench.targets import Target, serves
from tests.parts import ROOT, Part, clean_environ, free_port, running, wait_until

PEERS = ROOT / ".peers"
LITELLM = PEERS / "litellm"
PORTKEY = PEERS / "portkey"
PORTKEY_PACKAGE = "@portkey-ai/gateway"
_START_S = 120.0
_LEVELS = (1, 5, 10, 20, 40, 80, 120, 160)

LITELLM_CONFIG = """\
model_list:
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {upstream}/v1
      api_key: sk-bench-0123456789
litellm_settings:
  telemetry: false
general_settings:
  master_key: sk-bench-0123456789
"""


def litellm_version() -> str | None:
    """What is installed, None if nothing is."""
    return next(
        (
            p.name.removesuffix(".dist-info").partition("-")[2]
            for p in LITELLM.glob("lib/python3*/site-packages/litellm-*.dist-info")
        ),
        None,
    )


def portkey_version() -> str | None:
    """What is installed, None if nothing is."""
    package = PORTKEY / "node_modules" / PORTKEY_PACKAGE / "package.json"
    return str(json.loads(package.read_text())["version"]) if package.exists() else None


def _wait(part: Part, port: int) -> None:
    def look() -> bool:
        assert part.process.poll() is None, f"{part.name} ended: {part.output[-2000:]}"
        return serves(port)

    wait_until(look, deadline_s=_START_S, every_s=0.2)


@contextlib.contextmanager
def start_litellm(folder: Path, cores: Cores, upstream_url: str) -> Iterator[Target]:
    """The proxy with one model, one worker and no database."""
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream_url))
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    # The price map stays the packaged one: a start must not depend on a download.
    environ = clean_environ(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR")
    with on_core(cores.gateway):
        part = Part("litellm", [*command, "--port", str(port), "--num_workers", "1"], environ, folder)
    with running(part):
        _wait(part, port)
        yield Target(
            "litellm",
            f"http://127.0.0.1:{port}",
            part.process.pid,
            exact=False,
            effort=0.04,
            most_streams=20,
            levels=_LEVELS,
        )


@contextlib.contextmanager
def start_portkey(folder: Path, cores: Cores, upstream_url: str) -> Iterator[Target]:
    """The gateway as its package starts it, without its console."""
    port = free_port()
    script = PORTKEY / "node_modules" / PORTKEY_PACKAGE / "build" / "start-server.js"
    command = ["node", str(script), "--headless", f"--port={port}"]
    with on_core(cores.gateway):
        part = Part("portkey", command, clean_environ(NODE_ENV="production"), folder)
    with running(part):
        _wait(part, port)
        fields = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream_url}/v1"}
        yield Target(
            "portkey",
            f"http://127.0.0.1:{port}",
            part.process.pid,
            fields=fields,
            exact=False,
            effort=0.2,
            levels=_LEVELS,
        )
