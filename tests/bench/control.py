"""What operators may set costs a request: many rules, many organisations. The last sections of `make bench`.

Adapters: what measures stands in `ruled`, `rules` and `registry`, each of which is a command that measures more.
"""

from statistics import median
from typing import Any

from tests.bench import registry, ruled, rules
from tests.bench.plan import Plan
from tests.bench.progress import say


def measure_rules(plan: Plan) -> dict[str, Any]:
    """The gateway's CPU per request with rules, and a look-up's in this process."""
    say("rules: requests")
    rounds = ruled.measure(plan.ruled_rounds, ruled.REQUESTS)
    say("rules: look-ups")
    pairs = zip(rounds[ruled.ONE], rounds[ruled.MANY], strict=True)
    return {
        "requests": [{"rules": name, "cpu_us": median(figures)} for name, figures in rounds.items()],
        # Rounds take turns: the difference within a pair of them has less of the machine in it.
        "many_over_one_us": median(many - one for one, many in pairs),
        "lookups": [*rules.measure()],
    }


def measure_registry() -> dict[str, Any]:
    """A look-up of a key among few and many organisations."""
    say("registry: look-ups")
    return {"lookups": [*registry.measure_lookups()]}


def show_rules(found: dict[str, Any]) -> None:
    """Print it."""
    print(f"\nrules: gateway CPU us per request, medians of rounds of {ruled.REQUESTS} over one connection")
    for row in found["requests"]:
        print(f"  {row['rules']:42}{row['cpu_us']:8.1f}")
    print(f"  10,000 rules over one, none of which applies: {found['many_over_one_us']:+.1f}, median over rounds\n")
    rules.show(found["lookups"])


def show_registry(found: dict[str, Any]) -> None:
    """Print it."""
    print()
    registry.show_lookups(found["lookups"])
