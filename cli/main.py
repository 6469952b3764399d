"""The command `quorumlog`: its groups and where their commands live.

A command's module is imported only when the command runs, so that completion and --help answer at once.
"""

import importlib
import os
import sys
from typing import NoReturn

import click

from quorumlog.host.local_layout import LocalClusterError

NODE_MODULE = "quorumlog.node"

# Command -> (module, the attribute in it, what the list of commands says about it).
COMMANDS = {
    "certs": ("quorumlog.cli.certs", "certs", "Make a CA and the certificates by which nodes know each other."),
    "check": ("quorumlog.cli.check", "check", "Judge what clients of a cluster saw: lost, repeated, reordered records."),
    "cluster": ("quorumlog.cli.cluster", "cluster", "Look at a running cluster."),
    "completion": ("quorumlog.cli.completion", "completion", "Print the script that completes commands in your shell."),
    "configs": ("quorumlog.cli.configs", "configs", "Show and change the settings of topics, brokers and groups."),
    "consume": ("quorumlog.cli.consume", "consume", "Print the records of a topic."),
    "demo": ("quorumlog.cli.demo", "demo", "Three nodes, a stream of orders, and a kill -9 in the middle."),
    "groups": ("quorumlog.cli.groups", "groups", "Look at consumer groups, and set where they read on."),
    "local": ("quorumlog.cli.local", "local", "Run a cluster of node processes on this machine."),
    "produce": ("quorumlog.cli.produce", "produce", "Send the lines of the standard input to a topic."),
    "topics": ("quorumlog.cli.topics", "topics", "Create, list, describe, change, delete and move topics."),
    "transactions": ("quorumlog.cli.transactions", "transactions", "Look at transactions, and abort those that hang."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called for, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str(limit=100) for name, command in self.commands.items()}
        rows = sorted((own | {name: text for name, (_, _, text) in COMMANDS.items()}).items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="quorumlog")
def quorumlog() -> None:
    """A replicated, durable event log that any Kafka client can use."""


PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@quorumlog.command("format", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def format_storage(arguments: tuple[str, ...]) -> None:
    """Create a node's storage: --data-dir D --cluster-id C --node-id N."""
    become_node_program("format", *arguments)


@quorumlog.command("node", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_node(arguments: tuple[str, ...]) -> None:
    """Run one node until SIGTERM: --config FILE [--set KEY=VALUE ...]."""
    become_node_program("run", *arguments)


@quorumlog.command("rebuild", context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def rebuild_storage(arguments: tuple[str, ...]) -> None:
    """Rebuild a stopped node's indexes from its segments: --data-dir D."""
    become_node_program("rebuild", *arguments)


def become_node_program(*arguments: str) -> NoReturn:
    """Turn this process into the node program: it keeps the pid, so that signals and supervisors reach the node itself."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", NODE_MODULE, *arguments])


def main() -> None:
    """The console script. Known failures are one line on stderr and status 1; wrong usage is status 2."""
    try:
        quorumlog(prog_name="quorumlog")
    except LocalClusterError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
