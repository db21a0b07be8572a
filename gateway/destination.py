"""Where a request goes: the provider, its origin, the request target and the header lines to send. Pure.

In: the client's head and target, the body's model, the organisation. Out: a Destination. Decided once for as long as a
connection repeats its head, target and model.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.detection import detect, has_google_key
from gateway.faults import AzureConfigMissing, Fault, ProviderUnreachable, UnknownPath
from gateway.headers import upstream_headers
from gateway.request_body import model_in_path, path_streams
from gateway.routes import request_target
from gateway.upstream import Origin, origin_of

if TYPE_CHECKING:
    from gateway.client_head import ClientHead
    from gateway.headers import RequestFields
    from gateway.providers import Catalogue
    from shared.organisation import Azure, Org

_MOST_REMEMBERED: Final = 8
"""Per head: a client asks few endpoints for few models."""
_LONGEST_REMEMBERED: Final = 256
"""Characters of a target and of a model's name; clients choose them."""


class Way(msgspec.Struct, frozen=True):
    """What is sent where: request target and header lines, all but the value of Content-Length."""

    origin: Origin
    target: bytes
    lines_before: bytes
    """Header lines, each with its CRLF before it, up to the value of Content-Length; all of them if there is none."""
    lines_after: bytes


class Destination(msgspec.Struct, frozen=True):
    """One decision, whether it leads anywhere or not."""

    provider: str
    provider_source: str
    marks: tuple[str, ...]
    model: str
    """The model that was asked for."""
    streams: bool
    """Whether the path itself asks for a stream."""
    way: Way | Fault
    """AzureConfigMissing, UnknownPath or ProviderUnreachable where there is none."""


class Router:
    """Decides by the catalogue of models and the providers' bases."""

    def __init__(self, catalogue: "Catalogue", bases: Mapping[str, str]) -> None:
        self._catalogue = catalogue
        self._bases = bases

    def destination(self, head: "ClientHead", target: str, body_model: str, org: "Org") -> Destination:
        """Where this request goes."""
        key = (target, body_model, org.org, org.version)
        known = head.destinations.get(key)
        if known is not None:
            return known
        decided = self._decide(head, target, body_model, org)
        if (
            isinstance(decided.way, Way)
            and len(target) <= _LONGEST_REMEMBERED
            and len(body_model) <= _LONGEST_REMEMBERED
        ):
            if len(head.destinations) >= _MOST_REMEMBERED:
                head.destinations.clear()
            head.destinations[key] = decided
        return decided

    def _decide(self, head: "ClientHead", target: str, body_model: str, org: "Org") -> Destination:
        path, _, query = target.partition("?")
        # An Azure deployment stands in the path; the body's model may then be any text.
        model = model_in_path(target) or body_model
        found = detect(
            self._catalogue,
            provider_header=head.provider_header,
            path=path,
            query=query,
            headers=head.headers,
            model=model,
        )
        return Destination(
            provider=found.provider,
            provider_source=found.provider_source,
            marks=found.marks,
            model=model,
            streams=path_streams(target),
            way=self.way(found.provider, head.fields, head=head, target=target, model=model, org=org),
        )

    def way(
        self, provider: str, sent: "RequestFields", *, head: "ClientHead", target: str, model: str, org: "Org"
    ) -> Way | Fault:
        """What is sent to a provider: these fields, as that provider reads them; the fault where there is no way."""
        azure = azure_of(org, model) if provider == "azure" else None
        if provider == "azure" and azure is None:
            return AzureConfigMissing(
                f"organisation {org.org} has no Azure endpoint; set one with: azure set {org.org} --endpoint https://…"
            )
        url = request_target(
            provider,
            target,
            _bases_of(org, self._bases),
            azure,
            model=model,
            google_key=has_google_key(head.headers, target.partition("?")[2]),
        )
        if url is None:
            return UnknownPath(
                "no provider has this path; use /v1/… or a provider SDK's own path, and base_url '<gateway>/v1'"
            )
        try:
            origin, asked = origin_of(url)
        except ValueError:
            return _no_address(provider, org)
        azure_claude = provider == "azure" and "/anthropic/" in url
        fields = upstream_headers(sent, provider, origin.netloc, azure_claude=azure_claude)
        before, after = _around_length(fields) if head.has_length else (_lines(fields), b"")
        return Way(origin, asked, before, after)


def _no_address(provider: str, org: "Org") -> Fault:
    """What an operator set is none; whatever it is, it is not shown to a client."""
    if provider == "azure":
        return AzureConfigMissing(
            f"the Azure endpoint of organisation {org.org} is no URL; set it anew with: azure set {org.org} --endpoint"
            " https://…"
        )
    return ProviderUnreachable(
        f"the base URL of organisation {org.org} for {provider} is no URL; set it anew with: base-url set {org.org}"
        f" {provider} https://…"
    )


def _bases_of(org: "Org", bases: Mapping[str, str]) -> Mapping[str, str]:
    return {provider: org.base_urls.get(provider, base) for provider, base in bases.items()} if org.base_urls else bases


def azure_of(org: "Org", model: str) -> "Azure | None":
    """The resource that has a deployment of this model or name, the first one if none says so; None: there is none."""
    for resource in org.azure:
        if model in resource.deployments:
            return resource
    for resource in org.azure:
        if model in resource.deployments.values():
            return resource
    return org.azure[0] if org.azure else None


def _around_length(fields: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The fields as lines, but for the value of Content-Length."""
    at = next(index for index, (name, _) in enumerate(fields) if name.lower() == b"content-length")
    return _lines(fields[:at]) + b"\r\n" + fields[at][0] + b": ", _lines(fields[at + 1 :])


def _lines(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"\r\n%b: %b" % field for field in fields])
