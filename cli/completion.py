"""`quorumlog completion`: the script that a shell sources to complete our commands."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, for example: eval "$(quorumlog completion bash)"."""
    shell_class = get_completion_class(shell)
    assert shell_class is not None, shell
    click.echo(shell_class(context.find_root().command, {}, "quorumlog", "_QUORUMLOG_COMPLETE").source())
