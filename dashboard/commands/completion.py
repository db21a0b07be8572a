"""`completion`: what makes a shell complete commands, options and names of organisations."""

import click
from click.shell_completion import get_completion_class

_PROGRAM = "lectr"
_VARIABLE = "_LECTR_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes the command `lectr`, which is installed with the package.

    bash and zsh: eval "$(lectr completion bash)" in ~/.bashrc or ~/.zshrc. fish: lectr completion fish > \
~/.config/fish/completions/lectr.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _VARIABLE).source(), nl=False)
