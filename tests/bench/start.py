"""Time from nothing to three nodes that say they are ready, and from a kill of all three to ready again."""

import json
import tempfile
import time
from pathlib import Path

import click

from quorumlog.testing import LocalCluster


@click.command("start")
@click.option("--rounds", default=3, show_default=True)
def command(rounds: int) -> None:
    """Cold start of an empty cluster to ready, and the restart of the same after kill -9 of all."""
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            started = time.monotonic()
            with LocalCluster(nodes=3, directory=Path(directory)) as cluster:
                cold.append(round(time.monotonic() - started, 2))
                for node in cluster.nodes:
                    cluster.kill(node.node_id)
                started = time.monotonic()
                for node in cluster.nodes:
                    cluster.start(node.node_id, wait=False)
                cluster.wait_ready()
                warm.append(round(time.monotonic() - started, 2))
    click.echo(json.dumps({"cold_s": cold, "after_kill_of_all_s": warm}))
