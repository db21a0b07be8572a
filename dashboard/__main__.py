"""`python -m dashboard`: the command line for organisations, keys and where their requests go."""

import click

from dashboard.commands.audit import audit
from dashboard.commands.completion import COMPLETE_VARIABLE, completion
from dashboard.commands.declared import apply, export, import_, plan
from dashboard.commands.endpoints import azure, base_url, credential
from dashboard.commands.keys import key
from dashboard.commands.limits import budget, limit
from dashboard.commands.orgs import org
from dashboard.commands.prices import price
from dashboard.commands.rules import rule
from dashboard.commands.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Manage a Lectr installation. LECTR_REDIS_URL says where its registry lives."""


for group in (org, key, rule, limit, budget, price, azure, base_url, credential, audit):
    main.add_command(group)
for command in (plan, apply, import_, export, completion, serve):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m dashboard", complete_var=COMPLETE_VARIABLE)
