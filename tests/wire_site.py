"""One organisation whose rules lead everywhere, in a running gateway: requests as raw bytes, what a provider got."""

import base64
from dataclasses import dataclass
from typing import Any, Final

from dashboard import edits
from gateway.providers import PROVIDERS
from shared.organisation import Rule, Target
from tests.raw_http import connect, read_all
from tests.registry_site import Site
from tests.rules_site import Asked

MODEL: Final = "gpt-4o-mini-2024-07-18"
"""What every rule has put in; longer than what was asked for."""
QUOTED: Final = 'team "é"'
DEPLOYMENT: Final = "team chat"
"""Of MODEL at Azure; as a path has it, `team%20chat`."""
CREDENTIALS: Final = {provider: f"installations-own-{provider}" for provider in PROVIDERS}
SETTINGS: Final = {f"{provider.upper()}_KEY": key for provider, key in CREDENTIALS.items()}
"""Of the gateway's environment."""
Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Got:
    """What a provider received, and what the client was answered."""

    provider: str
    path: str
    fields: Fields
    body: bytes
    status: int
    record: dict[str, Any]

    def of(self, *names: str) -> dict[str, str]:
        """The fields of these names that came."""
        return {name.lower(): value for name, value in self.fields if name.lower() in names}


class Wired:
    """The feature of a request says which rule applies: `same`, `quoted`, or the provider that it is sent to."""

    def __init__(self, site: Site) -> None:
        self._asked = asked = Asked(site, "wired")
        self.mock = site.mock
        for provider in PROVIDERS:
            asked.operator.edit(asked.name, edits.set_credential(provider, f"env:{provider.upper()}_KEY"), "credential")
        azure = edits.set_azure(f"{self.mock.url}/azure", "2024-10-21", "default", {MODEL: DEPLOYMENT})
        asked.operator.edit(asked.name, azure, "azure")
        rules = [
            Rule(name="same", feature="same", target=Target(model=MODEL)),
            Rule(name="quoted", feature="quoted", target=Target(model=QUOTED)),
            *(Rule(name=one, feature=one, target=Target(provider=one, model=MODEL)) for one in PROVIDERS),
        ]
        asked.operator.edit(asked.name, edits.set_rules(rules), "rules")
        asked.rule(feature="nobody", target=Target(model="x"))

    def close(self) -> None:
        self._asked.operator.close()

    def send(self, feature: str, target: str, body: bytes, *fields: tuple[str, str], chunked: bool = False) -> Got:
        """One POST with these fields; in pieces of seven bytes where it is chunked."""
        self.mock.reset()
        head = [("X-Lectr-Feature", feature), ("Host", "gateway"), ("X-Lectr-Key", self._asked.key), *fields]
        head.append(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body))))
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head), "Connection: close", "", ""]
        with connect(self._asked.gateway.url) as client:
            client.sendall("\r\n".join(lines).encode("latin-1"))
            if chunked:
                pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
                body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            client.sendall(body)
            answer = read_all(client)
        [record] = self.mock.requests()
        received = base64.b64decode(record["body_base64"])
        sent = [(name, value) for name, value in record["headers"]]
        return Got(record["provider"], record["path"], sent, received, int(answer.split()[1]), record)


def framed(fields: Fields) -> Fields:
    """Without what says where a body ends and who is asked: these are the hop's."""
    hops = {"host", "content-length", "transfer-encoding", "connection"}
    return [(name, value) for name, value in fields if name.lower() not in hops]
