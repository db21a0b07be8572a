"""The doors between rooms, read from the syntax tree: who may import what, how long files are, what tests state."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "ingestor", "shared", "dashboard", "deploy")
MAX_LINES = 400

FORBIDDEN_PACKAGES = {
    "gateway": {"ingestor", "dashboard", "deploy", "tests"},
    "ingestor": {"gateway", "dashboard", "deploy", "tests"},
    "dashboard": {"gateway", "ingestor", "deploy", "tests"},
    "shared": {"gateway", "ingestor", "dashboard", "deploy", "tests"},
    "deploy": {"gateway", "ingestor", "dashboard", "tests"},
}
SHARED_MAY_IMPORT = {"msgspec", "shared"}
SHARED_WRAPPERS = {
    "shared/counters.py": {"prometheus_client"},
    "shared/request_totals.py": {"prometheus_client"},
    "shared/logs.py": {"structlog"},
    "shared/redis_client.py": {"redis"},
}
PURE_ROOMS = (
    "dashboard/api/answer_bodies.py",
    "dashboard/api/calls.py",
    "dashboard/api/clickhouse_bodies.py",
    "dashboard/api/declaration_bodies.py",
    "dashboard/api/faults.py",
    "dashboard/api/malformed.py",
    "dashboard/api/openapi.py",
    "dashboard/api/operation.py",
    "dashboard/api/operations.py",
    "dashboard/api/request_bodies.py",
    "dashboard/api/translation.py",
    "dashboard/checks.py",
    "dashboard/edits.py",
    "dashboard/records.py",
    "dashboard/rule_guard.py",
    "dashboard/commands/targets.py",
    "dashboard/validation.py",
    "dashboard/commands/values.py",
    "gateway/detection.py",
    "gateway/routes.py",
    "shared/rule_index.py",
    "shared/rules.py",
    "gateway/providers.py",
    "gateway/headers.py",
    "gateway/request_body.py",
    "gateway/multipart.py",
    "gateway/model_edit.py",
    "gateway/form_edit.py",
    "gateway/exchange.py",
    "gateway/auth.py",
    "gateway/limits.py",
    "gateway/budgets.py",
    "gateway/transport/head.py",
    "gateway/transport/framing.py",
    "gateway/usage/*.py",
    "gateway/usage_request.py",
    "gateway/usage_strip.py",
    "ingestor/batch.py",
    "ingestor/costs.py",
    "ingestor/fields.py",
    "ingestor/marks.py",
    "ingestor/native.py",
    "ingestor/org_prices.py",
    "ingestor/rows.py",
    "dashboard/declared/values.py",
    "dashboard/declared/text.py",
    "dashboard/declared/yaml_text.py",
    "dashboard/declared/faults.py",
    "dashboard/declared/checks.py",
    "dashboard/declared/records.py",
    "dashboard/declared/differences.py",
    "dashboard/declared/plan.py",
    "dashboard/declared/shut_out.py",
    "shared/event.py",
    "shared/stream.py",
)
IMPURE = {"asyncio", "time", "os", "socket", "threading", "subprocess", "shared.clock", "aiohttp", "redis"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> Iterator[str]:
    """Full dotted names of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_do_not_reach_into_each_other(package: str) -> None:
    """gateway, ingestor and dashboard never import each other, and nothing of the product imports deploy or tests."""
    found = {name_of(path): tops_of(path) & FORBIDDEN_PACKAGES[package] for path in sources(package)}
    assert {path: names for path, names in found.items() if names} == {}
    assert found, "no source files seen"


def test_shared_imports_little() -> None:
    """Shared rests on the standard library and msgspec; four rooms wrap a library."""
    allowed = SHARED_MAY_IMPORT | set(sys.stdlib_module_names)
    found = {
        name_of(path): tops_of(path) - allowed - SHARED_WRAPPERS.get(name_of(path), set()) for path in sources("shared")
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_redis_has_one_door() -> None:
    """The driver is imported in one room alone, which opens clients for everybody."""
    users = {
        name_of(path) for path in sources("gateway", "ingestor", "shared", "dashboard") if "redis" in tops_of(path)
    }
    assert users == {"shared/redis_client.py"}


def test_pure_rooms_do_no_io() -> None:
    """Rooms that decide import neither the event loop, nor the clock, nor the system."""
    paths = [path for pattern in PURE_ROOMS for path in ROOT.glob(pattern)]
    found = {name_of(path): set(imports_of(path)) & IMPURE for path in paths}
    assert {path: names for path, names in found.items() if names} == {}
    assert {name_of(path) for path in paths} >= {pattern for pattern in PURE_ROOMS if "*" not in pattern}


def test_the_transport_has_one_door() -> None:
    """Only gateway/upstream.py reaches into gateway/transport, and nothing in there knows of the rooms before it."""
    users = {
        name_of(path)
        for path in sources("gateway")
        if path.parent.name != "transport" and any(name.startswith("gateway.transport") for name in imports_of(path))
    }
    assert users == {"gateway/upstream.py"}
    allowed = ("gateway.transport", "gateway.faults")
    inside = {
        name
        for path in (ROOT / "gateway/transport").glob("*.py")
        for name in imports_of(path)
        if name.startswith("gateway.") and not name.startswith(allowed)
    }
    assert inside == set()


def test_environment_is_read_in_one_place() -> None:
    """os.environ and os.getenv appear in shared/environment.py alone."""
    users = {
        name_of(path)
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
    }
    assert users == {"shared/environment.py"}


def test_everything_is_packaged() -> None:
    """Every package is listed for installation, and so is every file that is no Python and is read at run time."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        tool = tomllib.load(file)["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert {folder.as_posix().replace("/", ".") for folder in folders} == set(tool["packages"])
    covered = {
        path
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    data = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".lua", ".toml", ".sql"} and path.is_file()
    }
    assert sorted(name_of(path) for path in data - covered) == []
    # A file is installed with the nearest package above it.
    assert {path.parent.relative_to(ROOT) for path in data} <= folders
    assert {path.suffix for path in data} == {".lua", ".toml", ".sql"}, "no such files seen"


def test_files_stay_small() -> None:
    """No source file is longer than 400 lines."""
    long = {name_of(p): n for p in sources(*PACKAGES, "tests") if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_every_test_states_its_promise() -> None:
    """Each test function has a docstring, and none of them sleeps."""
    silent, sleepy = [], []
    for path in sources("tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                if not ast.get_docstring(node):
                    silent.append(f"{name_of(path)}::{node.name}")
                calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
                if {"time.sleep", "asyncio.sleep"} & set(calls):
                    sleepy.append(f"{name_of(path)}::{node.name}")
    assert silent == []
    assert sleepy == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_module_imports_alone(package: str) -> None:
    """Every module can be imported first, in a fresh interpreter, without circles."""
    modules = [
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in sources(package)
        if path.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    for loaded in [m for m in sys.modules if m.partition('.')[0] in "
        f"{PACKAGES!r} and m != 'shared.counters']:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
