"""Lectr on one machine: Redis, ClickHouse, migrations, gateway, ingestor, admin API, and mock providers for the demo.

In: a data directory and ports. Out: a running stack with an organisation, or one clear StackFault. Everything that was
started is stopped again, in the order that loses nothing.
"""

import asyncio
import fcntl
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from deploy.local.process import KILL_AFTER_S, Child, ChildFailed
from deploy.local.redis_server import find_server, server_command
from shared.environment import SecretUrl, SettingsFault, check_names

START_TIMEOUT_S: Final = 60.0
_AGAIN_S: Final = 0.5
ORG: Final = "local"


_DECIDED_HERE: Final = {
    "LECTR_LISTEN": "--port-base",
    "LECTR_OPS_LISTEN": "--port-base",
    "LECTR_STATE_DIR": "--data",
}
"""Settings of the single processes that the stack sets for each of them."""


class StackFault(Exception):
    """The stack cannot run; the text says why and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, all on 127.0.0.1."""

    gateway: int = 8080
    gateway_ops: int = 9090
    ingestor_ops: int = 9091
    clickhouse: int = 8123
    redis: int = 6380
    providers: int = 8090
    dashboard: int = 8081

    @classmethod
    def from_base(cls, base: int) -> Self:
        """Seven ports in a row."""
        return cls(*range(base, base + 7))


@dataclass
class Stack:
    """The running parts and how to reach them."""

    data_dir: Path
    ports: Ports
    environ: Mapping[str, str]
    demo: bool
    say: Callable[[str], None]
    children: dict[str, Child] = field(default_factory=dict)
    redis_url: str = ""
    key: str = ""
    key_is_new: bool = False
    admin_secret: str = ""
    _store_url: str = ""
    _lock: IO[str] | None = None

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway, without /v1."""
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def dashboard_url(self) -> str:
        """Base URL of the admin API."""
        return f"http://127.0.0.1:{self.ports.dashboard}"

    @property
    def clickhouse_url(self) -> str:
        """The ClickHouse HTTP interface, a password in it starred."""
        return str(SecretUrl(self._store_url)) if self._store_url else f"http://127.0.0.1:{self.ports.clickhouse}"

    async def start(self) -> None:
        """Start everything. Raises StackFault."""
        self._check_settings()
        self._take_data_dir()
        try:
            await self._redis()
            await self._clickhouse()
            await self._migrate()
            if self.demo:
                await self._providers()
            await self._ingestor()
            self.key = await self._organisation()
            await self._gateway()
            await self._dashboard()
        except ChildFailed as failure:
            raise StackFault(str(failure)) from None

    async def stop(self) -> None:
        """Stop what runs: first what makes events, last what keeps them."""
        for name in reversed(list(self.children)):
            await self.children.pop(name).stop()
        if self._lock is not None:
            self._lock.close()

    async def wait_for_end(self) -> None:
        """Return never, or raise StackFault when a part ends by itself."""
        ends = {asyncio.create_task(child.process.wait()): child for child in self.children.values()}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in ends:
                waiting.cancel()
        child = ends[done.pop()]
        raise StackFault(str(child.failure(f"ended by itself with exit code {child.process.returncode}")))

    def _check_settings(self) -> None:
        try:
            check_names(self.environ)
        except SettingsFault as fault:
            raise StackFault(str(fault)) from None
        for name, instead in _DECIDED_HERE.items():
            if self.environ.get(name):
                raise StackFault(f"{name}: the stack decides this itself; use {instead} instead")

    def _take_data_dir(self) -> None:
        try:
            for name in ("redis", "clickhouse", "gateway", "logs"):
                (self.data_dir / name).mkdir(parents=True, exist_ok=True)
            self._lock = (self.data_dir / "stack.lock").open("w")
        except OSError as error:
            raise StackFault(f"data directory {self.data_dir}: {error.strerror}; choose another with --data") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackFault(
                f"data directory {self.data_dir} is in use by another stack; stop it, or choose another with --data"
            ) from None

    async def _start(
        self, name: str, command: list[str], port: int, settings: Mapping[str, str], patience_s: float = KILL_AFTER_S
    ) -> Child:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise StackFault(
                    f"port {port} for {name}: {error.strerror}; stop what uses it (an earlier run may "
                    "have been killed), or move all ports with --port-base N"
                ) from None
        log = self.data_dir / "logs" / f"{name}.log"
        held = () if self._lock is None else (self._lock.fileno(),)
        child = await Child.start(name, command, {**self.environ, **settings}, log, patience_s=patience_s, held=held)
        self.children[name] = child
        return child

    async def _redis(self) -> None:
        self.redis_url = self.environ.get("LECTR_REDIS_URL", "")
        if self.redis_url:
            self.say("redis       yours, from LECTR_REDIS_URL")
            return
        binary = self._redis_binary()
        started = time.monotonic()
        command = server_command(binary, port=self.ports.redis, data_dir=self.data_dir / "redis")
        child = await self._start("redis", command, self.ports.redis, {})
        await child.line_with("Ready to accept connections", START_TIMEOUT_S)
        self.redis_url = f"redis://127.0.0.1:{self.ports.redis}/0"
        self._started("redis", f"{Path(binary).name} on port {self.ports.redis}", started)

    def _redis_binary(self) -> str:
        """The server to start: an older one cannot read what a newer one wrote, so whoever wrote the data goes on."""
        kept = self.data_dir / "redis.server"
        if kept.exists() and Path(binary := kept.read_text(encoding="utf-8")).is_file():
            return binary
        binary = find_server()
        kept.write_text(binary, encoding="utf-8")
        return binary

    async def _clickhouse(self) -> None:
        if given := self.environ.get("LECTR_CLICKHOUSE_URL", ""):
            self._store_url = given
            self.say("clickhouse  yours, from LECTR_CLICKHOUSE_URL")
            return
        started = time.monotonic()
        listen = f"127.0.0.1:{self.ports.clickhouse}"
        data = str(self.data_dir / "clickhouse")
        command = [sys.executable, "-m", "deploy.local.clickhouse", "--data", data, "--listen", listen]
        child = await self._start("clickhouse", command, self.ports.clickhouse, {})
        await child.line_with("listening on", START_TIMEOUT_S)
        self._started("clickhouse", self.clickhouse_url, started)

    async def _migrate(self) -> None:
        started = time.monotonic()
        settings = {**self.environ, **self._store_settings()}
        command = [sys.executable, "-m", "ingestor", "migrate"]
        child = await Child.start("migrate", command, settings, self.data_dir / "logs" / "migrate.log")
        self.children["migrate"] = child
        await child.succeed(START_TIMEOUT_S)
        del self.children["migrate"]
        self._started("migrate", "database lectr is up to date", started)

    def _store_settings(self) -> dict[str, str]:
        return {
            "LECTR_REDIS_URL": self.redis_url,
            "LECTR_CLICKHOUSE_URL": self._store_url or f"{self.clickhouse_url}/lectr",
        }

    async def _providers(self) -> None:
        started = time.monotonic()
        listen = f"127.0.0.1:{self.ports.providers}"
        command = [sys.executable, "-m", "deploy.local.providers", "--listen", listen, "--latency-ms", "120"]
        command += ["--jitter", "0.5", "--error-rate", "0.02"]
        child = await self._start("providers", command, self.ports.providers, {})
        await child.line_with("listening on", START_TIMEOUT_S)
        base = f"http://{listen}"
        self.environ = {
            "LECTR_UPSTREAM_OPENAI": f"{base}/openai/v1",
            "LECTR_UPSTREAM_ANTHROPIC": f"{base}/anthropic/v1",
            "LECTR_UPSTREAM_GROQ": f"{base}/groq/openai/v1",
            "LECTR_UPSTREAM_GEMINI": f"{base}/gemini/v1beta/openai",
            **self.environ,
        }
        self._started("providers", f"mock of five providers on {base}", started)

    async def _ingestor(self) -> None:
        started = time.monotonic()
        settings = {
            **self._store_settings(),
            "LECTR_OPS_LISTEN": f"127.0.0.1:{self.ports.ingestor_ops}",
            # Each start is a restart of Redis, after which an ingestor waits for as long as another could have owned.
            "LECTR_LEASE_MS": self.environ.get("LECTR_LEASE_MS", "3000"),
        }
        command = [sys.executable, "-m", "ingestor"]
        patience_s = _drain_s(self.environ.get("LECTR_DRAIN_TIMEOUT_S", ""))
        child = await self._start("ingestor", command, self.ports.ingestor_ops, settings, patience_s)
        await child.line_with("lectr ingestor", START_TIMEOUT_S)
        self._started("ingestor", f"probes on port {self.ports.ingestor_ops}", started)

    async def _gateway(self) -> None:
        started = time.monotonic()
        settings = {
            "LECTR_REDIS_URL": self.redis_url,
            "LECTR_LISTEN": f"127.0.0.1:{self.ports.gateway}",
            "LECTR_OPS_LISTEN": f"127.0.0.1:{self.ports.gateway_ops}",
            "LECTR_STATE_DIR": str(self.data_dir / "gateway"),
            "LECTR_DRAIN_TIMEOUT_S": self.environ.get("LECTR_DRAIN_TIMEOUT_S", "10"),
        }
        command = [sys.executable, "-m", "gateway"]
        patience_s = _drain_s(settings["LECTR_DRAIN_TIMEOUT_S"])
        child = await self._start("gateway", command, self.ports.gateway, settings, patience_s)
        await child.line_with("lectr gateway listening", START_TIMEOUT_S)
        self._started("gateway", self.gateway_url, started)

    async def _dashboard(self) -> None:
        started = time.monotonic()
        # Whoever sets one keeps it; it is not written to disk here.
        self.admin_secret = self.environ.get("LECTR_ADMIN_SECRET", "") or self._kept_secret()
        settings = {
            **self._store_settings(),
            "LECTR_LISTEN": f"127.0.0.1:{self.ports.dashboard}",
            "LECTR_ADMIN_SECRET": self.admin_secret,
        }
        command = [sys.executable, "-m", "dashboard", "serve"]
        child = await self._start("dashboard", command, self.ports.dashboard, settings)
        await child.line_with("lectr dashboard listening", START_TIMEOUT_S)
        self._started("dashboard", f"admin API on {self.dashboard_url}", started)

    def _kept_secret(self) -> str:
        """The laptop's admin secret, made at the first start."""
        kept = self.data_dir / "admin-secret"
        if kept.exists() and (secret := kept.read_text(encoding="utf-8").strip()):
            return secret
        secret = secrets.token_urlsafe(32)
        _write_private(kept, secret)
        return secret

    async def _organisation(self) -> str:
        """The laptop's organisation and its key, made at the first start and kept in a file only its owner can read.

        A declared registry has all organisations that there are: then none is made.
        """
        if file := self.environ.get("LECTR_REGISTRY_FILE", ""):
            self.say(f"registry    from {file}; keys are those that you made for it")
            return "YOUR-KEY"
        kept = self.data_dir / "key"
        orgs = json.loads(await self._organisations())
        exists = any(known["org"] == ORG for known in orgs)
        if exists and kept.exists():
            return kept.read_text(encoding="utf-8").strip()
        # Without its file the key is lost; without its organisation it opens nothing.
        command = ("rotate-key", ORG, "--yes") if exists else ("create", ORG)
        made = json.loads(await self._admin("org", *command, "--json"))
        key: str = made["key"]
        _write_private(kept, key)
        if self.demo:
            endpoint = f"http://127.0.0.1:{self.ports.providers}/azure"
            await self._admin("azure", "set", ORG, "--endpoint", endpoint, "--api-version", "2024-10-21", "--json")
        self.key_is_new = True
        return key

    async def _organisations(self) -> str:
        """All that there are, as JSON: of a Redis that is new, or lost its data, once the ingestor has looked at it."""
        deadline_s, said = time.monotonic() + START_TIMEOUT_S, ""
        while True:
            try:
                return await self._admin("org", "list", "--json")
            except StackFault as fault:
                if time.monotonic() > deadline_s:
                    raise
                if str(fault) != said:
                    said = str(fault)
                    self.say(f"registry    {said}")
                await asyncio.sleep(_AGAIN_S)

    async def _admin(self, *arguments: str) -> str:
        # Its output may hold a key, so it goes through a pipe and never into a log file.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dashboard", *arguments),
            # With the log to ask, as its ingestor may not have looked at this Redis yet.
            env={**self.environ, **self._store_settings()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise StackFault(errors.decode(errors="replace").strip().removeprefix("lectr: "))
        return output.decode()

    def _started(self, name: str, where: str, started: float) -> None:
        self.say(f"{name:<11} {where}  ({time.monotonic() - started:.1f} s)")


def _write_private(path: Path, text: str) -> None:
    """A file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")


def _drain_s(setting: str) -> float:
    """How long a process may take to stop: its drain, and what it cuts and ships then. It refuses bad values itself."""
    try:
        return KILL_AFTER_S + float(setting or KILL_AFTER_S)
    except ValueError:
        return KILL_AFTER_S
