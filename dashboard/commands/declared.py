"""`plan`, `apply`, `import` and `export`: organisations declared in a file."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from dashboard.clickhouse import ClickHouse
from dashboard.commands.door import as_json, confirm, faults_told, with_registry, yes
from dashboard.commands.names import complete_org
from dashboard.commands.stop import Stop
from dashboard.declared.apply import apply as apply_declared
from dashboard.declared.file import declared_in, read_bytes
from dashboard.declared.plan import Change, Plan
from dashboard.declared.plan import plan as plan_declared
from dashboard.declared.records import Declared, document_of
from dashboard.declared.shut_out import shut_out_text
from dashboard.declared.text import write_json, write_yaml
from dashboard.read_only import RegistryReadOnly
from dashboard.registry import Registry
from dashboard.settings import Settings, load_settings
from shared.registry import RegistryFault

_MOST_NAMED: Final = 10
_PROGRESS_EVERY: Final = 1_000
_EXIT_CHANGES: Final = 3
_MARKS: Final = {"create": "+", "change": "~", "disable": "-"}
_DONE: Final = {"create": "created", "change": "changed", "disable": "disabled"}
_HEADER: Final = """\
# The organisations of a Lectr installation. Keys stand here by their hashes: no key can be found from one, and none is
# a secret. But the file tells who may do what, and where: it is not for strangers.
"""

_file = click.argument("path", metavar="[FILE]", required=False, type=click.Path(allow_dash=True))
_prune = click.option("--prune", is_flag=True, help="Disable organisations that the file does not declare.")


@click.command()
@_file
@_prune
@as_json
def plan(*, path: str | None, prune: bool, as_json: bool) -> None:
    """Say what `apply` would do. Exit code 0: nothing, 3: something, 2: a fault.

    FILE is YAML, JSON or TOML by its ending; - reads YAML or JSON from standard input; without it LECTR_REGISTRY_FILE,
    whose organisations are all that are served: with it --prune is understood.
    """
    with faults_told():
        settings = load_settings()
        declared = _declared(_path(path, settings))
        with _registry(settings, path) as registry:
            planned = plan_declared(declared.orgs, registry.orgs(), prune=prune or _is_all(path, settings))
        _show_plan(planned, as_json=as_json)
    if planned.changes:
        raise SystemExit(_EXIT_CHANGES)


@click.command()
@_file
@_prune
@yes
@as_json
def apply(*, path: str | None, prune: bool, yes: bool, as_json: bool) -> None:
    """Make the registry what a file declares.

    FILE is YAML, JSON or TOML by its ending; - reads YAML or JSON from standard input; without it LECTR_REGISTRY_FILE,
    whose organisations are all that are served: with it --prune is understood.
    """
    with faults_told():
        settings = load_settings()
        used = _path(path, settings)
        if settings.registry_file and not _same(used, settings.registry_file):
            raise RegistryReadOnly(settings.registry_file)
        _apply(settings, used, prune=prune or _is_all(used, settings), yes=yes, as_json=as_json)


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(allow_dash=True))
@yes
@as_json
def import_(*, path: str, yes: bool, as_json: bool) -> None:
    """Create or change the organisations of a file that `export` wrote. Others are left alone."""
    with faults_told():
        settings = load_settings()
        if settings.registry_file:
            raise RegistryReadOnly(settings.registry_file)
        _apply(settings, path, prune=False, yes=yes, as_json=as_json)


@click.command()
@click.argument("names", metavar="[ORG]...", nargs=-1, shell_complete=complete_org)
@click.option("--yaml", "form", flag_value="yaml", default="yaml", help="As YAML; so it is without this too.")
@click.option("--json", "form", flag_value="json", help="As one line of JSON.")
@with_registry
def export(registry: Registry, *, names: tuple[str, ...], form: str) -> None:
    """Write organisations, all or these, as a file for `plan`, `apply` and `import`.

    Keys are written by their hashes, which are no secrets; what else stands there is not for strangers.
    """
    orgs = [registry.org(name) for name in dict.fromkeys(names)] if names else registry.orgs()
    document = document_of(orgs)
    click.echo(write_json(document) if form == "json" else _HEADER + write_yaml(document), nl=form == "json")


def _apply(settings: Settings, path: str, *, prune: bool, yes: bool, as_json: bool) -> None:
    declared, stop = _declared(path), Stop()

    def approve(planned: Plan, made: int) -> None:
        stop.forget()
        if not as_json:
            _show_plan(planned, as_json=False)
        if shut_out := shut_out_text(planned.changes):
            confirm(shut_out, yes=yes, done=f"{made} changes were made before" if made else "Nothing was done")
        stop.listen()

    def go_on(made: int, of: int) -> None:
        _progress(made, of)
        if stop.told and made < of:
            raise RegistryFault(f"stopped after {made} of {of} changes; the same command goes on")

    with _registry(settings, path) as registry, contextlib.ExitStack() as ends:
        ends.callback(stop.forget)
        made = apply_declared(registry, declared.orgs, prune=prune, approve=approve, progress=go_on)
    if as_json:
        click.echo(json.dumps({"changes": [_shown(change) for change in made]}))
    else:
        counts = {doing: sum(change.doing == doing for change in made) for doing in _DONE}
        said = ", ".join(f"{count} {_DONE[doing]}" for doing, count in counts.items() if count)
        click.echo(f"done: {said or 'nothing was to do'}")


def _path(path: str | None, settings: Settings) -> str:
    if path is None and not settings.registry_file:
        raise RegistryFault("FILE: name the file that declares the organisations, or set LECTR_REGISTRY_FILE")
    return path or settings.registry_file


def _is_all(path: str | None, settings: Settings) -> bool:
    """Whether it is the file that `dashboard serve` keeps the registry by, which disables what it does not declare."""
    return bool(settings.registry_file) and _same(_path(path, settings), settings.registry_file)


def _same(path: str, other: str) -> bool:
    if path == other:
        return True
    try:
        return Path(path).samefile(other)
    except OSError:
        return False


@contextlib.contextmanager
def _registry(settings: Settings, path: str | None) -> Iterator[Registry]:
    """For what the file declares, which the log of changes then names."""
    name = Path(path or settings.registry_file).name
    clickhouse = ClickHouse.of(settings.clickhouse_url)
    with contextlib.closing(Registry(settings.redis_url, actor=f"file:{name}", clickhouse=clickhouse)) as registry:
        yield registry


def _declared(path: str) -> Declared:
    declared = declared_in(read_bytes(path), path)
    for warning in declared.warnings[:_MOST_NAMED]:
        click.echo(f"lectr: {warning}", err=True)
    if len(declared.warnings) > _MOST_NAMED:
        click.echo(f"lectr: {path}: and {len(declared.warnings) - _MOST_NAMED} warnings more", err=True)
    return declared


def _progress(made: int, of: int) -> None:
    if made % _PROGRESS_EVERY == 0 and made < of:
        click.echo(f"lectr: {made} of {of} done", err=True)


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        shown = {
            "changes": [_shown(change) for change in planned.changes],
            "unchanged": planned.unchanged,
            "undeclared": planned.undeclared,
        }
        click.echo(json.dumps(shown))
        return
    for change in planned.changes:
        because = ", which the file does not declare" if change.doing == "disable" else ""
        click.echo(f"{_MARKS[change.doing]} {change.doing} {change.org}{because}{_made_of(change)}")
        for field in change.fields:
            click.echo(f"    {field.field}: {_told(field.old)} -> {_told(field.new)}")
    counts = {doing: sum(change.doing == doing for change in planned.changes) for doing in _MARKS}
    said = [f"{count} to {doing}" for doing, count in counts.items()]
    said += [f"{len(planned.unchanged)} unchanged", f"{len(planned.undeclared)} not declared and left alone"]
    click.echo(", ".join(said))


def _made_of(change: Change) -> str:
    if change.doing != "create":
        return ""
    parts = [f"{field}: {len(getattr(change.wanted, field))}" for field in ("keys", "rules", "budgets")]
    return f" ({', '.join(parts)}{'' if change.wanted.enabled else ', disabled'})"


def _shown(change: Change) -> dict[str, Any]:
    return {"org": change.org, "change": change.doing, "fields": msgspec.to_builtins(change.fields)}


def _told(value: str | None) -> str:
    return "not set" if value is None else value
