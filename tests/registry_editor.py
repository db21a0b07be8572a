"""`python -m tests.registry_editor URL ORG NAME COUNT`: an admin who adds so many rules, one edit after the other.

An edit that fails because Redis does not answer is made again, as a person would. Prints the version of each.
"""

import sys
import threading

from dashboard import edits
from dashboard.registry import RegistryUnavailable
from shared.organisation import Rule, Target
from tests.registry_operator import Operator

AGAIN_S = 0.05


def edit_until_done(operator: Operator, org: str, rule: Rule) -> int:
    """The version that has the rule."""
    pause = threading.Event()
    while True:
        try:
            return operator.edit(org, edits.put_rule(rule), f"put rule {rule.name}").version
        except RegistryUnavailable:
            pause.wait(AGAIN_S)


def main() -> None:
    url, org, name, count = sys.argv[1:]
    operator = Operator(url)
    for number in range(int(count)):
        rule = Rule(name=f"{name}-{number}", feature=f"{name}-{number}", target=Target(model="m"))
        print(edit_until_done(operator, org, rule), flush=True)
    operator.close()


if __name__ == "__main__":
    main()
