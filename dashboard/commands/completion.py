"""`completion`: what makes a shell complete commands, options and names of organisations."""

import re
import shlex
import sys
from typing import Final

import click
from click.shell_completion import get_completion_class

_PROGRAM: Final = "lectr"
COMPLETE_VARIABLE: Final = "_LECTR_COMPLETE"
"""Set by the shell for a program that is to say what there is to choose."""
_CALLED: Final = re.compile(
    rf"({COMPLETE_VARIABLE}=\w+_complete (?:COMP_\w+=\(commandline -\w+\) )*)(?:\$1|{_PROGRAM})(?=\))"
)
_INSTALLED: Final = re.compile(rf".*\$\+commands\[{_PROGRAM}\].*\n")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes the command `lectr`.

    bash: eval "$(lectr completion bash)" in ~/.bashrc. zsh: eval "$(lectr completion zsh)" in ~/.zshrc. fish: \
lectr completion fish > ~/.config/fish/completions/lectr.fish

    `lectr` is installed with the package. Elsewhere it may be a function that calls python -m dashboard, or in bash and
    fish an alias of it: the script asks the Python that printed it.
    """
    root = context.find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    script = kind(root.command, {}, _PROGRAM, COMPLETE_VARIABLE).source()
    click.echo(script if root.info_name == _PROGRAM else _asking_python(script, sys.executable), nl=False)


def _asking_python(script: str, python: str) -> str:
    """The script for a `lectr` that is no program: a shell's own word for one, which other programs cannot call."""
    # From a folder in which there is no such module nothing is completed, and nothing said.
    command = f"{shlex.quote(python)} -m dashboard 2>/dev/null"
    return _CALLED.sub(lambda found: found[1] + command, _INSTALLED.sub("", script))
