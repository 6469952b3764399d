"""The node program: `python -m quorumlog.node format | run | rebuild | settings`. The `quorumlog` command hands over to it.

Each command imports what it needs: formatting three nodes must not wait for three gRPC stacks to load.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn
from uuid import uuid4

import click

from quorumlog.host.ports import KVStore, StorageError

from .storage import EXIT_REFUSED, open_storage


@click.group()
def main() -> None:
    """Run or prepare one quorumlog node."""


@main.command("format")
@click.option("--data-dir", required=True)
@click.option("--cluster-id", required=True)
@click.option("--node-id", required=True, type=click.IntRange(min=0))
@click.option("--voters", default="", help="Ids of the metadata quorum, such as 1,2,3; by default taken over at the first start.")
@click.option("--ignore-formatted", is_flag=True, help="Succeed if the directory is formatted for just this node already.")
def format_command(data_dir: str, cluster_id: str, node_id: int, voters: str, ignore_formatted: bool) -> None:
    """Make a directory a node's storage, once. A wiped disk must not come back under its old identity unnoticed."""
    from quorumlog.raft.errors import StorageRefused

    try:
        with open_storage(data_dir, create=True) as (_, store):
            click.echo(_format(store, data_dir, cluster_id, node_id, voters, ignore_formatted))
    except (StorageError, StorageRefused, ValueError) as error:
        _refuse(str(error))


def _format(store: KVStore, data_dir: str, cluster_id: str, node_id: int, voters: str, ignore_formatted: bool) -> str:
    from quorumlog.raft.errors import StorageRefused
    from quorumlog.raft.identity import format_quorum, read_identity

    held = read_identity(store)
    if held is None:
        ids = [int(part) for part in voters.split(",") if part.strip()]
        format_quorum(store, cluster_id=cluster_id, node_id=node_id, storage_id=str(uuid4()), voters=ids)
        return f"formatted {data_dir} for node {node_id} of cluster {cluster_id!r}"
    if (held.cluster_id, held.node_id) == (cluster_id, node_id) and ignore_formatted:
        return f"{data_dir} is formatted for node {node_id} of cluster {cluster_id!r} already"
    raise StorageRefused(f"{data_dir} is formatted already, for node {held.node_id} of cluster {held.cluster_id!r}")


@main.command("run")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="TOML file with settings.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One setting; wins over file and environment.")
def run_command(config_file: str | None, settings: Sequence[str]) -> None:
    """Run a node until SIGTERM or SIGINT."""
    from quorumlog.host.grpc_tuning import tune_grpc

    tune_grpc()  # before anything imports grpc
    from .config import ConfigError, load_config
    from .process import run_node

    try:
        config = load_config(file=config_file, overrides=_parse_settings(settings))
    except ConfigError as error:
        _refuse(str(error))
    sys.exit(run_node(config))


@main.command("rebuild")
@click.option("--data-dir", required=True)
def rebuild_command(data_dir: str) -> None:
    """Recreate everything that the store keeps about segments from the segment files alone. The node must be stopped.

    But for one thing: which events were seen by topics with quorumlog.dedup.window.ms. Its settings are not known here.
    """
    from quorumlog.host.clock import SystemClock
    from quorumlog.partitions.rebuild import Rebuilt, rebuild

    def show(one: Rebuilt) -> None:
        click.echo(f"{one.directory}: {one.report}")

    try:
        with open_storage(data_dir) as (disk, store):
            done = rebuild(disk, store, wall_ms=SystemClock().wall_ms(), progress=show)
            store.sync()
    except StorageError as error:
        _refuse(str(error))
    click.echo(f"rebuilt what the store keeps of {len(done)} partitions")


@main.command("settings")
def settings_command() -> None:
    """Print all settings as docs/configuration.md has them."""
    from .config_table import render

    click.echo(render(), nl=False)


def _parse_settings(settings: Sequence[str]) -> dict[str, str]:
    from .config import ConfigError

    parsed: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r}; expected NAME=VALUE")
        parsed[name.strip().replace("-", "_").replace(".", "_")] = value
    return parsed


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
