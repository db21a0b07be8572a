"""What rules cost a request through a real gateway: `python -m tests.bench.ruled` prints CPU us with up to 10,000.

One gateway, one connection, requests one after the other; rounds for an organisation without rules, with one rule and
with 10,000 of which none applies, or the last one does, take turns. CPU is the gateway's own, which other load on the
machine changes little; the ratio is of medians of the same run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from shared.organisation import MOST_RULES, Key, Org, Rule, Target
from shared.registry import CHANGES_CHANNEL, encode_org, hash_key
from tests.bench.processes import cpu_ns
from tests.canaries import provider_key
from tests.lectr import chat
from tests.mock_process import mock_process
from tests.parts import wait_until
from tests.raw_http import connect
from tests.registry_site import NEVER_S, ask, sites

ROUNDS: Final = 15
REQUESTS: Final = 300


def many() -> list[Rule]:
    """As many as there may be, on features, models and both."""
    rules = []
    for number in range(MOST_RULES - 1):
        feature = f"feature-{number // 2}" if number % 4 else None
        model = f"gpt-4.{number}*" if number % 3 or feature is None else None
        rules.append(
            Rule(name=f"r{number}", priority=number % 7, feature=feature, model=model, target=Target(model="x"))
        )
    return rules


LAST: Final = Rule(name="last", priority=100, target=Target(model="gpt-4o-mini"))


ONE: Final = "one rule, does not apply"
MANY: Final = "10,000 rules, none applies"


def organisations() -> dict[str, tuple[Rule, ...]]:
    """By what the figure is called."""
    return {
        "no rules": (),
        ONE: (Rule(name="r", feature="nobody", target=Target(model="x")),),
        MANY: tuple(many()),
        "one rule, replaces the model": (LAST,),
        "10,000 rules, the last replaces the model": (*many(), LAST),
    }


def request_of(key: str) -> bytes:
    body = json.dumps(chat("gpt-4o")).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"X-Lectr-Key: {key}", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {provider_key('ruled')}", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def measure(rounds: int, requests: int) -> dict[str, list[float]]:
    """The gateway's CPU us per request in each of the rounds, by the organisation's name here."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, mock_process() as mock, sites(Path(folder), mock) as site:
        gateway = site.start(LECTR_REGISTRY_POLL_S=NEVER_S).wait()
        mock.behave(path_contains="/chat/completions", body='{"choices": []}')
        orgs = organisations()
        with site.client() as redis:
            for number, rules in enumerate(orgs.values()):
                keys = (Key(name="default", sha256=hash_key(f"key {number}")),)
                redis.publish(CHANGES_CHANNEL, encode_org(Org(org=f"org-{number}", version=1, keys=keys, rules=rules)))
        wait_until(lambda: ask(gateway, f"key {len(orgs) - 1}") == 200)
        for round_ in range(rounds + 1):
            for number, name in enumerate(orgs):
                request = request_of(f"key {number}")
                with connect(gateway.url) as client:
                    before_ns = cpu_ns(gateway.process.pid)
                    for _ in range(requests):
                        client.sendall(request)
                        answer = client.recv(65_536)
                        while b'"choices": []' not in answer or not answer.endswith((b"}", b"0\r\n\r\n")):
                            answer += client.recv(65_536)
                    spent_us = (cpu_ns(gateway.process.pid) - before_ns) / 1_000 / requests
                # The first round indexes rules, and warms what is to be warm.
                if round_:
                    found.setdefault(name, []).append(spent_us)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=REQUESTS, help="in each of the rounds")
    requests = parser.parse_args().requests
    found = measure(ROUNDS, requests)
    baseline = median(found["no rules"])
    print(f"gateway CPU us per request, medians of {ROUNDS} rounds of {requests}, {time.strftime('%Y-%m-%d')}:")
    for name, figures in found.items():
        print(f"  {name:42} {median(figures):7.1f}   {median(figures) / baseline:.3f} of no rules")


if __name__ == "__main__":
    main()
