"""One organisation with rules in a running gateway: what the providers got, and what its event tells."""

import base64
import json
import re
from typing import Any

from dashboard import edits
from shared.organisation import Rule, Target
from shared.stream import Partition, decode_frame
from tests.parts import Gateway, fetch, wait_until
from tests.registry_operator import Operator
from tests.registry_site import Site

OWN_KEY = "sk-clients-own"
GROQ_KEY = "gsk-of-the-installation"
EVENTS = Partition(0)


class Asked:
    """One organisation with one rule, and its requests."""

    def __init__(self, site: Site, test: str) -> None:
        self.site, self.name = site, re.sub("[^a-z0-9]+", "-", test.lower())[-60:].strip("-")
        self.gateway: Gateway = site.started[0]
        self.operator = Operator(site.redis_url)
        _, self.key = self.operator.create_org(self.name)
        site.mock.reset()

    def rule(self, **fields: Any) -> None:
        """Put it in force: until the gateway knows it, requests of no feature say so."""
        self.operator.edit(self.name, edits.put_rule(Rule(name="the rule", **fields)), "put rule")
        marker = Rule(name="marker", priority=0, feature="marker", target=Target(model="marker-model"))
        self.operator.edit(self.name, edits.put_rule(marker), "put rule")
        wait_until(
            lambda: self.ask(feature="marker")[0] == 200 and self.site.mock.last_body()["model"] == "marker-model"
        )
        self.site.mock.reset()

    def ask(self, model: str = "gpt-4o", feature: str = "search", **more: Any) -> tuple[int, bytes]:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": 'say "model"'}], **more}).encode()
        fields = {"X-Lectr-Key": self.key, "Authorization": f"Bearer {OWN_KEY}", "X-Lectr-Feature": feature}
        return fetch(f"{self.gateway.url}/v1/chat/completions", data=body, headers=fields, method="POST")

    def seen(self) -> list[tuple[str, str, str]]:
        """What the providers got: who, which model, with whose key."""
        found = []
        for record in self.site.mock.requests():
            fields = {name.lower(): value for name, value in record["headers"]}
            model = json.loads(base64.b64decode(record["body_base64"]))["model"]
            found.append((record["provider"], model, fields.get("authorization", fields.get("x-api-key", ""))))
        return found

    def event(self) -> Any:
        """The last event of this organisation, once there is one."""
        found: list[Any] = []

        def shipped() -> bool:
            with self.site.client() as client:
                frames: Any = client.xrange(EVENTS.stream)
            events = [event for _, fields in frames for event in decode_frame(fields[b"f"]).events]
            found[:] = [event for event in events if event.org == self.name and event.feature != "marker"]
            return bool(found)

        wait_until(shipped)
        return found[-1]
