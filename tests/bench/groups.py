"""Consumer groups, measured: `python -m tests.bench groups failover | rebalance | load | shard | memory | idle`."""

import click

from tests.bench import groups_failover, groups_idle, groups_load, groups_memory, groups_rebalance, groups_shard


@click.group("groups")
def command() -> None:
    """Measure consumer groups and their coordinators."""


for measured in (groups_failover, groups_rebalance, groups_load, groups_shard, groups_memory, groups_idle):
    command.add_command(measured.command)
