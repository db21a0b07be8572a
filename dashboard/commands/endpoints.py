"""`azure`, `base-url` and `credential`: where an organisation's requests go, and with what."""

import click

from dashboard import edits
from dashboard.commands.door import as_json, confirm, org_name, show, with_registry, yes
from dashboard.registry import Registry
from shared.registry import RegistryFault

_provider = click.argument("provider")


@click.group()
def azure() -> None:
    """Where an organisation's Azure OpenAI resources are."""


@azure.command("set")
@org_name
@click.option("--endpoint", required=True, help="Scheme and host: https://NAME.openai.azure.com")
@click.option("--api-version", default="", help="Like 2024-10-21; leave out for the v1 surface, which needs none.")
@click.option("--resource", default="default", show_default=True, help="Which one, where there are several.")
@click.option("--deployment", "deployments", multiple=True, help="MODEL=DEPLOYMENT, where the two differ; repeatable.")
@as_json
@with_registry
def set_azure(
    registry: Registry,
    *,
    name: str,
    endpoint: str,
    api_version: str,
    resource: str,
    deployments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Set an Azure resource of an organisation. A request goes to the one that has a deployment of its model."""
    edit = edits.set_azure(endpoint, api_version, resource, dict(map(_pair, deployments)))
    changed = registry.edit(name, edit, f"set azure resource {resource}")
    address = next(one.endpoint for one in changed.azure if one.name == resource)
    show(changed, as_json=as_json, text=f"{name} sends Azure traffic to {address}")


@azure.command("remove")
@org_name
@click.option("--resource", default="default", show_default=True, help="Which one, where there are several.")
@yes
@as_json
@with_registry
def remove_azure(registry: Registry, *, name: str, resource: str, yes: bool, as_json: bool) -> None:
    """Remove an Azure resource of an organisation."""
    confirm(f"Azure resource {resource!r} of {name} will be gone: no request will be sent there.", yes=yes)
    changed = registry.edit(name, edits.remove_azure(resource), f"remove azure resource {resource}")
    show(changed, as_json=as_json, text=f"azure resource {resource} of {name} is removed")


@click.group("base-url")
def base_url() -> None:
    """Where an organisation's requests to a provider go instead."""


@base_url.command("set")
@org_name
@_provider
@click.argument("url")
@as_json
@with_registry
def set_base_url(registry: Registry, *, name: str, provider: str, url: str, as_json: bool) -> None:
    """Set a base URL, up to and including its version path, like https://llm.example.com/v1."""
    changed = registry.edit(name, edits.set_base_url(provider, url), f"set base URL of {provider}")
    show(changed, as_json=as_json, text=f"{name} sends {provider} traffic to {changed.base_urls[provider]}")


@base_url.command("remove")
@org_name
@_provider
@yes
@as_json
@with_registry
def remove_base_url(registry: Registry, *, name: str, provider: str, yes: bool, as_json: bool) -> None:
    """Use the installation's own again."""
    confirm(f"Requests of {name} to {provider} will go where the installation sends them.", yes=yes)
    changed = registry.edit(name, edits.set_base_url(provider, None), f"remove base URL of {provider}")
    show(changed, as_json=as_json, text=f"{name} sends {provider} traffic where the installation does")


@click.group()
def credential() -> None:
    """Where gateways find an organisation's provider keys, for rules that send requests to another provider."""


@credential.command("set")
@org_name
@_provider
@click.argument("reference")
@as_json
@with_registry
def set_credential(registry: Registry, *, name: str, provider: str, reference: str, as_json: bool) -> None:
    """Set a reference: env:NAME or file:/path, looked up by each gateway. Never the key itself."""
    changed = registry.edit(name, edits.set_credential(provider, reference), f"set credential of {provider}")
    show(changed, as_json=as_json, text=f"{name} has a {provider} key at {reference}")


@credential.command("remove")
@org_name
@_provider
@yes
@as_json
@with_registry
def remove_credential(registry: Registry, *, name: str, provider: str, yes: bool, as_json: bool) -> None:
    """Remove a reference."""
    confirm(f"Rules of {name} will send nothing to {provider} any more.", yes=yes)
    changed = registry.edit(name, edits.set_credential(provider, None), f"remove credential of {provider}")
    show(changed, as_json=as_json, text=f"{name} has no {provider} key")


def _pair(text: str) -> tuple[str, str]:
    model, equals, deployment = text.partition("=")
    if not model or not equals or not deployment:
        raise RegistryFault(f"deployment {text!r}: give MODEL=DEPLOYMENT, like gpt-4o=team-chat")
    return model, deployment
