"""`quorumlog local`: a cluster of node processes on this machine, in one directory."""

import signal
import time
from pathlib import Path
from typing import Any

import click

from quorumlog.cli.options import assignment
from quorumlog.cli.output import output_option, print_rows
from quorumlog.cli.stopping import StopRequested, StopSignals
from quorumlog.host.local_cluster import START_TIMEOUT_S, LocalProcesses, NodeStatus, describe_exit
from quorumlog.host.local_layout import DEFAULT_BASE_PORT, DEFAULT_NODE_COUNT, NODE_COUNT_MAX

WATCH_S = 0.2
SIGNALS = {name: signal.Signals[f"SIG{name}"] for name in ("KILL", "STOP", "CONT", "TERM")}

directory_option = click.option(
    "--dir", "directory", required=True, type=click.Path(path_type=Path, file_okay=False), help="The cluster's directory."
)
timeout_option = click.option(
    "--timeout", "timeout_s", default=START_TIMEOUT_S, show_default=True, type=float, help="Seconds to wait until ready."
)


@click.group()
def local() -> None:
    """Run a cluster of node processes on this machine."""


@local.command()
@click.option("--nodes", "node_count", type=click.IntRange(1, NODE_COUNT_MAX), help=f"[default: {DEFAULT_NODE_COUNT}]")
@directory_option
@click.option("--base-port", type=click.IntRange(1, 65_535), help=f"Kafka port of node 1. [default: {DEFAULT_BASE_PORT}]")
@click.option("--set", "settings", multiple=True, type=assignment, metavar="KEY=VALUE", help="For every node; repeatable.")
@click.option("--detach", is_flag=True, help="Leave the cluster running and return.")
@timeout_option
def up(
    node_count: int | None,
    directory: Path,
    base_port: int | None,
    settings: tuple[tuple[str, str], ...],
    detach: bool,
    timeout_s: float,
) -> None:
    """Start a cluster, new or with the data of DIR, and run it until Ctrl-C.

    Node i listens on the base port + i - 1 for Kafka, + 100 for its peers, + 200 for HTTP. DIR/cluster.json is there while
    the cluster is up.
    """
    with StopSignals() as signals:
        processes = LocalProcesses(directory, die_with_parent=not detach, on_wait=signals.check)
        began = time.monotonic()
        try:
            processes.up(node_count=node_count, base_port=base_port, settings=dict(settings), timeout_s=timeout_s)
            _announce(processes, time.monotonic() - began)
            while not detach:
                _report_exited(processes)
                signals.check()
                time.sleep(WATCH_S)
        except StopRequested:
            click.echo("stopping", err=True)
            processes.down()


def _announce(processes: LocalProcesses, took_s: float) -> None:
    count = len(processes.nodes)
    click.echo(f"{count} node{'s' * (count > 1)} ready in {took_s:.1f} s, bootstrap servers {processes.bootstrap_servers}")


def _report_exited(processes: LocalProcesses) -> None:
    """A node that was killed on purpose may be started again, so its end is news and no more."""
    for node_id, code in processes.take_exited():
        click.echo(f"node {node_id} {describe_exit(code)}, log in {processes.node(node_id).log_file}", err=True)


@local.command()
@click.argument("node_id", metavar="ID", type=int)
@directory_option
@click.option("--signal", "signal_name", type=click.Choice(list(SIGNALS)), default="KILL", show_default=True)
def kill(node_id: int, directory: Path, signal_name: str) -> None:
    """Send a signal to node ID. KILL and TERM return when it is gone."""
    LocalProcesses(directory, die_with_parent=False).signal(node_id, SIGNALS[signal_name])
    click.echo(f"node {node_id}: {signal_name} sent")


@local.command()
@click.argument("node_id", metavar="ID", type=int)
@directory_option
@timeout_option
def start(node_id: int, directory: Path, timeout_s: float) -> None:
    """Start node ID again, on the data it has, and wait until it is ready."""
    processes = LocalProcesses(directory, die_with_parent=False)
    began = time.monotonic()
    processes.start(node_id, timeout_s=timeout_s)
    click.echo(f"node {node_id} ready in {time.monotonic() - began:.1f} s as process {processes.pid(node_id)}")


@local.command()
@directory_option
def down(directory: Path) -> None:
    """Stop every node of DIR cleanly. Its data stays."""
    processes = LocalProcesses(directory, die_with_parent=False)
    processes.down()
    click.echo(f"{len(processes.nodes)} nodes stopped, data kept in {processes.directory}")


@local.command()
@directory_option
@output_option
def status(directory: Path, output: str) -> None:
    """Show which nodes are ready, running, paused or stopped."""
    rows = [_status_row(entry) for entry in LocalProcesses(directory, die_with_parent=False).status()]
    print_rows(rows, output, columns=("id", "state", "pid", "kafka", "peer", "http", "reason"))


def _status_row(entry: NodeStatus) -> dict[str, Any]:
    node = entry.node
    addresses = {"kafka": node.kafka, "peer": node.peer, "http": node.http}
    files = {"data_dir": str(node.data_dir), "log_file": str(node.log_file)}
    return {"id": node.node_id, "state": entry.state, "pid": entry.pid, "reason": entry.reason, **addresses, **files}
