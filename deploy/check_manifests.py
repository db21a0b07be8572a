"""Checks of what `deploy/` ships, without an engine or a cluster: `python -m deploy.check_manifests`.

In: a repository's Dockerfile, compose file and kustomize base. Out: one line per problem, exit code 1 if any.
It renders with `kubectl` and `docker compose` where they exist; it never builds, starts or contacts anything.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from shared.environment import KNOWN_NAMES, parse_listen, process_environment

Object = dict[str, Any]

REPOSITORY: Final = Path(__file__).resolve().parent.parent
KUBERNETES_VERSIONS: Final = ("1.30", kubernetes_validate.latest_version())
"""Oldest promised (preStop sleep is on by default from 1.30) and newest known."""

SECRET_NAMES: Final = frozenset({"LECTR_ADMIN_SECRET", "LECTR_CLICKHOUSE_URL", "LECTR_REDIS_URL"})
COMMANDS: Final = ("gateway", "ingestor", "dashboard")
INSTRUCTIONS: Final = frozenset({"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "STOPSIGNAL", "CMD"})
_INLINE_PASSWORD: Final = re.compile(r"://[^:/@\s]*:(?!\$\{)[^@/\s]+@")
_TOOL_TIMEOUT_S: Final = 60


def environment_problems(text: str) -> list[str]:
    """Names that the processes would refuse at start."""
    named = set(re.findall(r"\bLECTR_[A-Z0-9_]+", text))
    return [f"{name}: no such setting" for name in sorted(named - KNOWN_NAMES)]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Invented passwords stand in for deploy/.env: the compose file is only parsed.
    invented = dict.fromkeys(("REDIS_PASSWORD", "CLICKHOUSE_PASSWORD", "ADMIN_SECRET"), "x")
    environment = process_environment() | invented
    return subprocess.run(  # noqa: S603 - a tool found on PATH, fixed arguments
        command, check=False, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, env=environment
    )


def tag_problem(image: str) -> list[str]:
    """An image without a version, or with one that moves at will."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return [] if tag and tag != "latest" else [f"image {image}: no fixed tag"]


# Dockerfile


def parse_dockerfile(text: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order; comments dropped, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _is_exec_form(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), list)
    except ValueError:
        return False


def dockerfile_problems(text: str, dockerignore: str, root: Path) -> list[str]:
    """What is wrong with the image's recipe; `root` is the build context."""
    steps = parse_dockerfile(text)
    problems = [f"unknown instruction {word}" for word, _ in steps if word not in INSTRUCTIONS]
    starts = [index for index, (word, _) in enumerate(steps) if word == "FROM"]
    if len(starts) < 2 or starts[0] != 0:  # noqa: PLR2004 - one stage installs, one runs
        return [*problems, "not a multi-stage build"]
    problems += [
        f"{word} in shell form: {rest}" for word, rest in steps if word in {"RUN", "CMD"} and not _is_exec_form(rest)
    ]
    stages = []
    for index in starts:
        image, _, stage = steps[index][1].partition(" AS ")
        problems += tag_problem(image)
        stages.append(stage)
    final = steps[starts[-1] :]
    wanted = {
        "STOPSIGNAL SIGTERM": ("STOPSIGNAL", "SIGTERM") in final,
        "CMD for the gateway": ("CMD", '["python", "-m", "gateway"]') in final,
        "PYTHONUNBUFFERED=1": any(word == "ENV" and "PYTHONUNBUFFERED=1" in rest.split() for word, rest in final),
        "a numeric, non-root USER": re.fullmatch(
            r"[1-9]\d*:[1-9]\d*", next((rest for word, rest in reversed(final) if word == "USER"), "")
        ),
    }
    problems += [f"final stage lacks {what}" for what, there in wanted.items() if not there]
    installs = [rest for word, rest in steps if word == "RUN" and '"install"' in rest and "pip" in rest]
    if not installs or not all(flag in rest for rest in installs for flag in ("--require-hashes", "--no-cache-dir")):
        problems.append("pip install needs --require-hashes and --no-cache-dir")
    return problems + _copy_problems(steps, stages, dockerignore, root)


def _copy_problems(steps: list[tuple[str, str]], stages: list[str], dockerignore: str, root: Path) -> list[str]:
    patterns = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    problems = [] if patterns[:1] == ["*"] else [".dockerignore does not start from nothing (*)"]
    copies = [rest.split() for word, rest in steps if word == "COPY"]
    froms = {words[0].removeprefix("--from=") for words in copies if words[0].startswith("--from=")}
    problems += [f"COPY --from={stage}: no such stage" for stage in sorted(froms - set(stages))]
    copied = {source for words in copies if not words[0].startswith("--from=") for source in words[:-1]}
    allowed = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    expected = {"requirements.lock", "shared", *COMMANDS}
    if copied != expected:
        problems.append(f"the image copies {sorted(copied)}, not {sorted(expected)}")
    if allowed != expected:
        problems.append(f".dockerignore admits {sorted(allowed)}, not {sorted(expected)}")
    return problems + [
        f"COPY {source}: not in the repository" for source in sorted(copied) if not (root / source).exists()
    ]


def lock_problems(lock: str, dependencies: list[str]) -> list[str]:
    """A lock that pip would refuse (`--require-hashes`), or that an added dependency has outgrown."""
    text = re.sub(r"\\\n\s*", " ", lock)
    pins = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    loose = [pin.split()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin]
    missing = {_canonical(name) for name in dependencies} - {_canonical(pin) for pin in pins}
    problems = [f"requirements.lock: not pinned with hashes: {pin}" for pin in loose]
    return problems + [f"requirements.lock: {name} is missing" for name in sorted(missing)]


def _canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else requirement


# Kubernetes


def load_base(folder: Path) -> list[Object]:
    """The objects as the files have them; the base uses no transformers, so this is what kustomize renders."""
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    texts = [(folder / name).read_text() for name in listed]
    return [item for text in texts for item in yaml.safe_load_all(text) if item]


def render_base(folder: Path, kubectl: str) -> list[Object]:
    """The objects as kustomize renders them. Raises ValueError with kubectl's reason."""
    done = _run([kubectl, "kustomize", str(folder)])
    if done.returncode:
        raise ValueError(f"kubectl kustomize: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def name_of(item: Object) -> str:
    """`Kind/name`, as kubectl prints it."""
    return f"{item.get('kind')}/{item.get('metadata', {}).get('name')}"


def schema_problems(items: list[Object]) -> list[str]:
    """What the API server would refuse, in the oldest and newest version; unknown fields count."""
    problems = []
    for item in items:
        for version in KUBERNETES_VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                where = ".".join(map(str, getattr(error, "path", ())))
                problems.append(f"{name_of(item)}: Kubernetes {version}: {where}: {error.message}")
    return problems


def _containers(items: list[Object]) -> Iterator[tuple[Object, Object, Object]]:
    for item in items:
        if "template" in item.get("spec", {}):
            pod = item["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield item, pod, container


def _plain(container: Object) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}


def kubernetes_problems(items: list[Object], secret_keys: set[str], image: str) -> list[str]:
    """What the schema cannot know: health, draining, least privilege, secrets, and that the parts fit together."""
    problems = []
    for item, pod, container in _containers(items):
        found = [] if container.get("image") == image else [f"image {container.get('image')}, not {image}"]
        found += _privilege_problems(pod, container)
        found += _secret_problems(container, secret_keys)
        found += _command_problems(container)
        if item["kind"] == "Deployment":
            found += _health_problems(item, container)
            found += _drain_problems(pod, container)
        problems += [f"{name_of(item)}: {text}" for text in found]
    wrong = [item for item in items if "namespace" in item["metadata"] or item["kind"] == "Secret"]
    problems += [f"{name_of(item)}: the base holds no Secret and names no namespace" for item in wrong]
    return problems + _service_problems(items)


def _privilege_problems(pod: Object, container: Object) -> list[str]:
    outer, inner = pod.get("securityContext", {}), container.get("securityContext", {})
    wanted = {
        "runAsNonRoot": outer.get("runAsNonRoot") is True and outer.get("runAsUser", 0) > 0,
        "seccompProfile RuntimeDefault": outer.get("seccompProfile") == {"type": "RuntimeDefault"},
        "readOnlyRootFilesystem": inner.get("readOnlyRootFilesystem") is True,
        "allowPrivilegeEscalation: false": inner.get("allowPrivilegeEscalation") is False,
        "capabilities.drop: [ALL]": inner.get("capabilities") == {"drop": ["ALL"]},
        "automountServiceAccountToken: false": pod.get("automountServiceAccountToken") is False,
        # With links, a Service named lectr-… injects LECTR_… variables, which the settings refuse.
        "enableServiceLinks: false": pod.get("enableServiceLinks") is False,
        "memory limit": "memory" in container.get("resources", {}).get("limits", {}),
    }
    problems = [f"lacks {what}" for what, there in wanted.items() if not there]
    state = _plain(container).get("LECTR_STATE_DIR")
    mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    if state and state not in mounts:
        problems.append(f"LECTR_STATE_DIR={state} is not a mounted volume")
    return problems


def _secret_problems(container: Object, secret_keys: set[str]) -> list[str]:
    problems = []
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if entry["name"] in SECRET_NAMES and reference is None:
            problems.append(f"{entry['name']} does not come from a Secret")
        if reference and (reference["name"] != "lectr" or reference["key"] not in secret_keys):
            problems.append(f"{entry['name']}: no key {reference['key']} in secret.example.yaml")
    if _INLINE_PASSWORD.search(json.dumps(container)):
        problems.append("a password inline")
    return problems


def _command_problems(container: Object) -> list[str]:
    command = container.get("command", [])
    known = command[:2] == ["python", "-m"] and command[2:3] and command[2] in COMMANDS
    return [] if known else [f"command {command} is none of the image's"]


def _health_problems(item: Object, container: Object) -> list[str]:
    # The dashboard has one port for all.
    listen = _plain(container).get("LECTR_OPS_LISTEN") or _plain(container).get("LECTR_LISTEN", "0.0.0.0:0")
    _, port = parse_listen(listen, "LECTR_OPS_LISTEN")
    named = {entry["name"]: entry["containerPort"] for entry in container.get("ports", [])}
    problems = []
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        get = container.get(probe, {}).get("httpGet", {})
        if get.get("path") != path or named.get(get.get("port"), get.get("port")) != port:
            problems.append(f"{probe} is not {path} on the ops port {port}")
    annotations = item["spec"]["template"]["metadata"].get("annotations", {})
    scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}
    return problems + [
        f"annotation {key} is not {value}" for key, value in scrape.items() if annotations.get(key) != value
    ]


def _drain_problems(pod: Object, container: Object) -> list[str]:
    drain_s = _plain(container).get("LECTR_DRAIN_TIMEOUT_S")
    sleep_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if container.get("command", [])[-1:] == ["gateway"] and (drain_s is None or not sleep_s):
        return ["needs LECTR_DRAIN_TIMEOUT_S and a preStop sleep"]
    grace_s = pod.get("terminationGracePeriodSeconds", 30)
    if grace_s <= sleep_s + float(drain_s or 0):
        return [f"terminationGracePeriodSeconds {grace_s} is not above preStop {sleep_s} + drain {drain_s}"]
    return []


def _service_problems(items: list[Object]) -> list[str]:
    problems = []
    for service in (item for item in items if item["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        chosen = [
            c for i, _, c in _containers(items) if selector <= i["spec"]["template"]["metadata"]["labels"].items()
        ]
        if len(chosen) != 1:
            problems.append(f"{name_of(service)}: selects {len(chosen)} workloads")
            continue
        named = {entry["name"] for entry in chosen[0].get("ports", [])} - {"ops"}
        targets = [entry.get("targetPort") for entry in service["spec"]["ports"]]
        problems += [f"{name_of(service)}: targets {target}" for target in targets if target not in named]
    return problems


# Compose


def compose_problems(compose: Object, image: str, folder: Path) -> list[str]:
    """Structure of the compose file: health, order, limits, least privilege, secrets; `folder` is where it lies."""
    services = compose["services"]
    problems = []
    for name, service in services.items():
        found = _service_image_problems(service, image) if "build" in service else tag_problem(service["image"])
        found += _order_problems(service, services)
        found += _volume_problems(service, compose.get("volumes", {}), folder)
        if "mem_limit" not in service:
            found.append("lacks mem_limit")
        if service.get("restart") != "no" and not service.get("healthcheck", {}).get("test"):
            found.append("lacks a healthcheck")
        if _INLINE_PASSWORD.search(json.dumps(service)):
            found.append("a password inline")
        problems += [f"compose {name}: {text}" for text in found]
    return problems


def _service_image_problems(service: Object, image: str) -> list[str]:
    wanted = {"image": image, "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    problems = [f"lacks {key}: {value}" for key, value in wanted.items() if service.get(key) != value]
    problems += _command_problems({"command": service.get("entrypoint", service.get("command"))})
    if service.get("command", [])[-1:] == ["gateway"]:
        drain_s = service["environment"].get("LECTR_DRAIN_TIMEOUT_S")
        grace = re.fullmatch(r"(\d+)s", str(service.get("stop_grace_period", "")))
        if drain_s is None or grace is None or int(grace[1]) <= float(drain_s):
            problems.append(f"stop_grace_period (seconds, like 330s) is not above the drain of {drain_s}")
    return problems


def _order_problems(service: Object, services: Object) -> list[str]:
    problems = []
    for other, how in service.get("depends_on", {}).items():
        target, condition = services.get(other, {}), how["condition"]
        healthy = condition == "service_healthy" and "healthcheck" in target
        completed = condition == "service_completed_successfully" and target.get("restart") == "no"
        if not healthy and not completed:
            problems.append(f"depends_on {other}: {condition} cannot come true")
    return problems


def _volume_problems(service: Object, declared: Object, folder: Path) -> list[str]:
    problems = []
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        if source.startswith(".") and not (folder / source).is_file():
            problems.append(f"{source}: no such file")
        elif not source.startswith(".") and source not in declared:
            problems.append(f"volume {source} is not declared")
    return problems


def docker_compose_problems(path: Path, docker: str) -> list[str]:
    """The verdict of `docker compose config`, which needs no engine; nothing where the plugin is missing."""
    if _run([docker, "compose", "version"]).returncode:
        return []
    done = _run([docker, "compose", "--file", str(path), "config", "--quiet"])
    return [f"docker compose config: {done.stderr.strip()}"] if done.returncode else []


def check(root: Path, kubectl: str | None, docker: str | None) -> list[str]:
    """Every problem of the repository at `root`. A tool that is None is done without."""
    deploy = root / "deploy"
    base, compose_file, dockerfile = deploy / "kubernetes/base", deploy / "compose.yaml", deploy / "Dockerfile"
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    image = f"lectr:{project['version']}"

    problems = dockerfile_problems(dockerfile.read_text(), (root / ".dockerignore").read_text(), root)
    if (lock := root / "requirements.lock").is_file():
        problems += lock_problems(lock.read_text(), project["dependencies"])

    secret = yaml.safe_load((base / "secret.example.yaml").read_text())
    try:
        items = render_base(base, kubectl) if kubectl else load_base(base)
    except ValueError as error:
        return [*problems, str(error)]
    problems += schema_problems([*items, secret]) + kubernetes_problems(items, set(secret["stringData"]), image)
    problems += [
        f"secret.example.yaml: {key} looks real"
        for key, value in secret["stringData"].items()
        if "CHANGE_ME" not in value
    ]

    problems += compose_problems(yaml.safe_load(compose_file.read_text()), image, deploy)
    problems += docker_compose_problems(compose_file, docker) if docker else []

    for path in (dockerfile, compose_file, *sorted(base.glob("*.yaml"))):
        problems += [f"{path.relative_to(root)}: {text}" for text in environment_problems(path.read_text())]
    return problems


def main() -> int:
    """Check this repository; the exit code says whether it is sound."""
    kubectl, docker = shutil.which("kubectl"), shutil.which("docker")
    problems = check(REPOSITORY, kubectl, docker)
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    sys.stdout.write(
        f"deploy: {len(problems)} problems; kustomize base {'rendered' if kubectl else 'read without kubectl'}\n"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
